"""Completions that reach the token limit before their end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import AXOLOTL, find, latest_mean, make_window


@dataclass(frozen=True)
class TruncatedCompletions:
    """Many completions are cut at the token limit: they are scored without their answer.

    What: mean of completions/clipped_ratio over the last ``steps`` steps.
    Threshold: 0.3.
    Source: axolotl docs/training_stability.qmd at 674650dab80b (healthy < 0.3, bad > 0.8).
    Mend: raise policy_gradient.max_tokens; if lengths still grow to the limit, the end of turn is
        not learned or length pays.
    Edge cases: fewer than ``steps`` steps: silent.
    Fails when: see card sampling.max_tokens. Blind to answers that end early for want of room.
    """

    threshold: float = 0.3
    steps: int = 5

    name: ClassVar[str] = "truncated_completions"
    metrics: ClassVar[tuple[str, ...]] = ("completions/clipped_ratio",)
    source: ClassVar[str] = AXOLOTL
    mend: ClassVar[str] = (
        "Raise policy_gradient.max_tokens; if lengths still grow to it, teach the end of turn by SFT or look for a "
        "reward that pays length."
    )
    card: ClassVar[str] = "sampling.max_tokens"

    @property
    def trips_on(self) -> Window:
        return make_window(completions__clipped_ratio=[0.1, 0.2, 0.3, 0.4, 0.4, 0.5, 0.5])

    @property
    def silent_on(self) -> Window:
        return make_window(completions__clipped_ratio=[0.9, 0.1, 0.1, 0.2, 0.1, 0.8, 0.2, 0.1, 0.2, 0.1])

    def scan(self, window: Window) -> Finding | None:
        """Looks at the mean of the newest steps."""
        value = latest_mean(window, "completions/clipped_ratio", self.steps)
        if value is None or value <= self.threshold:
            return None
        text = f"{value:.0%} of completions were cut at the token limit"
        return find(self, window, "completions/clipped_ratio", value, text)
