"""Two recipes of training, each with several seeds, on the same items: the seed is a source of error of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from trimpot.statistics.arrays import Floats
from trimpot.statistics.clustered import (
    MeanDifference,
    cluster_variance,
    clustered_difference,
    numbered,
)

FEW_SEEDS = 3
"""Below so many seeds their spread is known so badly that an interval is several times wider than it need be."""


def seeded_difference(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    clusters: Sequence[Hashable] | NDArray[np.int64] | None = None,
    flip: float | None = None,
) -> MeanDifference:
    """The mean of b − a over items and seeds, with items and seeds as crossed sources of error.

    half width² = t_I²·V_I + t_S²·Σ_arm max(0, V_S − V_IS)

    V_I the clustered variance over items of the difference averaged over seeds; V_S the variance over seeds of the
    arm's mean, divided by their number; V_IS what of V_S comes from single items behaving differently from seed to
    seed, which V_I holds already. As many seeds of a as of b: the arms are paired by seed, in the order given, and the
    difference is one arm. Else both are arms, and t_S has Welch and Satterthwaite's degrees of freedom; an arm with a
    single seed is taken to spread as the other does. Two seeds: V_IS is not subtracted; with a single degree of freedom
    the subtraction would lose the level.

    Shapes: a [A, n], b [B, n], clusters [n]; rows are seeds, columns the same items. Units: those of the scores.
    Raises:
        ValueError: other shapes, or a value is NaN or infinite.
    Edge cases: one seed each is ``clustered_difference``, and says nothing about another seed.
    Source: Cameron, Gelbach and Miller 2011 (variances of crossed clusters); Howe 1974 (the sum of half widths);
    no subtraction at two seeds: ours. The level that this holds is measured in docs/compare.md.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not a.shape[0] or not b.shape[0]:
        raise ValueError(f"a and b need the same items as columns, not shapes {a.shape} and {b.shape}")
    items = clustered_difference(b.mean(axis=0) - a.mean(axis=0), clusters, flip)
    if not items.components or (a.shape[0] == 1 and b.shape[0] == 1):
        return items
    numbers = np.arange(a.shape[1]) if clusters is None else numbered(clusters)
    paired = a.shape[0] == b.shape[0]
    extra = (_seed_variance(b - a, numbers),) if paired else _two_arms(a, b, numbers)
    seeds = f"{a.shape[0]} seeds paired" if paired else f"Welch over {a.shape[0]} and {b.shape[0]} seeds"
    components = (*items.components, *(part for part in extra if part[0] > 0))
    return dataclasses.replace(items, components=components, method=f"{items.method}, {seeds}")


def _two_arms(a: Floats, b: Floats, numbers: NDArray[np.int64]) -> tuple[tuple[float, float], ...]:
    if min(a.shape[0], b.shape[0]) > 1:
        (first, df_first), (second, df_second) = _seed_variance(a, numbers), _seed_variance(b, numbers)
        if first + second == 0:
            return ()
        # Welch and Satterthwaite: nearer to the arm that spreads more.
        return ((first + second, (first + second) ** 2 / (first**2 / df_first + second**2 / df_second)),)
    several = a if a.shape[0] > 1 else b
    variance, degrees = _seed_variance(several, numbers)
    # Of one seed: as many times the variance of the mean of several as there are.
    return ((variance * (1 + several.shape[0]), degrees),)


def _seed_variance(scores: Floats, numbers: NDArray[np.int64]) -> tuple[float, float]:
    """(max(0, V_S − V_IS), seeds − 1). Shapes: scores [S, n], numbers [n]."""
    seeds = scores.shape[0]
    means = scores.mean(axis=1)
    between = float(means.var(ddof=1)) / seeds
    if seeds < FEW_SEEDS:
        return between, seeds - 1
    residual = scores - means[:, None] - scores.mean(axis=0)[None] + means.mean()
    sums = np.stack([np.bincount(numbers, weights=row) for row in residual])
    sizes = np.bincount(numbers).astype(np.float64)
    within = float(cluster_variance(sums, sizes).sum()) / (seeds * (seeds - 1))
    return max(0.0, between - within), seeds - 1


def seed_spread(scores: NDArray[np.float64]) -> float | None:
    """The standard deviation over seeds of the mean score: what training again would change.

    Shapes: scores [S, n]. Edge cases: fewer than two seeds: None.
    Example: seed means 0.5 and 0.6: 0.0707.
    """
    return None if scores.shape[0] < 2 else float(scores.mean(axis=1).std(ddof=1))
