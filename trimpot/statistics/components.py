"""Where a score's variance comes from: items, samples, templates, seeds, graders."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from trimpot.statistics.arrays import Floats, check_probability, finite_array
from trimpot.statistics.clustered import cluster_numbers

RESIDUAL = "residual"
LARGEST = 10_000_000
"""Values that the resampling of intervals may draw; more scores get fewer draws, at least ``FEWEST``."""
DRAWS, FEWEST = 400, 100


@dataclass(frozen=True)
class Component:
    """One source of variance.

    Args:
        name: the factor, or "residual": what is left, single answers.
        levels: how many values of the factor there were.
        variance: σ², at least 0, in squared units of the scores; None where the data cannot tell it apart.
        low, high: its interval.
        share: of the sum of all variances, in [0, 1]. share_low, share_high: its interval.
    """

    name: str
    levels: int
    variance: float | None
    low: float | None
    high: float | None
    share: float | None
    share_low: float | None
    share_high: float | None


def variance_components(
    scores: Sequence[float],
    factors: Mapping[str, Sequence[Hashable]],
    seed: int = 0,
    level: float = 0.95,
) -> tuple[Component, ...]:
    """Splits the variance of scores over random factors, by moments (Henderson's method 1); no balance is needed.

    y = μ + Σ_f u_f + e, every effect independent with variance σ_f². With T_f = Σ_levels (sum of the level)²/n_level,
    T_0 = Σy² and T_μ = (Σy)²/N, the expectations of T_f − T_μ and T_0 − T_f are linear in the σ²; the solution of
    those equations is unbiased. A negative one is reported as 0. Crossed factors are given as they are
    (item, template, seed, grader); a nested one with labels that are unique over all (the sample of an item); an
    interaction as a factor of pairs.
    Intervals: σ² by Satterthwaite, df·σ²/χ²_df, where df = 2σ⁴/Var(σ̂²) and Var by simulating normal effects on the
    same design; shares by the percentiles of that simulation. A factor with 3 levels is known to a factor of about 6.
    Example: two items, two samples each, scores 1, 1 and 0, 0: T_item − T_μ = 2 − 1 = 1 = 2σ²_item + σ²_e and
    T_0 − T_item = 0 = 2σ²_e: σ²_item = 0.5, σ²_e = 0.

    Shapes: scores [N], every factor [N]. Units: variances in squared units of the scores.
    Raises:
        ValueError: lengths differ, no factors, a factor called "residual", a score is NaN, or level is not in (0, 1).
    Edge cases: a factor with one level, and factors that the design cannot tell apart: variance None, and the sum is
    over the others. Fewer than two scores: all None.
    Source: Henderson 1953; Searle, Casella and McCulloch 1992, section 5.3; Satterthwaite 1946.
    """
    check_probability(level, "level")
    y = finite_array(scores, "scores")
    if not factors or RESIDUAL in factors:
        raise ValueError(f"factors are needed, and none may be called {RESIDUAL!r}")
    numbers = {name: cluster_numbers(labels) for name, labels in factors.items()}
    for name, column in numbers.items():
        if column.size != y.size:
            raise ValueError(f"{y.size} scores need {y.size} values of {name}, not {column.size}")
    levels = {name: int(column.max()) + 1 if column.size else 0 for name, column in numbers.items()}
    design = _Design.of({name: column for name, column in numbers.items() if levels[name] > 1}, y.size)
    found = design.solve(y) if design.names and y.size > 1 else {}
    drawn = design.simulate(found, seed, y.size) if found else {}
    return tuple(
        _component(name, levels.get(name, y.size), found, drawn, level) for name in (*factors, RESIDUAL)
    )  # fmt: skip


@dataclass(frozen=True)
class _Design:
    """The linear equations of one design. ``inverse`` [F + 1, F + 1]; the last unknown is the residual's variance."""

    names: tuple[str, ...]
    columns: tuple[NDArray[np.int64], ...]
    inverse: Floats

    @staticmethod
    def of(columns: Mapping[str, NDArray[np.int64]], n: int) -> _Design:
        """Leaves out factors that the others determine, so that the equations have one solution."""
        chosen: dict[str, NDArray[np.int64]] = {}
        inverse: Floats = np.zeros((0, 0))
        for name, column in columns.items():
            matrix = _expectations([*chosen.values(), column], n)
            # Columns of very different size (many items, few seeds) are no sign of dependence: scale first.
            largest = np.abs(matrix).max(axis=0)
            scaled = matrix / np.where(largest > 0, largest, 1.0)
            largest = np.abs(scaled).max(axis=1, keepdims=True)
            if np.linalg.cond(scaled / np.where(largest > 0, largest, 1.0)) < 1e8:
                chosen[name] = column
                inverse = np.asarray(np.linalg.inv(matrix))
        return _Design(tuple(chosen), tuple(chosen.values()), inverse)

    def solve(self, y: Floats) -> dict[str, float]:
        """Name -> unbiased estimate of the variance; it may be below 0."""
        values = self.inverse @ self.moments(y - y.mean())
        return dict(zip((*self.names, RESIDUAL), map(float, values), strict=True))

    def moments(self, y: Floats) -> Floats:
        """T_f − T_μ of every factor, and T_0 − T_f of the first."""
        total = y.sum() ** 2 / y.size
        sums = [float((np.bincount(column, weights=y) ** 2 / np.bincount(column)).sum()) for column in self.columns]
        return np.asarray([*(value - total for value in sums), float(y @ y) - sums[0]])

    def simulate(self, found: Mapping[str, float], seed: int, n: int) -> dict[str, Floats]:
        """Name -> estimates from draws of normal effects with the variances found (0 for negative ones)."""
        generator = np.random.default_rng(seed)
        deviations = {name: np.sqrt(max(0.0, value)) for name, value in found.items()}
        draws = int(np.clip(LARGEST / max(n, 1), FEWEST, DRAWS))
        rows = []
        for _ in range(draws):
            y = deviations[RESIDUAL] * generator.standard_normal(n)
            for name, column in zip(self.names, self.columns, strict=True):
                y += deviations[name] * generator.standard_normal(int(column.max()) + 1)[column]
            rows.append(self.inverse @ self.moments(y))
        table = np.stack(rows)
        return {name: table[:, position] for position, name in enumerate((*self.names, RESIDUAL))}


def _expectations(columns: Sequence[NDArray[np.int64]], n: int) -> Floats:
    """Row: T_f − T_μ of every factor, then T_0 − T_first. Column: σ² of every factor, then σ² of the residual."""
    counts = [np.bincount(column).astype(np.float64) for column in columns]
    overall = np.asarray([*(float((count**2).sum()) / n for count in counts), 1.0])
    rows = []
    for column, count in zip(columns, counts, strict=True):
        rows.append(np.asarray([*(_shared(column, count, other) for other in columns), float(count.size)]))
    last = np.asarray([*(float(n) for _ in columns), float(n)]) - rows[0]
    return np.stack([*(row - overall for row in rows), last])


def _shared(column: NDArray[np.int64], count: Floats, other: NDArray[np.int64]) -> float:
    """Σ over levels l of one factor and m of another: n_lm²/n_l."""
    width = int(other.max()) + 1
    cells, sizes = np.unique(column * width + other, return_counts=True)
    return float((sizes.astype(np.float64) ** 2 / count[cells // width]).sum())


def _component(
    name: str, levels: int, found: Mapping[str, float], drawn: Mapping[str, Floats], level: float
) -> Component:
    if name not in found:
        return Component(name, levels, None, None, None, None, None, None)
    variance = max(0.0, found[name])
    low, high = _interval(variance, drawn[name], level)
    total = sum(max(0.0, value) for value in found.values())
    if total == 0:
        return Component(name, levels, variance, low, high, None, None, None)
    kept = {other: np.maximum(0.0, values) for other, values in drawn.items()}
    sums = np.maximum(sum(kept.values(), np.zeros_like(drawn[name])), 1e-300)
    shares = np.quantile(kept[name] / sums, [(1 - level) / 2, (1 + level) / 2])
    share = variance / total
    # The percentiles of the simulation hold the share up to its own bias: never leave the estimate outside.
    return Component(
        name, levels, variance, low, high, share, min(float(shares[0]), share), max(float(shares[1]), share)
    )


def _interval(variance: float, draws: Floats, level: float) -> tuple[float, float]:
    spread = float(draws.var(ddof=1))
    if spread == 0:
        return variance, variance
    if variance == 0:
        return 0.0, max(0.0, float(np.quantile(draws, (1 + level) / 2)))
    degrees = 2 * variance**2 / spread
    # With next to no degrees of freedom both quantiles underflow: such an interval says nothing.
    top = float(stats.chi2.isf((1 - level) / 2, degrees))
    low = min(variance, degrees * variance / top) if top > 1e-12 else 0.0
    bottom = float(stats.chi2.ppf((1 - level) / 2, degrees))
    return low, degrees * variance / bottom if bottom > 1e-12 else float("inf")
