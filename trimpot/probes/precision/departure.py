"""Where a run departs: the band that runs of other data orders span, and the step at which a curve leaves it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

STAY = 3
"""Steps in a row outside the band that make a departure: one alone is chance. Ours."""
LEVEL = 0.95


@dataclass(frozen=True)
class Departure:
    """The step (1-based) from which a curve was outside the band, and on which side: above, below, not finite."""

    step: int
    side: str


def seed_band(curves: Sequence[Sequence[float]], level: float = LEVEL) -> list[tuple[float, float]]:
    """At each step the interval in which one more run of another seed lies with probability ``level``.

    Equation: x̄ ± t_{(1 + level)/2, n − 1} · s · √(1 + 1/n), over the n curves' values at that step.
    Raises: ValueError: fewer than two curves, curves of unequal length, or a value that is not finite.
    Edge cases: intervals hold for one step each, not for all together; that is what STAY is for.
    Source: prediction interval of a normal sample, in any textbook.

    Example: 1.0 and 1.2: mean 1.1, s 0.1414, t = 12.706 at one degree of freedom; half-width
    12.706 · 0.1414 · √1.5 = 2.2007.

        >>> [(round(low, 3), round(high, 3)) for low, high in seed_band([[1.0], [1.2]])]
        [(-1.101, 3.301)]
    """
    if len(curves) < 2 or len({len(curve) for curve in curves}) != 1:
        raise ValueError(f"a band needs two curves of one length at least, not {[len(curve) for curve in curves]}")
    if not all(math.isfinite(value) for curve in curves for value in curve):
        raise ValueError("a curve of the band is not finite")
    n = len(curves)
    factor = float(stats.t.ppf((1 + level) / 2, n - 1)) * math.sqrt(1 + 1 / n)
    band = []
    for values in zip(*curves, strict=True):
        mean = math.fsum(values) / n
        spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
        band.append((mean - factor * spread, mean + factor * spread))
    return band


def departure(curve: Sequence[float], band: Sequence[tuple[float, float]], stay: int = STAY) -> Departure | None:
    """The first step from which the curve is outside the band for ``stay`` steps in a row, or not finite once.

    Edge cases: outside at the last steps alone, fewer than ``stay``: none. The side is that of the first such step.

    Example: with the band 0 to 1 and ``stay`` 2, the curve 2, 0.5, 3, 4 departs at step 3, above.

        >>> departure([2, 0.5, 3, 4], [(0, 1)] * 4, stay=2)
        Departure(step=3, side='above')
    """
    outside = 0
    for step, (value, (low, high)) in enumerate(zip(curve, band, strict=True), start=1):
        if not math.isfinite(value):
            return Departure(step, "not finite")
        outside = outside + 1 if value < low or value > high else 0
        if outside == stay:
            first = step - stay
            return Departure(first + 1, "above" if curve[first] > band[first][1] else "below")
    return None
