"""Confidence intervals of one quantity: a proportion, a mean, any statistic."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
from scipy import stats

from trimpot.core.stats import Estimate
from trimpot.statistics.arrays import Floats, check_probability, finite_array


def wilson(successes: float, n: int, level: float = 0.95) -> Estimate:
    """The score interval of a proportion p = k/n; it holds its level at small n and near 0 and 1.

    centre ± half = (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n)

    k successes, n independent trials, z the normal quantile of (1 + level)/2.
    Example: 8 of 10, z = 1.96: (0.8 + 0.192 ± 1.96·√(0.016 + 0.0096))/1.384 = 0.717 ± 0.227 = [0.490, 0.943].

    Raises:
        ValueError: k is not in [0, n], or NaN.
    Edge cases: n = 0 gives value None.
    Source: Wilson 1927; Brown, Cai and DasGupta 2001.
    """
    check_probability(level, "level")
    if not 0 <= successes <= n:
        raise ValueError(f"successes is {successes}; it must lie between 0 and n = {n}")
    if n == 0:
        return Estimate(None, None, None, 0, "wilson", level)
    p, z = successes / n, float(stats.norm.ppf((1 + level) / 2))
    shrink = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / shrink
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / shrink
    # Exactly 0 and 1 at the ends, where rounding would leave -1e-17.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Estimate(p, low, high, n, "wilson", level)


def t_interval(value: float, standard_error: float, n: int, method: str, level: float) -> Estimate:
    """value ± t·SE with n − 1 degrees of freedom, n the independent units (items, clusters or seeds).

    Edge cases: n = 1 gives the value without an interval.
    """
    if n < 2:
        return Estimate(value, None, None, n, method, level)
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * standard_error
    return Estimate(value, value - half, value + half, n, method, level)


def mean_interval(values: Iterable[float], level: float = 0.95) -> Estimate:
    """The mean x̄ ± t·s/√n with n − 1 degrees of freedom, s² = Σ(x − x̄)²/(n − 1).

    Example: 1, 2, 3: mean 2, s = 1, t = 4.303: 2 ± 4.303·1/√3 = [-0.484, 4.484].

    Raises:
        ValueError: a value is NaN or infinite.
    Edge cases: empty gives None; one value has no interval.
    Source: Student 1908.
    """
    check_probability(level, "level")
    array = finite_array(values, "values")
    if array.size == 0:
        return Estimate(None, None, None, 0, "t", level)
    spread = float(array.std(ddof=1)) if array.size > 1 else 0.0
    return t_interval(float(array.mean()), spread / math.sqrt(array.size), array.size, "t", level)


def bootstrap_interval(
    values: Iterable[float],
    statistic: Callable[[Floats], float],
    seed: int,
    draws: int = 2000,
    level: float = 0.95,
) -> Estimate:
    """The percentile interval of ``statistic`` over ``draws`` resamples of the values with replacement.

    The interval is read off the resamples as they are: it is not divided by √draws (a bug of lighteval).

    Raises:
        ValueError: a value is NaN or infinite, draws < 1, or the statistic of a resample is NaN.
    Edge cases: empty gives None; one value has no interval.
    Source: Efron 1979.
    """
    check_probability(level, "level")
    if draws < 1:
        raise ValueError(f"draws is {draws}; at least 1 is needed")
    array = finite_array(values, "values")
    if array.size == 0:
        return Estimate(None, None, None, 0, "bootstrap", level)
    value = float(statistic(array))
    if array.size == 1:
        return Estimate(value, None, None, 1, "bootstrap", level)
    generator = np.random.default_rng(seed)
    resampled = (statistic(array[generator.integers(array.size, size=array.size)]) for _ in range(draws))
    low, high = np.quantile(finite_array(resampled, "statistic"), [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high), array.size, "bootstrap", level)
