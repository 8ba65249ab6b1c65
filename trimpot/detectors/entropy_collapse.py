"""The policy has stopped exploring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import AXOLOTL, find, first, latest_mean, make_window, mean, reported


@dataclass(frozen=True)
class EntropyCollapse:
    """The policy's entropy is gone: the completions of a group become copies and the reward stops growing.

    What: mean entropy (nats per token) of the last ``steps`` steps, absolute and against the run's first steps.
    Threshold: below 0.01 nats, or below 0.1 of the mean of the first ``steps`` steps.
    Source: 0.01: axolotl docs/training_stability.qmd at 674650dab80b; the law R = −a·exp(H) + b, by which entropy
        is spent for reward: arXiv 2505.22617; the share 0.1 is ours.
    Mend: raise policy_gradient.temperature, lower policy_gradient.learning_rate, raise policy_gradient.clip_high or
        add a KL term (policy_gradient.kl).
    Edge cases: only in runs with a ``reward`` (low entropy is the aim of SFT); the share needs 2·``steps`` steps.
    Fails when: see card sampling.temperature. Not a fault where the answer is one token and the prompts are solved.
    """

    threshold: float = 0.01
    share_of_start: float = 0.1
    steps: int = 5

    name: ClassVar[str] = "entropy_collapse"
    metrics: ClassVar[tuple[str, ...]] = ("entropy", "reward")
    source: ClassVar[str] = f"{AXOLOTL}; arXiv 2505.22617; the share of the start is ours"
    mend: ClassVar[str] = (
        "Raise policy_gradient.temperature, lower policy_gradient.learning_rate, raise policy_gradient.clip_high or "
        "set policy_gradient.kl above 0."
    )
    card: ClassVar[str] = "sampling.temperature"

    @property
    def trips_on(self) -> Window:
        entropy = [0.5, 0.48, 0.5, 0.46, 0.44, 0.3, 0.2, 0.1, 0.02, 0.01, 0.008, 0.006, 0.005, 0.004]
        return make_window(entropy=entropy, reward=[0.4] * len(entropy))

    @property
    def silent_on(self) -> Window:
        entropy = [0.5, 0.48, 0.5, 0.46, 0.44, 0.4, 0.3, 0.008, 0.3, 0.25, 0.2, 0.2, 0.15]
        return make_window(entropy=entropy, reward=[0.4] * len(entropy))

    def scan(self, window: Window) -> Finding | None:
        """Looks at the mean of the newest steps."""
        value = latest_mean(window, "entropy", self.steps)
        if value is None or not reported(window, "reward"):
            return None
        if value < self.threshold:
            return find(self, window, "entropy", value, f"entropy is {value:.2g} nats per token")
        start = first(window, "entropy", 2 * self.steps)
        if len(start) < 2 * self.steps or value >= self.share_of_start * mean(start[: self.steps]):
            return None
        share = value / mean(start[: self.steps])
        text = f"entropy {value:.2g} is {share:.0%} of what it was at the start"
        return find(self, window, "entropy", value, text, threshold=self.share_of_start * mean(start[: self.steps]))
