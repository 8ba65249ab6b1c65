"""Calibration: do the probabilities that a model gives come true as often as they say?"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from trimpot.core.stats import Estimate
from trimpot.statistics.arrays import Floats, equal_length, finite_array
from trimpot.statistics.intervals import mean_interval

BINS = 10


def expected_calibration_error(
    probabilities: Iterable[float], outcomes: Iterable[float], bins: int = BINS, low: float = 0.0
) -> Estimate:
    """ECE = Σ_b (n_b/n) · |ȳ_b − p̄_b|: the gap between what was said and what came, weighted over bins.

    p_i the probability given to an event, y_i 1 if it came and 0 if not; bins of equal width cut [low, 1]:
    bin b is (low + (b−1)·w, low + b·w] with w = (1 − low)/bins, and ``low`` itself lies in the first; n_b
    values in bin b, ȳ_b and p̄_b their means.
    Example: p = 0.9, 0.9, 0.1; y = 1, 0, 0 in 2 bins: 2/3·|0.5 − 0.9| + 1/3·|0 − 0.1| = 0.3.

    Shapes: probabilities, outcomes [n]. Units: probability.
    Raises:
        ValueError: lengths differ, a probability outside [low, 1], an outcome outside [0, 1], bins < 1.
    Edge cases: empty gives None. No interval: the estimate is biased upwards at small n (it is above 0 even for
        a calibrated model), so resampling it would centre on a larger value; compare ``calibration_noise``.
    Source: arXiv 1706.04599 eq. 3; the bias: arXiv 1909.10155.
    """
    p, y = _checked(probabilities, outcomes, bins, low)
    value = None if p.size == 0 else _error(p, y, _places(p, bins, low))
    return Estimate(value, None, None, p.size, "equal-width bins")


def calibration_noise(
    probabilities: Iterable[float], seed: int, bins: int = BINS, low: float = 0.0, draws: int = 500
) -> float | None:
    """The ECE that these probabilities would show on average if they were all true: what chance alone gives.

    The mean over ``draws`` of ECE(p, y*), with y*_i drawn as 1 with probability p_i.

    Raises:
        ValueError: as for ``expected_calibration_error``, or draws < 1.
    Edge cases: empty gives None. All probabilities 0 or 1: 0.
    Source: consistency resampling, Bröcker and Smith 2007; arXiv 1902.06977.
    """
    if draws < 1:
        raise ValueError(f"draws is {draws}; at least 1 is needed")
    p = finite_array(probabilities, "probabilities")
    p, _ = _checked(p, np.zeros_like(p), bins, low)
    if p.size == 0:
        return None
    generator, places = np.random.default_rng(seed), _places(p, bins, low)
    drawn = [_error(p, (generator.random(p.size) < p).astype(np.float64), places) for _ in range(draws)]
    return float(np.mean(drawn))


def brier_score(probabilities: Iterable[float], outcomes: Iterable[float], level: float = 0.95) -> Estimate:
    """The mean of (p_i − y_i)², with the t interval of a mean. 0 is perfect; always saying 1/2 gives 0.25.

    Example: p = 0.8, 0.4; y = 1, 0: (0.04 + 0.16)/2 = 0.1.

    Shapes: probabilities, outcomes [n].
    Raises:
        ValueError: lengths differ, or a probability or outcome outside [0, 1].
    Edge cases: empty gives None; one value has no interval.
    Source: Brier 1950, for one of two events (half of his sum over both).
    """
    p, y = _checked(probabilities, outcomes, 1, 0.0)
    return mean_interval((p - y) ** 2, level)


def pair_confidences(probabilities: Iterable[float]) -> tuple[list[float], list[float]]:
    """Probabilities that the chosen answer beats the rejected one -> (confidences, correct), for the ECE of pairs.

    c_i = max(p_i, 1 − p_i) in [1/2, 1] is what the model stakes on the answer it prefers; correct_i = 1 if that
    is the chosen one (p_i > 1/2), 0 if not, 1/2 for a tie. Which answer is named first plays no part. The ECE of
    pairs is ``expected_calibration_error(confidences, correct, low=0.5)``.
    Example: p = 0.9, 0.2: confidences 0.9, 0.8; correct 1, 0.

    Raises:
        ValueError: a probability outside [0, 1].
    Edge cases: empty gives two empty lists.
    Source: arXiv 1706.04599 section 2, for two classes.
    """
    p = finite_array(probabilities, "probabilities")
    _within(p, 0.0, "probabilities")
    return np.maximum(p, 1 - p).tolist(), ((1 + np.sign(p - 0.5)) / 2).tolist()


def _checked(probabilities: Iterable[float], outcomes: Iterable[float], bins: int, low: float) -> tuple[Floats, Floats]:
    p, y = finite_array(probabilities, "probabilities"), finite_array(outcomes, "outcomes")
    equal_length(p, y)
    if bins < 1:
        raise ValueError(f"bins is {bins}; at least 1 is needed")
    if not 0.0 <= low < 1.0:
        raise ValueError(f"low is {low}; it must lie in [0, 1)")
    _within(p, low, "probabilities")
    _within(y, 0.0, "outcomes")
    return p, y


def _within(values: Floats, low: float, name: str) -> None:
    bad = np.flatnonzero((values < low) | (values > 1))
    if bad.size:
        raise ValueError(f"{name}[{bad[0]}] is {values[bad[0]]}; it must lie in [{low:g}, 1]")


def _places(p: Floats, bins: int, low: float) -> np.ndarray:
    """The number of each value's bin, from 0."""
    return np.searchsorted(np.linspace(low, 1.0, bins + 1)[1:-1], p, side="left")


def _error(p: Floats, y: Floats, places: np.ndarray) -> float:
    # n_b · |ȳ_b − p̄_b| is the absolute sum of y − p over the bin.
    return float(np.abs(np.bincount(places, weights=y - p)).sum() / p.size)
