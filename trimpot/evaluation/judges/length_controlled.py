"""Win rates with the length of answers taken out: AlpacaEval 2's regression, with intervals over prompts."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from trimpot.core.stats import Estimate
from trimpot.evaluation.judges.duel import share
from trimpot.statistics.arrays import Floats, check_probability, equal_length, finite_array

RIDGE = 1.0
METHOD = "length-controlled, bootstrap over prompts"

_NEWTON_STEPS = 60
_LARGEST_STEP = 3.0
_NUMBERS_AT_ONCE = 4_000_000

# Legend of shapes: B draws, C clusters, N pairs, F terms of the regression.


@dataclass(frozen=True)
class LengthControlled:
    """B's win rate as it is, and as it would be with answers of A's length.

    ``raw``: mean of B's scores, a tie counting ½. ``win_rate``: the regression's, at Δlen = 0. ``skill`` θ, ``length``
    φ and ``difficulty`` ψ in log-odds; φ above 0: the judge favours the longer answer beyond what the models differ in.
    ``note``: why there is no value, or what to be careful about.
    """

    raw: Estimate
    win_rate: Estimate
    skill: float | None
    length: float | None
    difficulty: float | None
    note: str = ""


def length_controlled(
    scores: Sequence[float],
    lengths_a: Sequence[float],
    lengths_b: Sequence[float],
    units: Sequence[Hashable],
    seed: int,
    difficulty: Sequence[float] | None = None,
    draws: int = 1000,
    level: float = 0.95,
) -> LengthControlled:
    """P(B wins) = σ(θ + φ·tanh(Δ/s) + ψ·γ), fitted to the judge's scores and read off at Δ = 0.

    Δ_i = length of B's answer − length of A's, s the standard deviation of Δ over all pairs, γ_i the item's difficulty,
    standardised. Maximises Σ_i y_i ln P_i + (1 − y_i) ln(1 − P_i) − (λ/2)(φ² + ψ²), λ = 1, y_i in [0, 1] (tie: ½).
    The result is the mean of σ(θ + ψ·γ_i) over items: without difficulty, σ(θ).
    Choices, ours where the paper leaves them open: φ and ψ are shrunk by a normal prior of standard deviation 1
    (the paper: L2 chosen by cross-validation), θ is not; lengths are in any one unit; s is that of the whole data in
    every draw; without ``difficulty`` the term is left out, as one pair of models cannot tell it from θ (the paper fits
    γ jointly on all models of a leaderboard). Interval: percentiles over resampled units (prompts).
    Example: B wins 3 of 4 and no lengths differ: raw 0.75, and σ(θ) = 0.75.

    Shapes: scores, lengths, units, difficulty [N]. Units: scores and rates in [0, 1].
    Raises:
        ValueError: lengths of the vectors differ, a value that is not finite, a score outside [0, 1], draws < 1.
    Edge cases: no pairs: None. All Δ alike and not 0: length and skill cannot be told apart, so no value. All Δ 0: no
        length term. B wins (loses) all pairs: 1 (0), without an interval; all ties: ½, without one. Δ = 0 outside what
        was seen: said in the note.
    Source: Dubois et al. 2024, arXiv 2404.04475, section 3.
    """
    check_probability(level, "level")
    y, delta = _checked(scores, lengths_a, lengths_b, units, draws)
    raw = share(list(y), units)
    numbers = {unit: c for c, unit in enumerate(dict.fromkeys(units))}
    none = Estimate(None, None, None, len(numbers), METHOD, level)
    if y.size == 0:
        return LengthControlled(raw, none, None, None, None, "no judged pair")
    spread = float(delta.std())
    if spread == 0 and delta[0] != 0:
        note = f"all answers of B differ from A's by {delta[0]:+g}: length and skill cannot be told apart"
        return LengthControlled(raw, none, None, None, None, note)
    terms = _terms(delta, spread, difficulty)
    beta = _fit(terms, y, np.ones((1, y.size)))[0]
    value = float(_predicted(terms, beta[None], np.ones((1, y.size)))[0])
    cluster_N = np.array([numbers[unit] for unit in units])
    mixed = 0 < y.mean() < 1
    low, high = _interval(terms, y, cluster_N, draws, (seed, level)) if len(numbers) > 1 and mixed else (None, None)
    rate = Estimate(value, low, high, len(numbers), METHOD, level)
    fitted = [float(x) for x in beta] if mixed else [None, float(beta[1]), float(beta[2])]
    skill, length = fitted[0], fitted[1] if spread else None
    return LengthControlled(raw, rate, skill, length, None if difficulty is None else fitted[2], _note(delta, y))


def _checked(
    scores: Sequence[float],
    lengths_a: Sequence[float],
    lengths_b: Sequence[float],
    units: Sequence[Hashable],
    draws: int,
) -> tuple[Floats, Floats]:
    """Scores and Δ [N]."""
    y, a, b = finite_array(scores, "scores"), finite_array(lengths_a, "lengths_a"), finite_array(lengths_b, "lengths_b")
    equal_length(b, a)
    equal_length(y, b)
    if ((y < 0) | (y > 1)).any():
        raise ValueError("a score lies outside [0, 1]")
    if len(units) != y.size or draws < 1:
        raise ValueError(f"{y.size} pairs need {y.size} units and at least 1 draw, not {len(units)} and {draws}")
    return y, b - a


def _note(delta: Floats, y: Floats) -> str:
    if y.mean() in (0.0, 1.0):
        return "one model wins every pair: no interval, and length plays no part"
    if delta.min() > 0 or delta.max() < 0:
        side = "longer" if delta.min() > 0 else "shorter"
        return f"every answer of B is {side} than A's: equal length lies outside what was seen"
    return ""


def _terms(delta: Floats, spread: float, difficulty: Sequence[float] | None) -> Floats:
    """[N, F = 3]: constant, tanh(Δ/s), difficulty; 0 where a term is left out."""
    terms = np.zeros((delta.size, 3))
    terms[:, 0] = 1.0
    if spread > 0:
        terms[:, 1] = np.tanh(delta / spread)
    if difficulty is not None:
        gamma = finite_array(difficulty, "difficulty")
        equal_length(gamma, delta)
        terms[:, 2] = (gamma - gamma.mean()) / (gamma.std() or 1.0)
    return terms


def _fit(terms_NF: Floats, y_N: Floats, weights_BN: Floats) -> Floats:
    """[B, F]: the penalised maximum of each weighting; θ = ±∞ where its scores are all 1 or all 0."""
    penalty = np.array([0.0, RIDGE, RIDGE])
    products = (terms_NF[:, :, None] * terms_NF[:, None, :]).reshape(len(y_N), -1)
    size_B, sum_B = weights_BN.sum(axis=1), weights_BN @ y_N
    constant = (sum_B <= 0) | (sum_B >= size_B)
    beta = np.zeros((len(weights_BN), 3))
    for _ in range(_NEWTON_STEPS):
        chance = expit(beta @ terms_NF.T)
        gradient = (weights_BN * (y_N - chance)) @ terms_NF - penalty * beta
        gradient[constant] = 0.0
        if (np.abs(gradient).max(axis=1) <= 1e-9 * size_B).all():
            break
        curvature = ((weights_BN * chance * (1 - chance)) @ products).reshape(-1, 3, 3) + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
        longest = np.abs(step).max(axis=1, keepdims=True)
        beta = beta + step * np.minimum(1.0, _LARGEST_STEP / np.maximum(longest, 1e-300))
    beta[constant, 0] = np.where(sum_B[constant] > 0, np.inf, -np.inf)
    return beta


def _predicted(terms_NF: Floats, beta_BF: Floats, weights_BN: Floats) -> Floats:
    """[B]: the mean over items of σ(θ + ψ·γ): the win rate at Δ = 0."""
    at_zero = expit(beta_BF[:, [0]] + beta_BF[:, [2]] * terms_NF[:, 2])
    return np.asarray((weights_BN * at_zero).sum(axis=1) / weights_BN.sum(axis=1), dtype=np.float64)


def _interval(
    terms_NF: Floats, y_N: Floats, cluster_N: np.ndarray, draws: int, how: tuple[int, float]
) -> tuple[float | None, float | None]:
    """Percentiles of resampled units. Judgments that are all alike say nothing of what others would be: none."""
    seed, level = how
    found = _bootstrap(terms_NF, y_N, cluster_N, draws, np.random.default_rng(seed))
    low, high = (float(x) for x in np.quantile(found, [(1 - level) / 2, (1 + level) / 2]))
    return (low, high) if high - low >= 1e-9 else (None, None)


def _bootstrap(
    terms_NF: Floats, y_N: Floats, cluster_N: np.ndarray, draws: int, generator: np.random.Generator
) -> Floats:
    clusters = int(cluster_N.max()) + 1
    at_once, results = max(1, _NUMBERS_AT_ONCE // max(len(y_N), clusters)), []
    for start in range(0, draws, at_once):
        count = min(at_once, draws - start)
        counts_BC = generator.multinomial(clusters, np.full(clusters, 1 / clusters), size=count)
        weights_BN = counts_BC[:, cluster_N].astype(np.float64)
        results.append(_predicted(terms_NF, _fit(terms_NF, y_N, weights_BN), weights_BN))
    return np.concatenate(results)
