"""The scale of the loss over the steps of a run: static, or dynamic as torch's GradScaler has it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

INITIAL, GROWTH, BACKOFF, INTERVAL = 65_536.0, 2.0, 0.5, 2_000
"""Of torch.amp.GradScaler (torch 2.13)."""


@dataclass(frozen=True)
class LossScale:
    """What the loss is multiplied by in the next step; ``after`` gives the one of the step that follows.

    Equation: with an overflow s ← backoff · s and the count starts anew; after ``interval`` steps in a row without one
        s ← growth · s. ``clean``: steps in a row without an overflow so far.
    Units: none; gradients are divided by the scale before anything else looks at them.
    Edge cases: a growth that would leave the range of float32 is not taken, as in torch. An interval of 0: the scale
        never changes (``static``). A step that overflowed is not taken by whoever trains; the scale does not know.
    Source: torch.amp.GradScaler, torch 2.13; arXiv 1710.03740, section 3.2.

    Example: 65,536 is halved by an overflow to 32,768; after two clean steps at an interval of 2 it is back.

        >>> [scale.scale for scale in trace([True, False, False], LossScale(interval=2))]
        [65536.0, 32768.0, 32768.0, 65536.0]
    """

    scale: float = INITIAL
    growth: float = GROWTH
    backoff: float = BACKOFF
    interval: int = INTERVAL
    clean: int = 0

    @classmethod
    def static(cls, scale: float) -> LossScale:
        """A scale that stays."""
        return cls(scale, interval=0)

    def after(self, overflow: bool) -> LossScale:
        """The scale of the next step, when this one's gradients were (not) all finite."""
        if not self.interval:
            return self
        if overflow:
            return replace(self, scale=self.scale * self.backoff, clean=0)
        if self.clean + 1 < self.interval:
            return replace(self, clean=self.clean + 1)
        grown = self.scale * self.growth
        return replace(self, scale=grown if grown < 2.0**128 else self.scale, clean=0)


def trace(overflows: Iterable[bool], first: LossScale) -> list[LossScale]:
    """The scale before each step and after the last: one entry more than there are steps."""
    scales = [first]
    for overflow in overflows:
        scales.append(scales[-1].after(overflow))
    return scales
