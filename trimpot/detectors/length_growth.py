"""Completions grow until the token limit cuts them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import AXOLOTL, find, is_finite, make_window, third_changes, together


@dataclass(frozen=True)
class LengthGrowth:
    """The mean length of completions grows step by step towards the token limit.

    What: completions/mean_length, as mean of the last and of the first third of its newest 3·``steps``, 6·``steps``,
        … values, and the share cut (completions/clipped_ratio) likewise; the limit is the longest completion
        (completions/max_length) in steps that cut one.
    Threshold: in one such window the length grows to more than 1.2 times what it was and has reached ``reach`` of the
        limit, and both it and the share cut grow by more than ``errors`` standard errors.
    Source: axolotl docs/training_stability.qmd at 674650dab80b ("monotonically increasing to max length suggests
        reward hacking"); the numbers are ours.
    Mend: look for a reward that pays length (policy_gradient.rewards) or a loss that favours it
        (policy_gradient.normalisation); if length is wanted, raise policy_gradient.max_tokens.
    Edge cases: no completion is cut: the limit is unknown and the detector silent.
    Fails when: see card sampling.max_tokens. Fires rightly but needlessly where longer reasoning is the aim; blind to a
        length that has been at the limit from the start (truncated_completions).
    """

    threshold: float = 1.2
    errors: float = 3.0
    reach: float = 0.5
    steps: int = 5

    name: ClassVar[str] = "length_growth"
    metrics: ClassVar[tuple[str, ...]] = (
        "completions/mean_length",
        "completions/max_length",
        "completions/clipped_ratio",
    )
    source: ClassVar[str] = f"{AXOLOTL}; the numbers are ours"
    mend: ClassVar[str] = (
        "Look for a reward that pays length (policy_gradient.rewards) or a loss that favours it "
        "(policy_gradient.normalisation); if length is wanted, raise policy_gradient.max_tokens."
    )
    card: ClassVar[str] = "sampling.max_tokens"

    @property
    def trips_on(self) -> Window:
        return make_window(
            completions__mean_length=[10.0 + 2 * step for step in range(16)],
            completions__max_length=[24.0 + step for step in range(9)] + [64.0] * 7,
            completions__clipped_ratio=[0.0] * 9 + [0.1, 0.1, 0.15, 0.15, 0.15, 0.2, 0.2],
        )

    @property
    def silent_on(self) -> Window:
        return make_window(
            completions__mean_length=[10.0 + (step * 7 % 5) for step in range(16)],
            completions__max_length=[24.0 + step for step in range(9)] + [64.0] * 7,
            completions__clipped_ratio=[0.0] * 9 + [0.05, 0.0, 0.05, 0.0, 0.05, 0.0, 0.05],
        )

    def scan(self, window: Window) -> Finding | None:
        """Looks at windows that end at the newest step."""
        limit = self._limit(window)
        if limit is None:
            return None
        columns = together(window, "completions/mean_length", "completions/clipped_ratio")
        for length, cut in third_changes(columns, self.steps):
            far = length.late > self.threshold * length.early and length.late >= self.reach * limit
            if far and min(length.in_errors, cut.in_errors) > self.errors:
                text = (
                    f"mean length grew from {length.early:.3g} to {length.late:.3g} tokens, of at most {limit:.0f}, "
                    f"and the share cut from {cut.early:.0%} to {cut.late:.0%}"
                )
                return find(self, window, "completions/mean_length", length.late / length.early, text)
        return None

    def _limit(self, window: Window) -> float | None:
        """The longest completion in a step that cut one; None while none was cut."""
        lengths, cut = window.get("completions/max_length", ()), window.get("completions/clipped_ratio", ())
        seen = [
            length
            for length, share in zip(lengths, cut, strict=False)
            if is_finite(length) and is_finite(share) and share > 0
        ]
        return max(seen, default=None)
