"""The policy has left its reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import AXOLOTL, find, latest_mean, make_window, reported


@dataclass(frozen=True)
class KLBlowUp:
    """The KL to the reference is so large that the policy has left what the reference knows.

    What: mean of kl (nats per token) over the last ``steps`` steps.
    Threshold: above 2.
    Source: axolotl docs/training_stability.qmd at 674650dab80b (healthy 0–0.5, bad > 2); the window is ours.
    Mend: raise policy_gradient.kl, lower policy_gradient.learning_rate or take fewer updates per draw.
    Edge cases: only in runs with a ``reward``: the kl of KTO is of another kind.
    Fails when: see card grpo.kl. Blind where no reference is computed (policy_gradient.kl: 0).
    """

    threshold: float = 2.0
    steps: int = 5

    name: ClassVar[str] = "kl_blow_up"
    metrics: ClassVar[tuple[str, ...]] = ("kl", "reward")
    source: ClassVar[str] = f"{AXOLOTL}; the window is ours"
    mend: ClassVar[str] = (
        "Raise policy_gradient.kl, lower policy_gradient.learning_rate or take fewer updates on each draw."
    )
    card: ClassVar[str] = "grpo.kl"

    @property
    def trips_on(self) -> Window:
        kl = [0.0, 0.1, 0.4, 1.2, 2.0, 2.6, 3.1, 3.3, 4.0]
        return make_window(kl=kl, reward=[0.4] * len(kl))

    @property
    def silent_on(self) -> Window:
        kl = [0.0, 0.05, 0.1, 5.0, 0.2, 0.3, 0.35, 0.4, 0.45]
        return make_window(kl=kl, reward=[0.4] * len(kl))

    def scan(self, window: Window) -> Finding | None:
        """Looks at the mean of the newest steps."""
        value = latest_mean(window, "kl", self.steps)
        if value is None or value <= self.threshold or not reported(window, "reward"):
            return None
        text = f"the KL to the reference is {value:.2f} nats per token"
        return find(self, window, "kl", value, text)
