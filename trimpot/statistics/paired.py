"""Two models on the same items: the paired difference, the flips, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from trimpot.core.stats import Estimate
from trimpot.statistics.arrays import check_probability, equal_length, finite_array
from trimpot.statistics.intervals import t_interval

Verdict = Literal["better", "worse", "equivalent", "underpowered"]


def paired_difference(
    a: Iterable[float],
    b: Iterable[float],
    clusters: Iterable[Hashable] | None = None,
    level: float = 0.95,
) -> Estimate:
    """The mean of d_i = a_i − b_i over items scored by both, with a clustered standard error where given.

    SE = √(C/(C−1) · Σ_c (Σ_{i∈c} (d_i − d̄))²) / n, interval d̄ ± t·SE with C − 1 degrees of freedom.

    n items, C clusters (items of one cluster, e.g. one template, are not independent); without ``clusters``
    every item is its own: SE = √(Σ(d_i − d̄)²/(n(n−1))). ``n`` of the Estimate is C.
    Example: d = 1, 0, −1, 0: d̄ = 0, SE = √(2/(4·3)) = 0.408.

    Shapes: a, b, clusters [n]. Units: those of the scores.
    Raises:
        ValueError: lengths differ, or a value is NaN or infinite.
    Edge cases: empty gives None; one cluster has no interval.
    Source: Miller 2024, arXiv 2411.00640v1; the factor C/(C−1) is the usual
    small-sample correction, which that paper leaves out.
    """
    check_probability(level, "level")
    first, second = finite_array(a, "a"), finite_array(b, "b")
    equal_length(first, second)
    n, method = first.size, "paired t" if clusters is None else "paired t, clustered"
    names = list(range(n)) if clusters is None else list(clusters)
    if len(names) != n:
        raise ValueError(f"{n} items need {n} clusters, not {len(names)}")
    if n == 0:
        return Estimate(None, None, None, 0, method, level)
    difference = first - second
    mean = float(difference.mean())
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    sums = np.bincount([numbers[name] for name in names], weights=difference - mean)
    count = sums.size
    error = math.sqrt(count / (count - 1) * float(sums @ sums)) / n if count > 1 else 0.0
    return t_interval(mean, error, count, method, level)


@dataclass(frozen=True)
class Flips:
    """Items right under a and wrong under b (gained), the reverse (lost), and McNemar's exact p-value."""

    gained: int
    lost: int
    p_value: float | None


def flips(a: Iterable[float], b: Iterable[float]) -> Flips:
    """Counts the items on which two models differ; a is the new model, b the one before.

    p = P(|X − m/2| ≥ |gained − m/2|), X ~ Binomial(m, ½), m = gained + lost: exact, two-sided.
    Example: gained 3, lost 0: p = 2·(½)³ = 0.25.

    Shapes: a, b [n], each 0 or 1 (or bool).
    Raises:
        ValueError: lengths differ, or a value is neither 0 nor 1.
    Edge cases: no items: p None; items but no flips: p 1.
    Source: McNemar 1947, exact form.
    """
    first, second = finite_array(a, "a"), finite_array(b, "b")
    equal_length(first, second)
    if not np.isin(np.concatenate([first, second]), [0.0, 1.0]).all():
        raise ValueError("flips need scores of 0 or 1")
    gained, lost = int((first > second).sum()), int((first < second).sum())
    if first.size == 0:
        return Flips(0, 0, None)
    p_value = float(stats.binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0
    return Flips(gained, lost, p_value)


def verdict(difference: Estimate, margin: float) -> Verdict:
    """What a difference (higher is better) allows one to say; ``margin`` is the smallest that matters.

    1. "equivalent": the 90% interval lies inside (−margin, +margin): two one-sided tests (TOST) at 5%.
       It comes first: a difference that is surely not 0 and surely smaller than the margin does not matter.
    2. "better" or "worse": the interval at the Estimate's own level (95%) lies above or below 0.
    3. "underpowered": everything else; the data cannot tell.

    The 90% interval is the given one rescaled by the ratio of quantiles: Student's t with n − 1 degrees of
    freedom where the method is a t interval, else normal.

    Raises:
        ValueError: margin is negative or NaN.
    Edge cases: no value or no interval: underpowered. A sample without any spread says little when small:
    it is equivalent only if 3/n ≤ margin (rule of three, scores in [0, 1]). margin = 0: never equivalent.
    Source: Schuirmann 1987 (TOST); the order and the rule for no spread are ours.
    """
    if not margin >= 0:
        raise ValueError(f"margin is {margin}; it must be 0 or more")
    value, low, high = difference.value, difference.low, difference.high
    if value is None or low is None or high is None:
        return "underpowered"
    narrow_low, narrow_high = _rescaled(difference, value, low, high, 0.90)
    enough = high - low > 1e-12 or 3 / difference.n <= margin
    if enough and -margin < narrow_low and narrow_high < margin:
        return "equivalent"
    if difference.excludes(0.0):
        return "better" if value > 0 else "worse"
    return "underpowered"


def _rescaled(given: Estimate, value: float, low: float, high: float, level: float) -> tuple[float, float]:
    """The interval of ``given`` at another level."""
    wanted, had = (1 + level) / 2, (1 + given.level) / 2
    if given.method in ("t", "paired t", "paired t, clustered"):
        ratio = stats.t.ppf(wanted, given.n - 1) / stats.t.ppf(had, given.n - 1)
    else:
        ratio = stats.norm.ppf(wanted) / stats.norm.ppf(had)
    return value - (value - low) * float(ratio), value + (high - value) * float(ratio)
