"""Groups whose completions all get one reward, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import AXOLOTL, find, latest, make_window, mean

# Cause -> its mend. Clipped first: a cut answer is wrong because it is cut, so it wins a tie.
CAUSES: dict[str, tuple[str, str]] = {
    "zero_variance/all_clipped": (
        "completions are cut before they answer",
        "Raise policy_gradient.max_tokens, or teach the answer's end by SFT first.",
    ),
    "zero_variance/all_wrong": (
        "every completion is wrong",
        "Use easier prompts (policy_gradient.data), run SFT first, or raise policy_gradient.group; check that the "
        "verifier accepts a right answer.",
    ),
    "zero_variance/all_right": (
        "every completion is right",
        "Use harder prompts (policy_gradient.data), or leave out those that are solved already.",
    ),
    "zero_variance/unscored": (
        "fewer than two completions could be scored",
        "Look at reward/error_rate and at the errors of the completions, and mend the reward function "
        "(policy_gradient.rewards).",
    ),
}


@dataclass(frozen=True)
class ZeroVarianceGroups:
    """Most groups have one reward for all completions: their advantage is 0 and they teach nothing.

    What: mean of frac_reward_zero_std over the last ``steps`` steps; the cause is the largest of
        zero_variance/all_right, /all_wrong, /all_clipped and /unscored (fractions of all groups) over the same steps.
    Threshold: 0.8.
    Source: axolotl docs/training_stability.qmd at 674650dab80b (healthy < 0.8, 1.0 dead); trl#3857.
    Mend: all clipped: more completion tokens; all wrong: easier prompts, SFT first or larger groups; all right: harder
        prompts; unscored: a reward function that does not fail.
    Edge cases: logs without the causes (TRL's) give the finding with the general mend. Groups of one completion (ReMax)
        have no spread to speak of: their runs do not log the metric, and nothing fires.
    Fails when: see card grpo.group. Not a fault at the end of a run that has solved its prompts.
    """

    threshold: float = 0.8
    steps: int = 5

    name: ClassVar[str] = "zero_variance_groups"
    metrics: ClassVar[tuple[str, ...]] = ("frac_reward_zero_std", *CAUSES)
    source: ClassVar[str] = AXOLOTL
    mend: ClassVar[str] = (
        "Look at one group: all right needs harder prompts (policy_gradient.data); all wrong easier ones, SFT or a "
        "larger policy_gradient.group; all cut a larger policy_gradient.max_tokens."
    )
    card: ClassVar[str] = "grpo.group"

    @property
    def trips_on(self) -> Window:
        return make_window(
            frac_reward_zero_std=[0.5, 0.7, 0.8, 0.9, 0.9, 1.0, 0.9],
            zero_variance__all_right=[0.1, 0.0, 0.1, 0.0, 0.1, 0.1, 0.0],
            zero_variance__all_wrong=[0.3, 0.6, 0.6, 0.8, 0.7, 0.8, 0.8],
            zero_variance__all_clipped=[0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
        )

    @property
    def silent_on(self) -> Window:
        return make_window(frac_reward_zero_std=[0.5, 1.0, 0.6, 0.7, 1.0, 0.5, 0.75, 0.9, 0.6, 0.5])

    def scan(self, window: Window) -> Finding | None:
        """Looks at the mean of the newest steps and names the cause."""
        values = latest(window, "frac_reward_zero_std", self.steps)
        if len(values) < self.steps or mean(values) < self.threshold:
            return None
        text = f"{mean(values):.0%} of groups have one reward for all completions"
        shares = {cause: self._share(window, cause) for cause in CAUSES}
        cause = max(shares, key=lambda name: shares[name])
        if shares[cause] <= 0:
            return find(self, window, "frac_reward_zero_std", mean(values), text)
        why, mend = CAUSES[cause]
        return find(self, window, "frac_reward_zero_std", mean(values), f"{text}; mostly {why}", mend)

    def _share(self, window: Window, cause: str) -> float:
        """The mean share of groups with this cause; 0 where it is not logged."""
        values = latest(window, cause, self.steps)
        return mean(values) if values else 0.0
