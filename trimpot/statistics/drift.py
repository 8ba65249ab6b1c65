"""What a score does not show: answers that grow longer, confidence that no longer comes true, noise between twins."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from trimpot.core.stats import Estimate
from trimpot.statistics.arrays import Floats, check_probability, equal_length, finite_array
from trimpot.statistics.clustered import cluster_numbers, clustered_difference, flip_size
from trimpot.statistics.intervals import wilson

BINS = 10


def ratio_of_means(
    a: Sequence[float], b: Sequence[float], clusters: Sequence[Hashable] | None = None, level: float = 0.95
) -> Estimate:
    """mean(b)/mean(a) over the same items, with the interval exp(ln R ± t·SE), SE of l_i = b_i/b̄ − a_i/ā.

    Example: a = 10, 20, b = 20, 40: R = 2, every l_i = 0: no spread, [2, 2].

    Shapes: a, b, clusters [n]; values of 0 or more, such as lengths.
    Raises:
        ValueError: lengths differ, a value is negative, NaN or infinite.
    Edge cases: no items, or a mean of 0: None; fewer than two clusters: no interval.
    Source: the delta method on ln(b̄/ā), clustered as ``clustered_difference``.
    """
    first, second = finite_array(a, "a"), finite_array(b, "b")
    equal_length(first, second)
    if first.size and min(first.min(), second.min()) < 0:
        raise ValueError("a ratio of means needs values of 0 or more")
    if not first.size or first.mean() == 0 or second.mean() == 0:
        return Estimate(None, None, None, 0, "ratio, delta method", level)
    ratio = float(second.mean() / first.mean())
    linear = clustered_difference(second / second.mean() - first / first.mean(), clusters)
    half = linear.half(level)
    if half is None:
        return Estimate(ratio, None, None, linear.clusters, "ratio, delta method", level)
    return Estimate(
        ratio, ratio * math.exp(-half), ratio * math.exp(half), linear.clusters, "ratio, delta method", level
    )


def equal_mass_error(confidences: Sequence[float], outcomes: Sequence[float], bins: int = BINS) -> float | None:
    """HELM's ECE: Σ_b (n_b/n)·|mean confidence_b − accuracy_b| over bins of as equal numbers of items as can be.

    Items are sorted by confidence; item i of n (from 0) lies in bin ⌊i·bins/n⌋. Items of the same confidence are each
    given their mean outcome, so that their order does not matter.
    Example: confidences 0.2, 0.8; outcomes 0, 1; 2 bins: (0.2 + 0.2)/2 = 0.2.

    Shapes: confidences, outcomes [n], both in [0, 1].
    Raises:
        ValueError: lengths differ, a value is outside [0, 1], or bins < 1.
    Edge cases: empty gives None. Above 0 also for a calibrated model: compare differences only at the same items.
    Source: HELM, arXiv 2211.09110 section 4.4; equal mass: Kumar, Liang and Ma 2019.
    """
    p, y = _checked(confidences, outcomes, bins)
    return _Sorted.of(p, y).error(np.ones(p.size), bins) if p.size else None


def calibration_drift(
    a: tuple[Sequence[float], Sequence[float]],
    b: tuple[Sequence[float], Sequence[float]],
    seed: int,
    clusters: Sequence[Hashable] | None = None,
    draws: int = 500,
    level: float = 0.95,
) -> Estimate:
    """ECE(b) − ECE(a) on the same items, ``equal_mass_error`` each, with an interval by resampling clusters.

    (confidences, outcomes) of a and b. Clusters are drawn with replacement, ``draws`` times, the same ones for a and
    b, and the bins made anew; the interval is the difference ± t·(standard deviation of the drawn differences), t with
    C − 1 degrees of freedom: resampled ECEs are biased upwards, both alike, so their own percentiles are not used.

    Raises:
        ValueError: as ``equal_mass_error``, or a and b differ in length, or draws < 2.
    Edge cases: empty gives None; fewer than two clusters: no interval.
    Source: Efron 1979; resampling clusters: Field and Welsh 2007.
    """
    check_probability(level, "level")
    (pa, ya), (pb, yb) = _checked(*a, BINS), _checked(*b, BINS)
    equal_length(pa, pb)
    if draws < 2:
        raise ValueError(f"draws is {draws}; at least 2 are needed")
    if not pa.size:
        return Estimate(None, None, None, 0, "bootstrap by cluster", level)
    numbers = np.arange(pa.size) if clusters is None else cluster_numbers(clusters)
    count = int(numbers.max()) + 1
    sides = [_Sorted.of(pa, ya), _Sorted.of(pb, yb)]

    def difference(weights: Floats) -> float:
        one, other = (side.error(weights[numbers[side.order]], BINS) for side in sides)
        return other - one

    value = difference(np.ones(count))
    if count < 2:
        return Estimate(value, None, None, count, "bootstrap by cluster", level)
    generator = np.random.default_rng(seed)
    drawn = [difference(_times(generator, count)) for _ in range(draws)]
    half = float(stats.t.isf((1 - level) / 2, count - 1)) * float(np.std(drawn, ddof=1))
    return Estimate(value, value - half, value + half, count, "bootstrap by cluster", level)


@dataclass(frozen=True)
class NoiseFloor:
    """What two evaluations of the same model differ by.

    ``difference``: mean of second − first; ``changed``: the share of items whose score is not the same; ``floor``: what
    a difference between two models must exceed to be more than this noise.
    """

    difference: Estimate
    changed: Estimate
    floor: float | None


def noise_floor(
    first: Iterable[float],
    second: Iterable[float],
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> NoiseFloor:
    """The A/A floor: max(|d̄|, t·SE) of the differences between two evaluations of one model on the same items.

    Batch size, hardware and sampling move scores of the same weights; t·SE is the noise item by item, |d̄| also holds
    what moves all items at once.
    Example: 100 items, none changed: difference 0, floor 0; one changed of 100 by 1: d̄ = 0.01, SE = 0.01, t = 1.98:
    floor 0.0198.

    Shapes: first, second, clusters [n].
    Raises:
        ValueError: lengths differ, or a value is NaN or infinite.
    Edge cases: no items: None; one cluster: the floor is |d̄|.
    Source: ours; the need for it: lm-evaluation-harness issues 1645 and 3357.
    """
    a, b = finite_array(first, "first"), finite_array(second, "second")
    equal_length(a, b)
    found = clustered_difference(b - a, clusters)
    interval = clustered_difference(b - a, clusters, flip_size(a, b)).interval(level)
    if found.value is None:
        return NoiseFloor(interval, wilson(0, 0, level), None)
    return NoiseFloor(
        interval, wilson(int((a != b).sum()), a.size, level), max(abs(found.value), found.half(level) or 0.0)
    )


def _times(generator: np.random.Generator, count: int) -> Floats:
    """How often each cluster is drawn among ``count`` draws."""
    return np.bincount(generator.integers(count, size=count), minlength=count).astype(np.float64)


def _checked(confidences: Sequence[float], outcomes: Sequence[float], bins: int) -> tuple[Floats, Floats]:
    p, y = finite_array(confidences, "confidences"), finite_array(outcomes, "outcomes")
    equal_length(p, y)
    if bins < 1:
        raise ValueError(f"bins is {bins}; at least 1 is needed")
    for name, values in (("confidences", p), ("outcomes", y)):
        if values.size and (values.min() < 0 or values.max() > 1):
            raise ValueError(f"{name} must lie in [0, 1]")
    return p, y


@dataclass(frozen=True)
class _Sorted:
    """Values in the order of their confidence. ``tied``: number of the group of equal confidences of each, or None."""

    p: Floats
    y: Floats
    order: NDArray[np.int64]
    tied: NDArray[np.int64] | None

    @staticmethod
    def of(p: Floats, y: Floats) -> _Sorted:
        order = np.argsort(p, kind="stable")
        begins = np.append(True, np.diff(p[order]) != 0)
        tied = None if begins.all() else np.cumsum(begins) - 1
        return _Sorted(p[order], y[order], order, tied)

    def error(self, weights: Floats, bins: int) -> float:
        """``equal_mass_error`` where each value counts ``weights`` times; weights in the order of the sorted values."""
        y, total = self.y, weights.sum()
        if self.tied is not None:
            mass = np.bincount(self.tied, weights=weights)
            sums = np.bincount(self.tied, weights=weights * y)
            y = np.divide(sums, mass, out=np.zeros_like(mass), where=mass > 0)[self.tied]
        before = np.cumsum(weights) - weights
        places = np.minimum((before * (bins / total) + 1e-9).astype(np.int64), bins - 1)
        return float(np.abs(np.bincount(places, weights=weights * (y - self.p), minlength=bins)).sum() / total)
