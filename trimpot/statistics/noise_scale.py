"""The gradient noise scale: how large a batch is before more of it brings little.

Symbols: B examples of a batch, G the true gradient, Σ the covariance of one example's gradient, S = tr Σ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from trimpot.core.stats import Estimate

FIELLER = "Fieller, t over looks"
FIELLER_JACKKNIFE = "Fieller, t over jackknife pseudo-values of examples"
FEWEST_LOOKS = 3


@dataclass(frozen=True)
class Moments:
    """One look at a gradient: unbiased estimates of |G|² and of S = tr Σ, which are averaged apart, then divided.

    Units: those of the squared gradient; S is of one example. Ranges: each may be negative, as it is unbiased.
    """

    squared_gradient: float
    trace: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class NoiseScale:
    """B_simple = S / |G|² in examples, with S and |G|² and their intervals.

    Edge cases: B_simple is None where the mean of |G|² is not above 0 (the gradient is not told from noise). Its
    interval has a low and no high end (None) where |G|² may be 0: the batch could grow without limit, as far as the
    looks can tell.
    """

    simple: Estimate
    trace: Estimate
    squared_gradient: Estimate

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def moments_from_two_batches(norm_small: float, norm_big: float, small: int, big: int) -> Moments:
    """|G|² and S from the norms of the gradients of a small and a big batch. Norms go in unsquared.

    Equation: |G|² = (B₂|g₂|² − B₁|g₁|²)/(B₂ − B₁); S = (|g₁|² − |g₂|²)/(1/B₁ − 1/B₂); 1 the small, 2 the big batch.
    Raises: ValueError: small is not at least 1 and below big.
    Source: arXiv 1812.06162, appendix A.1. A public copy of it forgets to square the small norm; here norms are
        squared, and the caller squares none.

    Example: |G|² = 4 and S = 8 give E|g|² = |G|² + S/B: 4 + 8/2 = 8 at B = 2 and 4 + 8/8 = 5 at B = 8.

        >>> one = moments_from_two_batches(8 ** 0.5, 5 ** 0.5, 2, 8)
        >>> round((8 * 5 - 2 * 8) / (8 - 2), 9), round((8 - 5) / (1 / 2 - 1 / 8), 9)
        (4.0, 8.0)
        >>> round(one.squared_gradient, 9), round(one.trace, 9)
        (4.0, 8.0)
    """
    if not 1 <= small < big:
        raise ValueError(f"batches of {small} and {big}: the small one must hold at least 1 and fewer than the big one")
    first, second = norm_small**2, norm_big**2
    return Moments((big * second - small * first) / (big - small), (first - second) / (1 / small - 1 / big))


def moments_from_parts(norms: ArrayLike, shares: ArrayLike, norm_whole: float, batch: int) -> Moments:
    """|G|² and S of a step whose gradient is a sum over parts, which may be of unequal size.

    The parts are micro-batches, examples or processes: g = Σₘ uₘ, where uₘ is the part's gradient already divided by
    what the step's loss is divided by, so that E uₘ = wₘ G with its share wₘ (for SFT: of the target tokens).

    Equation: q = Σ wₘ²; V = (Σ|uₘ|² − q|g|²)/(1 − q); |G|² = |g|² − V; S = B·V.
        For E Σ|uₘ|² = q|G|² + V and E|g|² = |G|² + V, V the variance tr Cov(g), however it is spread over parts.
        With M equal parts these are the equations of two batches B/M and B, the small norm squared being the mean over
        all M parts.
    Shapes: norms, shares [M]; norms are of uₘ, not of means, and not squared. ``batch``: examples of the step.
    Raises: ValueError: fewer than two parts of a share above 0, or shares that do not sum to 1.
    Source: arXiv 1812.06162, appendix A.1; for unequal parts ours.

    Example: parts with shares 1/4 and 3/4 in one dimension, u = (1, 2), so g = 3; q = 1/16 + 9/16 = 0.625.

        >>> one = moments_from_parts([1.0, 2.0], [0.25, 0.75], 3.0, batch=8)
        >>> variance = (1 + 4 - 0.625 * 9) / (1 - 0.625)
        >>> round(variance, 6), round(9 - variance, 6), round(8 * variance, 6)
        (-1.666667, 10.666667, -13.333333)
        >>> round(one.squared_gradient, 6), round(one.trace, 6)
        (10.666667, -13.333333)
    """
    share, squares = np.asarray(shares, dtype=float), np.asarray(norms, dtype=float) ** 2
    if (share > 0).sum() < 2 or abs(share.sum() - 1) > 1e-6:
        raise ValueError(f"shares {share.tolist()}: give two parts at least, whose shares sum to 1")
    return moments_from_squares(float(squares.sum()), float((share**2).sum()), norm_whole**2, batch)


def moments_from_squares(parts: float, q: float, whole: float, batch: float) -> Moments:
    """``moments_from_parts`` from its sums, for whoever holds no list: Σ|uₘ|², Σ wₘ² below 1, and |g|².

    >>> moments_from_squares(5.0, 0.5, 8.0, 2)
    Moments(squared_gradient=6.0, trace=4.0)
    """
    variance = (parts - q * whole) / (1 - q)
    return Moments(whole - variance, batch * variance)


def moments_from_examples(norms: ArrayLike, norm_mean: float) -> Moments:
    """|G|² and S from the norms of every example's own gradient and the norm of their mean: a small batch of 1.

    Equation: S = (mean|gᵢ|² − |ḡ|²)/(1 − 1/B); |G|² = (B|ḡ|² − mean|gᵢ|²)/(B − 1).
    Shapes: norms [B]. Raises: ValueError: fewer than two examples.
    Source: arXiv 1812.06162, appendix A.1, with B_small = 1, which has the least variance (arXiv 2411.00999, sec. 2.1).

    Example: gradients 1 and 3 in one dimension, mean 2: S is their variance 2, |G|² = 4 − 2/2 = 3.

        >>> moments_from_examples([1.0, 3.0], 2.0)
        Moments(squared_gradient=3.0, trace=2.0)
    """
    own = np.asarray(norms, dtype=float)
    if len(own) < 2:
        raise ValueError(f"{len(own)} examples: two at least are needed")
    return moments_from_parts(own / len(own), np.full(len(own), 1 / len(own)), norm_mean, len(own))


def moments_from_ranks(norms: ArrayLike, norm_mean: float, batch_per_rank: int) -> Moments:
    """|G|² and S from data-parallel training: the norm of each process's own mean gradient, and that of their mean.

    No pass is needed beside those of training: the small batch is a process's, the big one that of all.
    Shapes: norms [processes]. Raises: ValueError: fewer than two processes.
    Source: arXiv 1812.06162, appendix A.1.

    Example: two processes of 4 examples, gradients 1 and 3 in one dimension, mean 2: V of the mean is 2/2 = 1.

        >>> moments_from_ranks([1.0, 3.0], 2.0, batch_per_rank=4)
        Moments(squared_gradient=3.0, trace=8.0)
    """
    own = np.asarray(norms, dtype=float)
    if len(own) < 2:
        raise ValueError(f"{len(own)} processes: two at least are needed")
    return moments_from_parts(own / len(own), np.full(len(own), 1 / len(own)), norm_mean, len(own) * batch_per_rank)


def noise_scale(looks: Sequence[Moments], level: float = 0.95) -> NoiseScale:
    """B_simple over looks that are independent: the mean of S by the mean of |G|².

    The mean of single ratios would be biased upwards: |G|² is noisy and stands below the line (a truth of 90: the ratio
    of means gave 89.8, the mean of ratios 102.6).

    Equation: B_simple = S̄ / |G|²‾. Interval: Fieller's, the values ρ for which S̄ − ρ·|G|²‾ is within t standard errors
        of 0; t with n − 1 degrees of freedom.
    Edge cases: fewer than FEWEST_LOOKS looks: no interval. See NoiseScale for what may be None.
    Source: arXiv 1812.06162, appendix A.1; Fieller (1954) for the interval. Of four intervals (delta method, the same
        on the logarithm, jackknife over looks, Fieller) in 40 settings of true noise scale, batch, parts, spectrum and
        5 to 50 looks, Fieller's covered in 93.9% to 96.4%; the others in 53% to 96%, wherever |G|² was not far from 0.

    Example: S of 80 and 120, |G|² of 1 and 3: 100 / 2 = 50, while the mean of 80/1 and 120/3 is 60.

        >>> noise_scale([Moments(1, 80), Moments(3, 120)]).simple.value
        50.0
    """
    trace = np.array([one.trace for one in looks], dtype=float)
    squared = np.array([one.squared_gradient for one in looks], dtype=float)
    count = len(looks)
    centre = (float(trace.mean()), float(squared.mean())) if count else (math.nan, math.nan)
    spread = np.cov(trace, squared) / count if count >= FEWEST_LOOKS else None
    return _estimates(centre, spread, count, FIELLER, level)


def noise_scale_of_examples(
    norms: ArrayLike, inner: ArrayLike, shares: ArrayLike, norm_whole: float, level: float = 0.95
) -> NoiseScale:
    """B_simple at one state of the weights, from every example's part in one big batch.

    Equation: as ``moments_from_parts``. Interval: Fieller's on the jackknife's pseudo-values of S and |G|²; leaving out
        example i leaves a gradient with |g − uᵢ|² = |g|² − 2⟨uᵢ, g⟩ + |uᵢ|², so no pass is needed for it.
    Shapes: norms |uᵢ|, inner ⟨uᵢ, g⟩, shares wᵢ [B]; uᵢ as in ``moments_from_parts``, g = Σ uᵢ.
    Raises: ValueError: fewer than FEWEST_LOOKS examples, or shares that do not sum to 1.
    Edge cases: see NoiseScale.
    Source: arXiv 1812.06162, appendix A.1; the interval is ours.

    Example: three examples with equal shares and gradients 0, 3, 6 in one dimension; g = 3, S = 9, |G|² = 9 − 9/3 = 6.

        >>> found = noise_scale_of_examples([0, 1, 2], [0, 3, 6], [1 / 3] * 3, 3.0)
        >>> round(found.trace.value, 9), round(found.squared_gradient.value, 9), round(found.simple.value, 9)
        (9.0, 6.0, 1.5)
    """
    share, squares = np.asarray(shares, dtype=float), np.asarray(norms, dtype=float) ** 2
    product, count = np.asarray(inner, dtype=float), len(squares)
    if count < FEWEST_LOOKS or abs(share.sum() - 1) > 1e-6:
        raise ValueError(f"{count} examples, shares of {share.sum():.6f}: give {FEWEST_LOOKS} at least, summing to 1")
    whole = moments_from_squares(float(squares.sum()), float((share**2).sum()), norm_whole**2, count)
    left = 1 - share
    parts = (squares.sum() - squares) / left**2
    q = ((share**2).sum() - share**2) / left**2
    rest = (norm_whole**2 - 2 * product + squares) / left**2
    variance = (parts - q * rest) / (1 - q)
    trace = count * whole.trace - (count - 1) * (count - 1) * variance
    squared = count * whole.squared_gradient - (count - 1) * (rest - variance)
    spread = np.cov(trace, squared) / count
    return _estimates((whole.trace, whole.squared_gradient), spread, count, FIELLER_JACKKNIFE, level)


def _estimates(
    centre: tuple[float, float], spread: np.ndarray | None, count: int, method: str, level: float
) -> NoiseScale:
    """From S, |G|² and the covariance matrix of the two."""
    trace, squared = centre
    if not count:
        none = Estimate(None, None, None, 0, method, level)
        return NoiseScale(none, none, none)
    if spread is None:
        singles = [Estimate(one, None, None, count, "too few looks for an interval", level) for one in centre]
        low: float | None = None
        high: float | None = None
        method = singles[0].method
    else:
        t = float(stats.t.ppf((1 + level) / 2, count - 1))
        errors = (t * math.sqrt(spread[0, 0]), t * math.sqrt(spread[1, 1]))
        singles = [
            Estimate(one, one - error, one + error, count, "t", level)
            for one, error in zip(centre, errors, strict=True)
        ]
        low, high = fieller(centre, spread, t)
    value = trace / squared if squared > 0 else None
    return NoiseScale(Estimate(value, low, high, count, method, level), singles[0], singles[1])


def fieller(means: tuple[float, float], covariance: np.ndarray, t: float) -> tuple[float, float | None]:
    """The interval of a ratio of two means that is not negative, as S/|G|² is.

    Equation: {ρ ≥ 0: (m₁ − ρm₂)² ≤ t²(C₁₁ − 2ρC₁₂ + ρ²C₂₂)}.
    Edge cases: no high end (None) where the denominator is not told from 0; (0, None) where nothing is told.
    Source: Fieller (1954), J. R. Stat. Soc. B 16.

    Example: means 10 and 5 with variances 1 and 0, t = 2: (10 ± 2·1)/5.

        >>> low, high = fieller((10.0, 5.0), np.array([[1.0, 0.0], [0.0, 0.0]]), 2.0)
        >>> round(low, 9), round(high, 9)
        (1.6, 2.4)
    """
    a = means[1] ** 2 - t**2 * covariance[1, 1]
    b = means[0] * means[1] - t**2 * covariance[0, 1]
    c = means[0] ** 2 - t**2 * covariance[0, 0]
    root = math.sqrt(max(b * b - a * c, 0.0))
    if a > 0 and means[1] > 0:
        return max(0.0, float((b - root) / a)), max(0.0, float((b + root) / a))
    if a < 0 < c:
        return max(0.0, float((b - root) / a)), None
    return 0.0, None


def curvature_noise_scale(hessian: ArrayLike, gradient: ArrayLike, covariance: ArrayLike) -> float:
    """B_noise, of which B_simple is what is left where the Hessian is a multiple of the identity.

    Equation: B_noise = tr(HΣ) / GᵀHG; H the Hessian, G the gradient, Σ the covariance of one example's gradient.
    Shapes: [P, P], [P], [P, P]. Units: examples.
    Raises: ValueError: GᵀHG is 0.
    Source: arXiv 1812.06162, eq. 2.8.

    Example: H = diag(1, 2), G = (1, 1), Σ = diag(3, 6): (1·3 + 2·6)/(1 + 2).

        >>> curvature_noise_scale([[1, 0], [0, 2]], [1, 1], [[3, 0], [0, 6]])
        5.0
    """
    curvature, direction = np.asarray(hessian, dtype=float), np.asarray(gradient, dtype=float)
    along = float(direction @ curvature @ direction)
    if along == 0:
        raise ValueError("the curvature along the gradient is 0: the noise scale is not defined")
    return float(np.trace(curvature @ np.asarray(covariance, dtype=float))) / along
