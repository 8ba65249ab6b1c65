"""Is a difference small enough not to matter: equivalence and non-inferiority."""

from __future__ import annotations

from dataclasses import dataclass

from trimpot.statistics.clustered import MeanDifference


@dataclass(frozen=True)
class MarginTest:
    """``p_value`` of "the difference reaches the margin"; ``low`` and ``high`` bound what is compared with it."""

    p_value: float | None
    low: float | None
    high: float | None
    margin: float


def equivalence(difference: MeanDifference, margin: float, level: float = 0.95) -> MarginTest:
    """Two one-sided tests (TOST): is the true difference inside (−margin, +margin)?

    p = max(P(d ≤ −margin), P(d ≥ +margin)); p ≤ 1 − ``level`` just when the interval at 2·level − 1 (90% for 95%)
    lies inside the margins. Both tests must reject, so the error at either margin is 1 − level without correction.
    Example: d̄ = 0, SE = 0.01, many items, margin 0.02: 1 − Φ(2) = 0.023: equivalent at 5%.

    Units: those of the scores.
    Raises:
        ValueError: margin is negative or NaN, or level is not in (0.5, 1).
    Edge cases: nothing can be said of the difference: p is None. margin = 0: p is at least 1/2.
    Source: Schuirmann 1987.
    """
    _check(margin, level)
    above, below = difference.p_above(-margin), difference.p_below(margin)
    p = None if above is None or below is None else max(above, below)
    narrow = difference.interval(2 * level - 1)
    return MarginTest(p, narrow.low, narrow.high, margin)


def non_inferiority(difference: MeanDifference, margin: float, level: float = 0.95) -> MarginTest:
    """One-sided: is the true difference (positive: better) above −margin?

    p = P(d ≤ −margin); p ≤ 1 − level just when the lower one-sided bound lies above −margin. ``high`` is the upper
    one-sided bound: below −margin, inferiority is shown.
    Example: d̄ = −0.01, SE = 0.01, many items, margin 0.03: 1 − Φ(2) = 0.023: not inferior at 5%.

    Raises:
        ValueError: margin is negative or NaN, or level is not in (0.5, 1).
    Edge cases: nothing can be said of the difference: p is None. margin = 0 asks for superiority.
    Source: Schuirmann 1987, one of the two tests; the term: ICH E9.
    """
    _check(margin, level)
    bounds = difference.interval(2 * level - 1)
    return MarginTest(difference.p_above(-margin), bounds.low, bounds.high, margin)


def _check(margin: float, level: float) -> None:
    if not margin >= 0:
        raise ValueError(f"margin is {margin}; it must be 0 or more")
    if not 0.5 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0.5 and 1")
