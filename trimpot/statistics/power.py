"""How small a difference a comparison can see, and how many items it needs."""

from __future__ import annotations

import math
from collections.abc import Iterable

from scipy import stats

from trimpot.statistics.arrays import check_probability, finite_array


def _quantiles(level: float, power: float) -> float:
    """z_{α/2} + z_β with α = 1 − level (two-sided) and β = 1 − power."""
    check_probability(level, "level")
    check_probability(power, "power")
    return float(stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(power))


def smallest_detectable_effect(
    values_or_sd: float | Iterable[float],
    n: int | None = None,
    level: float = 0.95,
    power: float = 0.8,
) -> float | None:
    """The true difference that a two-sided test at ``level`` finds with probability ``power``.

    δ = (z_{α/2} + z_β) · s / √n

    s the standard deviation of the paired differences (given, or computed from their values), n the number
    of independent units (items, clusters or seeds), by default the number of values.
    Example: s = 0.5, n = 100: 2.80·0.5/10 = 0.140.

    Units: those of the values.
    Raises:
        ValueError: a value is NaN, s is negative, n is missing with s, or level or power is outside (0, 1).
    Edge cases: n = 0, fewer than two values, or values without any spread, which say nothing of it: None.
    Source: Miller 2024, arXiv 2411.00640v1, with ω² + σ²_A/K_A + σ²_B/K_B = s². A normal
    approximation: for fewer than about 10 units the true smallest effect is larger.
    """
    factor = _quantiles(level, power)
    if isinstance(values_or_sd, int | float):
        sd, count = float(values_or_sd), n
        if count is None:
            raise ValueError("n is needed beside a standard deviation")
    else:
        values = finite_array(values_or_sd, "values")
        if values.size < 2:
            return None
        sd, count = float(values.std(ddof=1)), values.size if n is None else n
        if sd == 0:
            return None
    if not (math.isfinite(sd) and sd >= 0):
        raise ValueError(f"the standard deviation is {sd}; it must be 0 or more")
    return factor * sd / math.sqrt(count) if count > 0 else None


def items_needed(
    effect: float,
    between_variance: float,
    within_variances: tuple[float, float] = (0.0, 0.0),
    samples_per_item: tuple[int, int] = (1, 1),
    level: float = 0.95,
    power: float = 0.8,
) -> int:
    """The number of items with which a paired test at ``level`` finds ``effect`` with probability ``power``.

    n = (z_{α/2} + z_β)² (ω² + σ²_A/K_A + σ²_B/K_B) / δ², rounded up

    δ the effect, ω² the variance over items of the difference of expected scores (``between_variance``),
    σ² the mean variance of one item's score over resamples (``within_variances`` of A and B), K resamples.
    Example: δ = 0.03, ω² = 1/9: 7.849·0.1111/0.0009 = 969.

    Raises:
        ValueError: effect is 0 or NaN, a variance is negative, or a number of samples is below 1.
    Source: Miller 2024, arXiv 2411.00640v1.
    """
    factor = _quantiles(level, power)
    if not (math.isfinite(effect) and effect != 0):
        raise ValueError(f"effect is {effect}; it must be a number other than 0")
    if not all(math.isfinite(value) and value >= 0 for value in (between_variance, *within_variances)):
        raise ValueError("a variance must be 0 or more")
    if min(samples_per_item) < 1:
        raise ValueError("samples per item must be 1 or more")
    noise = sum(variance / count for variance, count in zip(within_variances, samples_per_item, strict=True))
    return math.ceil(factor**2 * (between_variance + noise) / effect**2)
