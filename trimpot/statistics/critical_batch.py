"""What a batch size costs in steps and in examples: the hyperbola between the two, and the learning rate beside it.

Symbols: B examples of a batch, S optimiser steps and E = B·S examples until a goal is reached.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from trimpot.core.stats import Estimate

FEWEST_BATCHES = 3
"""Batch sizes that a fit needs: with two the hyperbola goes through both points and says nothing of its error."""


@dataclass(frozen=True)
class Trade:
    """What a batch costs: steps as a multiple of the fewest there can be, examples as a multiple of theirs."""

    batch: float
    steps: float
    examples: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def trade(batch: float, noise_scale: float) -> Trade:
    """What a batch costs at a noise scale (or critical batch size).

    Equation: S/S_min = 1 + 𝓑/B and E/E_min = 1 + B/𝓑, which together are (S/S_min − 1)(E/E_min − 1) = 1.
    Ranges: both above 0 in, both above 1 out. Raises: ValueError: one is not above 0.
    Source: arXiv 1812.06162, eq. 2.11.

    Example: a batch of 25 at a noise scale of 100: 1 + 100/25 times the steps, 1 + 25/100 times the examples.

        >>> trade(25, 100)
        Trade(batch=25, steps=5.0, examples=1.25)
    """
    if not (batch > 0 and noise_scale > 0):
        raise ValueError(f"batch {batch} and noise scale {noise_scale} must be above 0")
    return Trade(batch, 1 + noise_scale / batch, 1 + batch / noise_scale)


def rate_for_batch(batch: float, noise_scale: float, max_rate: float, exponent: float = 1.0) -> float:
    """The learning rate that suits a batch.

    Equation: ε(B) = ε_max / (1 + 𝓑/B)^α; ε_max is what a batch without noise takes.
    Ranges: ``exponent`` α: 1 for SGD, 0.5 to 1 for Adam and RMSProp. Raises: ValueError: outside these, or not above 0.
    Source: arXiv 1812.06162, eq. 2.7 (SGD) and appendix E.2 (Adam).

    Example: at B = 𝓑 it is half the largest for SGD, 0.707 of it for Adam at 0.5.

        >>> rate_for_batch(64, 64, 0.1), round(rate_for_batch(64, 64, 0.1, exponent=0.5), 4)
        (0.05, 0.0707)
    """
    if not 0.5 <= exponent <= 1:
        raise ValueError(f"exponent {exponent} is outside 0.5 to 1")
    if not max_rate > 0:
        raise ValueError(f"max_rate {max_rate} must be above 0")
    return float(max_rate / trade(batch, noise_scale).steps ** exponent)


def rate_after(rate: float, batch: float, new_batch: float, noise_scale: float, exponent: float = 1.0) -> float:
    """The learning rate for another batch, from one that was tuned at ``batch``.

    Equation: ε(B') = ε(B) · ((1 + 𝓑/B)/(1 + 𝓑/B'))^α. Far below 𝓑 it is linear (α = 1) or the square root (α = 0.5) of
        B'/B; far above it stays.
    Raises: as ``rate_for_batch``. Source: arXiv 1812.06162, eq. 2.7.

    Example: from 8 to 24 at 𝓑 = 24: (1 + 3)/(1 + 1) = 2.

        >>> rate_after(1e-3, 8, 24, 24)
        0.002
    """
    largest = rate / rate_for_batch(batch, noise_scale, 1.0, exponent)
    return rate_for_batch(new_batch, noise_scale, largest, exponent)


@dataclass(frozen=True)
class CriticalBatch:
    """The hyperbola through runs at several batch sizes.

    ``fewest_steps`` S_min and ``fewest_examples`` E_min are asymptotes; ``critical_batch`` = E_min/S_min, where both
    are twice their least. ``error``: standard deviation of ln S about the fit; None where there are as many runs as
    parameters. ``warning``: why the runs do not tell an asymptote, if they do not.
    """

    fewest_steps: Estimate
    fewest_examples: Estimate
    critical_batch: Estimate
    error: float | None
    warning: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def fit_critical_batch(batches: ArrayLike, steps: ArrayLike, level: float = 0.95) -> CriticalBatch:
    """Fits S = S_min + E_min/B, the hyperbola (S/S_min − 1)(E/E_min − 1) = 1, to runs that reached one goal.

    Equation: least squares of ln S − ln(S_min + E_min/B) over ln S_min and ln E_min; B_crit = E_min/S_min. The errors
        are taken to be a factor of the steps, alike at every batch size.
    Interval: t with n − 2 degrees of freedom on the logarithms, from the Jacobian at the optimum; in simulated sweeps
        of 7 batch sizes (B_crit from 4 to 1,000, errors of 5% and 15%, 1 and 3 seeds) it covered in 93% to 98%.
    Shapes: batches, steps [n], one entry a run; several runs of one batch size (seeds) count each.
    Raises: ValueError: lengths differ, fewer than FEWEST_BATCHES batch sizes, a number that is not above 0.
    Edge cases: all runs far below B_crit leave S_min unknown (S falls as 1/B to the end), all far above leave E_min
        unknown: the interval is then wide, ``warning`` says so, and a limit of it that says nothing is None.
    Source: arXiv 1812.06162, eq. 2.11 and appendix A.2, where the fit is of the same form.

    Example: S_min = 100 and E_min = 1,600: 500 steps at 4, 200 at 16, 125 at 64.

        >>> found = fit_critical_batch([4, 16, 64], [500, 200, 125])
        >>> round(found.fewest_steps.value, 6), round(found.fewest_examples.value, 4), round(1600 / 100, 6)
        (100.0, 1600.0, 16.0)
        >>> round(found.critical_batch.value, 6)
        16.0
    """
    batch, step = np.asarray(batches, dtype=float), np.asarray(steps, dtype=float)
    if batch.shape != step.shape or batch.ndim != 1:
        raise ValueError(f"{batch.size} batch sizes and {step.size} counts of steps: give one of each a run")
    if not (np.isfinite(batch) & np.isfinite(step) & (batch > 0) & (step > 0)).all():
        raise ValueError("batch sizes and steps must be finite and above 0")
    if len(np.unique(batch)) < FEWEST_BATCHES:
        raise ValueError(f"{len(np.unique(batch))} batch sizes reached the goal: {FEWEST_BATCHES} at least are needed")
    logs, covariance, error = _fit(batch, np.log(step))
    critical = float(logs[1] - logs[0])
    variances = (covariance[0, 0], covariance[1, 1], covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    degrees = len(batch) - 2
    steps_found, examples_found, batch_found = (
        _estimate(float(value), float(variance), degrees, level)
        for value, variance in zip((*logs, critical), variances, strict=True)
    )
    return CriticalBatch(steps_found, examples_found, batch_found, error, _warning(batch, batch_found))


def _fit(batch: np.ndarray, log_steps: np.ndarray) -> tuple[np.ndarray, np.ndarray, float | None]:
    """ln S_min and ln E_min, their covariance matrix, and the residual standard deviation."""

    def parts(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.full(len(batch), logs[0]), logs[1] - np.log(batch)

    def residual(logs: np.ndarray) -> np.ndarray:
        return np.asarray(np.logaddexp(*parts(logs)) - log_steps)

    def jacobian(logs: np.ndarray) -> np.ndarray:
        first, second = parts(logs)
        share = 1 / (1 + np.exp(np.clip(second - first, -700, 700)))
        return np.stack([share, 1 - share], axis=1)

    # Each term alone would explain half the steps of the run where it weighs most.
    start = np.array([log_steps.min() - math.log(2), (log_steps + np.log(batch)).min() - math.log(2)])
    reach = 12.0
    found = optimize.least_squares(
        residual, start, jac=jacobian, bounds=(start - reach, start + reach), xtol=1e-14, ftol=1e-14, gtol=1e-14
    )
    degrees = len(batch) - 2
    error = math.sqrt(float(found.fun @ found.fun) / degrees)
    slope = jacobian(found.x)
    return found.x, np.linalg.pinv(slope.T @ slope, rcond=1e-300) * error**2, error


VAGUE = 100.0
"""A limit of an interval this many times from the value says nothing, and is given as None."""


def _estimate(log: float, variance: float, degrees: int, level: float) -> Estimate:
    half = float(stats.t.ppf((1 + level) / 2, degrees)) * math.sqrt(max(variance, 0.0))
    vague = half > math.log(VAGUE)
    value, low, high = math.exp(log), None if vague else math.exp(log - half), None if vague else math.exp(log + half)
    return Estimate(value, low, high, degrees + 2, "t on the logarithm", level)


def _warning(batch: np.ndarray, critical: Estimate) -> str:
    value = critical.value
    assert value is not None
    if value > batch.max():
        return f"all batches are below {value:.4g}: larger ones would tell the fewest steps"
    if value < batch.min():
        return f"all batches are above {value:.4g}: smaller ones would tell the fewest examples"
    return ""


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep: how many steps it took to the goal, or had taken when it was stopped without reaching it."""

    batch: int
    steps: float
    reached: bool
    learning_rate: float | None = None
    seed: int = 0


def best_runs(runs: Sequence[SweepRun]) -> tuple[list[SweepRun], list[int]]:
    """The runs at each batch size's best learning rate, and the batch sizes at which no rate reached the goal.

    The best rate is that of the fewest mean steps over seeds among rates whose runs all reached the goal; where none
    did, that of the most runs that did. Runs that did not reach it are left out of the fit: a batch size that only some
    seeds reached looks faster than it is.

    Example: at batch 8, a rate that took 30 and 34 steps beats one that took 40.

        >>> runs = [SweepRun(8, 30, True, 0.1), SweepRun(8, 34, True, 0.1, 1), SweepRun(8, 40, True, 0.2)]
        >>> [run.steps for run in best_runs(runs)[0]]
        [30, 34]
    """
    kept, missed = [], []
    for batch in sorted({run.batch for run in runs}):
        by_rate: dict[float | None, list[SweepRun]] = {}
        for run in runs:
            if run.batch == batch:
                by_rate.setdefault(run.learning_rate, []).append(run)
        best = min(by_rate.values(), key=_slowness)
        reached = [run for run in best if run.reached]
        kept += reached
        if not reached:
            missed.append(batch)
    return kept, missed


def _slowness(runs: Sequence[SweepRun]) -> tuple[float, float]:
    reached = [run.steps for run in runs if run.reached]
    return 1 - len(reached) / len(runs), sum(reached) / len(reached) if reached else math.inf
