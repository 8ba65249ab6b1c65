"""The estimated KL to the reference is below 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import find, latest, make_window, mean, reported, standard_error


@dataclass(frozen=True)
class KLNegative:
    """A divergence cannot be negative: the completions are not drawn from the policy that is scored.

    What: mean of kl (nats per token) over the last ``steps`` steps.
    Threshold: below -0.01 and below 0 by more than ``errors`` standard errors.
    Source: trl#235 ("negative KL-divergence … almost always a precursor for failed training"); the numbers are ours.
    Mend: sample from the whole distribution that is trained (no top-k, top-p or minimal length), at the same
        policy_gradient.temperature, and end-of-turn tokens in the mask.
    Edge cases: the estimator k1 = log π/π_ref is negative in single steps by chance, k2 and k3 never: with those the
        detector has nothing to see. Only in runs with a ``reward``.
    Fails when: see card grpo.kl. Blind to k3, TRL's default. After several updates on one draw, samples are
        no longer the policy's, and a small negative k1 is no fault.
    """

    threshold: float = -0.01
    errors: float = 3.0
    steps: int = 10

    name: ClassVar[str] = "kl_negative"
    metrics: ClassVar[tuple[str, ...]] = ("kl", "reward")
    source: ClassVar[str] = "github.com/huggingface/trl/issues/235; the numbers are ours"
    mend: ClassVar[str] = (
        "Sample from the whole distribution that is trained (no top-k, top-p or minimal length), at the same "
        "policy_gradient.temperature."
    )
    card: ClassVar[str] = "grpo.kl"

    @property
    def trips_on(self) -> Window:
        kl = [0.0, 0.0, *[-0.05 - 0.01 * (step % 3) for step in range(12)]]
        return make_window(kl=kl, reward=[0.4] * len(kl))

    @property
    def silent_on(self) -> Window:
        kl = [0.0, -0.03, 0.02, -0.02, 0.04, -0.01, 0.03, -0.04, 0.05, 0.02, -0.02, 0.05, 0.03, 0.06]
        return make_window(kl=kl, reward=[0.4] * len(kl))

    def scan(self, window: Window) -> Finding | None:
        """Looks at the mean of the newest steps."""
        values = latest(window, "kl", self.steps)
        if len(values) < self.steps or not reported(window, "reward"):
            return None
        value = mean(values)
        if value >= self.threshold or -value <= self.errors * standard_error(values):
            return None
        return find(self, window, "kl", value, f"the estimated KL is {value:.3g} nats per token, below 0")
