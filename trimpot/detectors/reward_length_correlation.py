"""The reward follows the length of the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import find, latest_mean, make_window


@dataclass(frozen=True)
class RewardLengthCorrelation:
    """The reward is mostly a function of the answer's length.

    What: |mean over the last ``steps`` steps of reward_length_correlation|, each the correlation of reward and
        number of answer tokens within the step.
    Threshold: 0.5 in absolute value: length then explains a quarter of the reward's variance.
    Source: the failure: arXiv 2310.03716 (70–90% of PPO's reward gain was length); the cut is ours.
    Mend: balance or match the lengths of the pairs, or subtract the fitted length from the reward.
    Edge cases: a step whose rewards or lengths are constant reports None and is left out.
    Fails when: see card reward.data. Blind to length that matters within one kind of prompt only. Fires rightly
        but needlessly where longer answers are better by the verifier itself.
    """

    threshold: float = 0.5
    steps: int = 10

    name: ClassVar[str] = "reward_length_correlation"
    metrics: ClassVar[tuple[str, ...]] = ("reward_length_correlation",)
    source: ClassVar[str] = "arXiv 2310.03716; the cut is ours"
    mend: ClassVar[str] = (
        "Match the lengths of chosen and rejected answers, or subtract the fitted length from the reward; then check "
        "accuracy at equal length."
    )
    card: ClassVar[str] = "reward.data"

    @property
    def trips_on(self) -> Window:
        return make_window(reward_length_correlation=[0.2, 0.5, 0.6, 0.7, 0.6, 0.8, 0.7, 0.6, 0.7, 0.8, 0.7, 0.7])

    @property
    def silent_on(self) -> Window:
        values = [0.3, -0.7, 0.6, -0.2, 0.9, -0.4, 0.1, 0.5, None, -0.6, 0.2, 0.7]
        return make_window(reward_length_correlation=values)

    def scan(self, window: Window) -> Finding | None:
        """Looks at the mean of the newest steps."""
        value = latest_mean(window, "reward_length_correlation", self.steps)
        if value is None or abs(value) <= self.threshold:
            return None
        longer = "longer" if value > 0 else "shorter"
        text = f"{longer} answers get the reward: correlation {value:.2f} over the last {self.steps} steps"
        return find(self, window, "reward_length_correlation", value, text)
