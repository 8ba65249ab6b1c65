"""Clipping takes the gradient of many tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import AXOLOTL, find, latest_mean, make_window


@dataclass(frozen=True)
class ClipFraction:
    """The policy moves so far on one draw that clipping takes the gradient of many of its tokens.

    What: mean of clip_ratio/region_mean (share of tokens whose ratio is clipped) over the last ``steps`` steps.
    Threshold: above 0.3.
    Source: axolotl docs/training_stability.qmd at 674650dab80b (healthy < 0.1, bad > 0.3); the window is ours.
    Mend: take fewer updates on each draw (policy_gradient.epochs), lower policy_gradient.learning_rate, or raise
        policy_gradient.clip_high (PPO has one policy_gradient.clip for both sides).
    Edge cases: with one update on each draw the ratio is 1 and nothing is clipped; clipping there means that sampler
        and trainer disagree (sampler_mismatch).
    Fails when: see card policy_gradient.epochs. A ratio of whole sequences (GSPO) clips more by design, and the cut is
        not meant for it. Blind to CISPO, which logs cispo_clip_ratio.
    """

    threshold: float = 0.3
    steps: int = 5

    name: ClassVar[str] = "clip_fraction"
    metrics: ClassVar[tuple[str, ...]] = ("clip_ratio/region_mean",)
    source: ClassVar[str] = f"{AXOLOTL}; the window is ours"
    mend: ClassVar[str] = (
        "Take fewer updates on each draw (policy_gradient.epochs), lower policy_gradient.learning_rate, or raise "
        "policy_gradient.clip_high (under PPO policy_gradient.clip)."
    )
    card: ClassVar[str] = "policy_gradient.epochs"

    @property
    def trips_on(self) -> Window:
        return make_window(clip_ratio__region_mean=[0.1, 0.2, 0.3, 0.4, 0.4, 0.5, 0.5])

    @property
    def silent_on(self) -> Window:
        return make_window(clip_ratio__region_mean=[0.0, 0.1, 0.6, 0.1, 0.2, 0.1, 0.0, 0.2])

    def scan(self, window: Window) -> Finding | None:
        """Looks at the mean of the newest steps."""
        value = latest_mean(window, "clip_ratio/region_mean", self.steps)
        if value is None or value <= self.threshold:
            return None
        return find(self, window, "clip_ratio/region_mean", value, f"{value:.0%} of the tokens are clipped")
