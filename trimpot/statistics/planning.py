"""Before and after a comparison: the smallest effect it can see, and how much more data would decide it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

from trimpot.statistics.arrays import check_probability
from trimpot.statistics.clustered import MeanDifference

MOST = 10**9
"""Items beyond which a plan says that no number is enough."""


def detectable_effect(difference: MeanDifference, level: float = 0.95, power: float = 0.8) -> float | None:
    """The true difference that a comparison with this error finds with probability ``power``.

    δ = (t_{α/2} + t_β)·SE, quantiles of Student's t with the error's own degrees of freedom

    α = 1 − level, β = 1 − power. With many clusters that is Miller's (z_{α/2} + z_β)·SE; with few, more.
    Example: SE = 0.01, very many clusters: (1.960 + 0.842)·0.01 = 0.0280.

    Units: those of the scores.
    Raises:
        ValueError: level or power is not in (0, 1).
    Edge cases: nothing can be said of the difference: None.
    Source: Miller 2024, arXiv 2411.00640v1 section 5; t for z: Bloom 1995.
    """
    check_probability(power, "power")
    half, degrees, error = difference.half(level), difference.degrees, difference.standard_error
    if half is None or degrees is None or error is None:
        return None
    return half + float(stats.t.ppf(power, degrees)) * error


def clusters_to_decide(
    difference: MeanDifference, margin: float, level: float = 0.95, power: float = 0.8
) -> int | None:
    """How many clusters (items, where each is its own) in all would decide, were the observed difference the true one.

    The fewer of: those that tell it from 0, C·((z_{α/2} + z_β)·SE/|d̄|)², and, where |d̄| < margin, those that show
    equivalence, C·((z_α + z_β)·SE/(margin − |d̄|))², with z_{β/2} for z_β at d̄ = 0, where both sides can fail.
    Example: d̄ = 0.02, SE = 0.01, C = 100, margin 0: 100·(2.802·0.5)² = 196.2: 197.

    Raises:
        ValueError: level or power is not in (0, 1), or margin is negative.
    Edge cases: nothing can be said of the difference, or d̄ = 0 = margin: None. Seeds: the error that they add does
    not shrink with more items; where it alone is too large no number of items decides: None.
    Source: Miller 2024, inverted; equivalence: Chow, Shao and Wang 2008, section 3.2.
    """
    if not margin >= 0:
        raise ValueError(f"margin is {margin}; it must be 0 or more")
    if not difference.components or difference.value is None or difference.centre is None:
        return None
    alpha, size = 1 - level, abs(difference.value)
    beta = 1 - power
    distances = []
    if size > 0:
        distances.append(size / _sum(alpha / 2, beta))
    if size < margin:
        # Away from 0 only the nearer margin can fail; at 0 both can.
        distances.append((margin - size) / _sum(alpha, beta / 2 if size < 1e-12 else beta))
    items, *seeds = (variance for variance, _ in difference.components)
    room = max(distances, default=0.0) ** 2 - sum(seeds)
    if room <= 0:
        return None
    return max(2, math.ceil(difference.clusters * items / room - 1e-9))


def _sum(alpha: float, beta: float) -> float:
    check_probability(alpha, "level")
    check_probability(beta, "power")
    return float(stats.norm.isf(alpha) + stats.norm.isf(beta))


@dataclass(frozen=True)
class Plan:
    """What a comparison will be made of.

    Args:
        sd: standard deviation of one item's difference between the two models.
        icc: the share of its variance that lies between clusters.
        clusters: how many clusters there are; None: every item is its own.
        seeds: training seeds of each arm. seed_sd: standard deviation over seeds of an arm's mean score.
        level, power: of the test.
    """

    sd: float
    icc: float = 0.0
    clusters: int | None = None
    seeds: int = 1
    seed_sd: float = 0.0
    level: float = 0.95
    power: float = 0.8

    def __post_init__(self) -> None:
        check_probability(self.level, "level")
        check_probability(self.power, "power")
        if not (math.isfinite(self.sd) and self.sd > 0):
            raise ValueError(f"sd is {self.sd}; it must be above 0")
        if not 0 <= self.icc <= 1:
            raise ValueError(f"icc is {self.icc}; it must lie in [0, 1]")
        if self.seeds < 1 or self.seed_sd < 0 or (self.clusters is not None and self.clusters < 2):
            raise ValueError("a plan needs a seed or more, two clusters or more and a seed_sd of 0 or more")

    @property
    def seed_variance(self) -> float:
        """2τ²/S: what seeds alone add to the variance of the difference."""
        return 2 * self.seed_sd**2 / self.seeds

    def variance(self, items: float) -> float:
        """sd²·(1 + (m − 1)·ρ)/n + 2τ²/S, with m = n/clusters items per cluster; m below 1 counts as 1."""
        per = 1.0 if self.clusters is None else max(1.0, items / self.clusters)
        return self.sd**2 * (1 + (per - 1) * self.icc) / items + self.seed_variance

    def detectable(self, items: float) -> float:
        """The smallest effect that ``items`` items find with the plan's power.

        δ = √(t_I²·V_I + t_S²·V_S) + t_β·√(V_I + V_S)

        V_I the items' part of the variance, V_S the seeds'; t_I has C − 1 degrees of freedom where clusters matter, t_S
        has 2(S − 1), t_β Satterthwaite's of the sum. Without clusters and seeds: Miller's (z_{α/2} + z_β)·sd/√n.
        Example: sd = 1/3, 969 items: 2.802·0.3333/31.13 = 0.0300.

        Source: Miller 2024, arXiv 2411.00640v1; the sum of half widths: Howe 1974, as ``MeanDifference``.
        """
        seeds = self.seed_variance
        own = self.variance(items) - seeds
        clustered = self.clusters is not None and self.icc > 0 and items > self.clusters
        df_items = float(self.clusters - 1) if clustered and self.clusters is not None else math.inf
        df_seeds = 2.0 * (self.seeds - 1) if self.seeds > 1 else math.inf
        total = own + seeds
        inverse = (own**2 / df_items + seeds**2 / df_seeds) / total**2
        tail = (1 - self.level) / 2
        half = math.sqrt(own * _upper(tail, df_items) ** 2 + seeds * _upper(tail, df_seeds) ** 2)
        return half + _upper(1 - self.power, 1 / inverse if inverse > 0 else math.inf) * math.sqrt(total)

    def items(self, effect: float) -> int | None:
        """The fewest items that find ``effect`` with the plan's power: ``detectable`` of them is at most the effect.

        With every item its own cluster and no seeds that is Miller's n = (z_{α/2} + z_β)²·sd²/δ², rounded up.
        Example: sd = 1/3, δ = 0.03, level 95%, power 80%: 7.849·0.1111/0.0009 = 969.

        Raises:
            ValueError: effect is 0 or not finite.
        Edge cases: None where no number does (up to ``MOST``), since clusters or seeds alone leave too much error. One
        seed: what another seed would change is not in the plan's quantiles, only in its variance.
        """
        if not (math.isfinite(effect) and effect != 0):
            raise ValueError(f"effect is {effect}; it must be a number other than 0")
        wanted = abs(effect) * (1 + 1e-12)
        low, high = 0, 1
        while self.detectable(high) > wanted:
            low, high = high, 2 * high
            if high > MOST:
                return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.detectable(middle) > wanted else (low, middle)
        return high

    def seeds_needed(self, effect: float, most: int = 10_000) -> int | None:
        """The fewest seeds of each arm with which seeds alone leave room to find ``effect``; None above ``most``.

        The smallest S with δ > (t_{α/2} + t_β)·√(2τ²/S), t with 2(S − 1) degrees of freedom. As many items as it takes
        are assumed.
        Example: τ = 0.01, δ = 0.03: S = 4: (2.447 + 0.906)·√(0.0001·2/4) = 0.0237; S = 3: (2.776 + 0.941)·0.0082 =
        0.0303 is too much.

        Edge cases: seed_sd = 0: 1.
        """
        if self.seed_sd == 0:
            return 1
        for seeds in range(2, most + 1):
            degrees = 2 * (seeds - 1)
            factor = stats.t.isf((1 - self.level) / 2, degrees) + stats.t.ppf(self.power, degrees)
            if float(factor) * self.seed_sd * math.sqrt(2 / seeds) < abs(effect):
                return seeds
        return None


def _upper(tail: float, degrees: float) -> float:
    """The quantile that leaves ``tail`` above: Student's t, normal for endless degrees of freedom."""
    return float(stats.norm.isf(tail) if math.isinf(degrees) else stats.t.isf(tail, degrees))
