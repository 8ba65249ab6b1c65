"""Correlation of two paired quantities, with its interval."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from scipy import stats

from trimpot.core.stats import Estimate
from trimpot.statistics.arrays import Floats, check_probability, equal_length, finite_array


def pearson(x: Iterable[float], y: Iterable[float], level: float = 0.95) -> Estimate:
    """The linear correlation r = Σ(x−x̄)(y−ȳ) / √(Σ(x−x̄)²·Σ(y−ȳ)²), interval by Fisher's transformation.

    tanh(artanh r ± z/√(n−3)), z the normal quantile of (1 + level)/2.
    Example: x = 1, 2, 3; y = 1, 3, 2: 1/√(2·2) = 0.5.

    Shapes: x, y [n].
    Raises:
        ValueError: lengths differ, or a value is NaN or infinite.
    Edge cases: None when n < 3 or x or y is constant; no interval when n = 3 or |r| = 1.
    Source: Fisher 1921.
    """
    first, second = finite_array(x, "x"), finite_array(y, "y")
    return _estimate(first, second, "pearson, fisher", 0.0, level)


def spearman(x: Iterable[float], y: Iterable[float], level: float = 0.95) -> Estimate:
    """The rank correlation: Pearson's r of the ranks (ties share their mean rank).

    tanh(artanh r ± z·√((1 + r²/2)/(n−3))).
    Example: x = 1, 2, 9; y = 1, 30, 2: ranks 1, 2, 3 and 1, 3, 2: 0.5.

    Shapes: x, y [n].
    Raises:
        ValueError: lengths differ, or a value is NaN or infinite.
    Edge cases: as for ``pearson``.
    Source: Bonett and Wright 2000 (the interval).
    """
    first, second = finite_array(x, "x"), finite_array(y, "y")
    return _estimate(stats.rankdata(first), stats.rankdata(second), "spearman, bonett-wright", 0.5, level)


def _estimate(x: Floats, y: Floats, method: str, inflation: float, level: float) -> Estimate:
    """r with the interval artanh r ± z·√((1 + inflation·r²)/(n−3))."""
    check_probability(level, "level")
    equal_length(x, y)
    n = x.size
    if n < 3 or _constant(x) or _constant(y):
        return Estimate(None, None, None, n, method, level)
    dx, dy = x - x.mean(), y - y.mean()
    # Scaled first, so that squares of tiny or huge values neither vanish nor overflow.
    dx, dy = dx / np.abs(dx).max(), dy / np.abs(dy).max()
    r = float(np.clip(dx @ dy / math.sqrt(float(dx @ dx) * float(dy @ dy)), -1.0, 1.0))
    if n == 3 or abs(r) > 1 - 1e-12:
        return Estimate(r, None, None, n, method, level)
    half = float(stats.norm.ppf((1 + level) / 2)) * math.sqrt((1 + inflation * r * r) / (n - 3))
    return Estimate(r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half), n, method, level)


def _constant(values: Floats) -> bool:
    """True when the spread is within rounding: a correlation with it would be noise."""
    return bool(np.ptp(values) <= 1e-13 * np.abs(values).max())
