"""The reward model's mean reward wanders off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import find, first, latest_mean, make_window, mean


@dataclass(frozen=True)
class RewardDrift:
    """All rewards move up or down together: differences stay right, and any use of the value itself goes wrong.

    What: |mean of mean_reward over the last ``steps`` steps − mean over the first ``steps``|, beside the mean margin of
        the last.
    Threshold: above 3 and above the margin: rewards moved further than what tells chosen from rejected.
    Source: Bradley–Terry does not fix the level; centring with 1e-2: arXiv 2312.09244, TRL; the cut is ours.
    Mend: set reward.center_coefficient to 0.01, or subtract the mean reward before use.
    Edge cases: fewer than 2·``steps`` steps: silent. A level that is off from the start is no drift.
    Fails when: see card reward.center. Harmless where only differences within a group are used (GRPO, best-of-n).
    """

    threshold: float = 3.0
    steps: int = 10

    name: ClassVar[str] = "reward_drift"
    metrics: ClassVar[tuple[str, ...]] = ("mean_reward", "margin")
    source: ClassVar[str] = "arXiv 2312.09244, TRL 1.16 center_rewards_coefficient; the cut is ours"
    mend: ClassVar[str] = "Set reward.center_coefficient to 0.01, or subtract the mean reward before use."
    card: ClassVar[str] = "reward.center"

    @property
    def trips_on(self) -> Window:
        return make_window(
            mean_reward=[0.3 * step for step in range(24)], margin=[min(0.2 * step, 2.0) for step in range(24)]
        )

    @property
    def silent_on(self) -> Window:
        return make_window(
            mean_reward=[2.0 + 0.3 * (step * 7 % 5) for step in range(24)], margin=[0.2 * step for step in range(24)]
        )

    def scan(self, window: Window) -> Finding | None:
        """Compares the newest steps with the run's first."""
        late, margin = latest_mean(window, "mean_reward", self.steps), latest_mean(window, "margin", self.steps)
        start = first(window, "mean_reward", 2 * self.steps)
        if late is None or margin is None or len(start) < 2 * self.steps:
            return None
        drift = late - mean(start[: self.steps])
        if abs(drift) <= self.threshold or abs(drift) <= margin:
            return None
        text = f"the mean reward moved by {drift:+.2f} since the start; the margin is {margin:.2f}"
        return find(self, window, "mean_reward", abs(drift), text)
