"""A mean difference whose items come in clusters of unequal size: its interval and p-values, at few clusters too."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from trimpot.core.stats import Estimate
from trimpot.statistics.arrays import Floats, check_probability, equal_length, finite_array

FEW_CLUSTERS = 5
"""Below so many clusters (or effective ones) an interval rests on the normality of cluster sums alone."""


@dataclass(frozen=True)
class MeanDifference:
    """A mean difference and what its error consists of.

    The interval at ``level`` is centre ± √(Σ_k t_k²·V_k), t_k the quantile (1 + level)/2 of Student's t with df_k
    degrees of freedom; with one component that is centre ± t·SE.

    Args:
        value: d̄, in the units of the scores; None without items.
        centre: the middle of the interval; ``value`` unless two flips were added (see ``clustered_difference``).
        components: (V_k, df_k) of independent sources of error: items, training seeds. Empty: nothing can be said.
        items: n. clusters: C, the independent units among them.
        method: how the error was estimated.
        rare: (k, m) where differences are −m, 0 or m: were the true difference δ, the share of items that change would
            be |δ|/m at least, so that the first variance is at least k·(m·|δ| − δ²), k = design effect/n. It reaches
            further out where the changes seen are few: 4 losses may well have been 8.
    Source: the sum of squared half widths: Howe 1974, JASA 69:112; the variance under the null as in score intervals of
    paired proportions (Tango 1998), of which ``rare`` is the limit for changes in one direction.
    """

    value: float | None
    centre: float | None
    components: tuple[tuple[float, float], ...]
    items: int
    clusters: int
    method: str
    rare: tuple[float, float] | None = None

    @property
    def standard_error(self) -> float | None:
        """√(Σ V_k); None where nothing can be said."""
        return math.sqrt(sum(variance for variance, _ in self.components)) if self.components else None

    @property
    def degrees(self) -> float | None:
        """Welch and Satterthwaite's degrees of freedom, (Σ V_k)² / Σ (V_k²/df_k), of the whole error."""
        total = sum(variance for variance, _ in self.components)
        if not self.components:
            return None
        if total == 0:
            return self.components[0][1]
        return total**2 / sum(variance**2 / degrees for variance, degrees in self.components)

    def half(self, level: float) -> float | None:
        """Half the width of the two-sided interval at ``level``, but for ``rare``; None where nothing can be said."""
        squares = self._squares(level)
        return None if squares is None else math.sqrt(sum(squares))

    def interval(self, level: float = 0.95) -> Estimate:
        """The value with its interval. Its ``n`` is the number of clusters."""
        squares = self._squares(level)
        if squares is None or self.centre is None:
            return Estimate(self.value, None, None, self.clusters, self.method, level)
        half = math.sqrt(sum(squares))
        low, high = self.centre - half, self.centre + half
        if self.rare is not None and self.components[0][0] > 0:
            k, size = self.rare
            reach = k * squares[0] / self.components[0][0]
            others = sum(squares[1:])
            low = min(low, -_farthest(self.centre, reach, size, others))
            high = max(high, _farthest(-self.centre, reach, size, others))
        return Estimate(self.value, low, high, self.clusters, self.method, level)

    def p_value(self, null: float = 0.0) -> float | None:
        """Two-sided: 1 − the highest level at which the interval leaves out ``null``. None where nothing can be said.

        Edge cases: ``null`` is the centre: 1. No spread at all and another centre: None, as 0 would claim too much.
        """
        if not self.components or self.centre is None:
            return None
        distance = abs(self.centre - null)
        if distance == 0:
            return 1.0
        parts = [(self._variance_at(null), self.components[0][1]), *self.components[1:]]
        if sum(variance for variance, _ in parts) == 0:
            return None
        if len(parts) == 1:
            variance, degrees = parts[0]
            return float(2 * stats.t.sf(distance / math.sqrt(variance), degrees))

        def beyond(log_p: float) -> float:
            tails = ((variance, stats.t.isf(math.exp(log_p) / 2, degrees)) for variance, degrees in parts)
            return math.log(sum(variance * float(t) ** 2 for variance, t in tails)) - 2 * math.log(distance)

        low, high = math.log(1e-15), math.log(1 - 1e-6)
        if beyond(low) <= 0:
            return 1e-15
        return 1.0 if beyond(high) >= 0 else float(math.exp(optimize.brentq(beyond, low, high, xtol=1e-10)))

    def _squares(self, level: float) -> list[float] | None:
        """t_k²·V_k of every component."""
        check_probability(level, "level")
        tail = (1 - level) / 2
        found = [variance * float(stats.t.isf(tail, degrees)) ** 2 for variance, degrees in self.components]
        return found or None

    def _variance_at(self, null: float) -> float:
        """The first component's variance, were ``null`` the true difference."""
        seen = self.components[0][0]
        if self.rare is None:
            return seen
        k, size = self.rare
        return max(seen, k * (size * abs(null) - null**2))

    def p_above(self, bound: float) -> float | None:
        """One-sided p-value of "the true difference is ``bound`` or less"; small: it is above ``bound``."""
        p = self.p_value(bound)
        if p is None or self.centre is None:
            return None
        return p / 2 if self.centre > bound else 1 - p / 2

    def p_below(self, bound: float) -> float | None:
        """One-sided p-value of "the true difference is ``bound`` or more"; small: it is below ``bound``."""
        above = self.p_above(bound)
        return None if above is None else 1 - above


def _farthest(centre: float, reach: float, size: float, others: float) -> float:
    """The largest x with (centre + x)² = reach·(size·x − x²) + others; −∞ where there is none."""
    a, b = 1 + reach, 2 * centre - reach * size
    inside = b * b - 4 * a * (centre * centre - others)
    return (math.sqrt(inside) - b) / (2 * a) if inside >= 0 else -math.inf


def cluster_numbers(clusters: Iterable[Hashable]) -> NDArray[np.int64]:
    """0, 1, 2 … for each cluster in the order of its first item. Shapes: result [n]."""
    numbers: dict[Hashable, int] = {}
    return np.asarray([numbers.setdefault(name, len(numbers)) for name in clusters], dtype=np.int64)


def cluster_variance(sums: NDArray[Any], sizes: NDArray[Any]) -> Floats:
    """CR2: the variance of the mean from sums of clusters, unbiased where items of a cluster are independent.

    V = Σ_c E_c² / (1 − w_c) / n²,  E_c = S_c − n_c·d̄,  w_c = n_c/n

    S_c the sum of cluster c, n_c its size, n = Σ n_c, d̄ = Σ S_c/n. With equal sizes this is the usual
    C/(C−1)·ΣE_c²/n².
    Example: sums 2, 0 of sizes 2, 2: d̄ = 0.5, E = 1, −1: (1/0.5 + 1/0.5)/16 = 0.25.

    Shapes: sums [..., C], sizes [C]; result [...].
    Source: Bell and McCaffrey 2002; Pustejovsky and Tipton 2018, for a regression on a constant, where the matrix
    root (I − H_cc)^(−1/2) reduces to 1/√(1 − w_c).
    """
    n = sizes.sum()
    centred = sums - sizes * (sums.sum(axis=-1, keepdims=True) / n)
    return (centred**2 / (1 - sizes / n)).sum(axis=-1) / n**2


def cluster_degrees(sizes: Floats) -> float:
    """Satterthwaite's degrees of freedom of ``cluster_variance``: the effective number of clusters, less one.

    df = 1 / (Σ w_c² + (Σ u_c)² − Σ u_c²),  u_c = w_c²/(1 − w_c)

    w_c = n_c/n the share of items in cluster c. Equal sizes give C − 1; one cluster with half of all items and many
    small ones about 3.
    Example: three clusters of 2: w = 1/3, u = 1/6: 1/(1/3 + 1/4 − 1/12) = 2.

    Shapes: sizes [C], C ≥ 2.
    Source: Bell and McCaffrey 2002, with independent items as the working model.
    """
    weights = sizes / sizes.sum()
    u = weights**2 / (1 - weights)
    return float(1 / ((weights**2).sum() + u.sum() ** 2 - (u**2).sum()))


def flip_size(a: Iterable[float], b: Iterable[float]) -> float | None:
    """By how much the two flips move a score that ``clustered_difference`` adds; None where none are needed.

    They are needed where most items do not change: then the few that do say too little about the spread (with none at
    all the interval would have no width). Scores of 0 and 1 only: 1. Else, where at least half of the differences are
    exactly 0: the root mean square of the others; if there are none, 1 for scores in [0, 1], else the standard
    deviation of the scores.
    Example: a = 0, 0.5, 1, 1; b = 0, 1, 1, 1: three of four are 0, the other 0.5: 0.5.

    Shapes: a, b [n].
    Source: ours; for scores of 0 and 1 the flips are those of Bonett and Price 2012.
    """
    first, second = finite_array(a, "a"), finite_array(b, "b")
    equal_length(first, second)
    if first.size == 0:
        return None
    both = np.concatenate([first, second])
    if np.isin(both, (0.0, 1.0)).all():
        return 1.0
    changed = (second - first)[second != first]
    if 2 * changed.size > first.size:
        return None
    if changed.size:
        return float(np.sqrt(np.mean(changed**2)))
    return 1.0 if both.min() >= 0 and both.max() <= 1 else float(both.std()) or None


def clustered_difference(
    differences: Iterable[float],
    clusters: Sequence[Hashable] | NDArray[np.int64] | None = None,
    flip: float | None = None,
) -> MeanDifference:
    """The mean of d_i over items that come in clusters, with an error that holds its level at few, unequal clusters.

    V by ``cluster_variance`` and df by ``cluster_degrees``. With ``flip`` = m two items of d = +m and d = −m, a
    cluster each, are added before V is computed, and the interval's centre is Σd/(n + 2): Bonett and Price's interval
    for paired proportions, extended to clusters; ``rare`` is set. ``value`` stays d̄ = Σd/n, df that of real clusters.
    Example: d = 1, 0, −1, 0 with flip 1: centre 0; V = (1 + 1 + 1 + 1)/(1 − 1/6)/36 = 0.1333; SE 0.365, df 3.

    Shapes: differences, clusters [n]; ``clusters`` None: every item is its own.
    Raises:
        ValueError: a value is NaN or infinite, lengths differ, or flip is not above 0.
    Edge cases: empty gives None; fewer than two clusters: a value without components.
    Source: Bell and McCaffrey 2002; Bonett and Price 2012 (the two flips). What plain t with C − 1 degrees of freedom
    does instead is measured in docs/compare.md.
    """
    d = finite_array(differences, "differences")
    numbers = np.arange(d.size) if clusters is None else numbered(clusters)
    if numbers.size != d.size:
        raise ValueError(f"{d.size} items need {d.size} clusters, not {numbers.size}")
    if flip is not None and not flip > 0:
        raise ValueError(f"flip is {flip}; it must be above 0")
    method = "t, CR2 by cluster" if clusters is not None else "paired t"
    if flip is not None:
        method += ", two flips added"
    if d.size == 0:
        return MeanDifference(None, None, (), 0, 0, method)
    sizes = np.bincount(numbers).astype(np.float64)
    sums = np.bincount(numbers, weights=d)
    value = float(d.mean())
    if sizes.size < 2:
        return MeanDifference(value, value, (), d.size, 1, method)
    degrees, rare = cluster_degrees(sizes), None
    if flip is not None:
        sums, sizes = np.append(sums, [flip, -flip]), np.append(sizes, [1.0, 1.0])
    n = float(sizes.sum())
    centre, variance = float(d.sum() / n), float(cluster_variance(sums, sizes))
    if flip is not None:
        alone = (float(d @ d) + 2 * flip**2 - n * centre**2) / (n * (n - 1))
        rare = (max(1.0, variance / alone) / d.size, flip)
    count = sums.size - (0 if flip is None else 2)
    return MeanDifference(value, centre, ((variance, degrees),), d.size, count, method, rare)


def numbered(clusters: Sequence[Hashable] | NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, 2 … for each cluster; quick for an array of integers. Shapes: clusters, result [n]."""
    if isinstance(clusters, np.ndarray) and clusters.dtype.kind in "iu":
        return np.unique(clusters, return_inverse=True)[1]
    return cluster_numbers(clusters)


def design_effect(differences: Iterable[float], clusters: Sequence[Hashable]) -> float | None:
    """How many times the variance of the mean is what independent items would give; n over it is the effective n.

    V(clustered) / V(every item its own cluster). Example: two clusters of identical pairs, d = 1, 1, 0, 0:
    0.25 / (4·0.25/(4·3)) = 3.

    Edge cases: fewer than two clusters, or no spread: None.
    Source: Kish 1965.
    """
    d = list(differences)
    together, alone = clustered_difference(d, clusters), clustered_difference(d)
    if not together.components or not alone.components or alone.components[0][0] == 0:
        return None
    return together.components[0][0] / alone.components[0][0]


def icc(values: Iterable[float], clusters: Sequence[Hashable]) -> float | None:
    """The intraclass correlation ρ: the share of variance that lies between clusters (ANOVA estimate, kept in [0, 1]).

    ρ = (MS_b − MS_w) / (MS_b + (m₀ − 1)·MS_w),  m₀ = (n − Σn_c²/n)/(C − 1)

    Example: d = 1, 1, 0, 0 in two clusters: MS_b = 1, MS_w = 0: 1.

    Edge cases: fewer than two clusters, no cluster of two items, or no spread: None.
    Source: Donner 1986.
    """
    d, numbers = finite_array(values, "values"), cluster_numbers(clusters)
    equal_length(d, numbers.astype(np.float64))
    sizes = np.bincount(numbers) if d.size else np.zeros(0)
    n, count = d.size, sizes.size
    if count < 2 or n == count:
        return None
    means = np.bincount(numbers, weights=d) / sizes
    between = float((sizes * (means - d.mean()) ** 2).sum() / (count - 1))
    within = float(((d - means[numbers]) ** 2).sum() / (n - count))
    typical = (n - float((sizes**2).sum()) / n) / (count - 1)
    total = between + (typical - 1) * within
    return None if total <= 0 else float(np.clip((between - within) / total, 0.0, 1.0))
