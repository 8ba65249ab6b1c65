"""Bradley–Terry ratings of models that were compared in pairs, with intervals over prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit

from trimpot.core.errors import UsageError
from trimpot.core.stats import Estimate
from trimpot.statistics.arrays import Floats, check_probability

ELO_PER_UNIT = 400 / math.log(10)
ELO_CENTRE = 1000.0
METHOD = "bradley-terry, bootstrap over prompts"

_NEWTON_STEPS = 100
_LARGEST_STEP = 2.0
_NUMBERS_AT_ONCE = 4_000_000

# Legend of shapes: B draws, C clusters, K models, P ordered pairs that were compared.


@dataclass(frozen=True)
class Comparison:
    """Two models on one prompt. ``score`` is 1 where ``first`` won, 0 where ``second`` did, 1/2 for a tie.

    ``cluster`` is the prompt: comparisons that share it are not independent.
    """

    first: str
    second: str
    score: float
    cluster: str


@dataclass(frozen=True)
class Rating:
    """A model's rating. ``strength`` is β in log-odds, centred on the rated models; ``elo`` = 400/ln 10 · β + 1000.

    ``mean_win_rate`` is the mean over opponents of the share won from each; it depends on which models are compared,
    so never gate on it. ``note`` says why a value or a bound is missing. An interval with one bound is one-sided.
    """

    name: str
    strength: Estimate
    elo: Estimate
    mean_win_rate: float
    comparisons: int
    note: str = ""


def elo(strength: float) -> float:
    """400/ln 10 · β + 1000: ten times the odds are 400 points. Example: β = ln 10 is 1400."""
    return ELO_PER_UNIT * strength + ELO_CENTRE


def bradley_terry(comparisons: Sequence[Comparison], seed: int, draws: int = 1000, level: float = 0.95) -> list[Rating]:
    """Ratings by maximum likelihood, the strongest first, with percentile intervals over resampled prompts.

    P(i beats j) = σ(β_i − β_j), Σ_i β_i = 0: logistic regression without intercept on rows with +1 for the first and
    −1 for the second model. w_ij is the number of wins of i over j, a tie counting half a win for each; the gradient
    Σ_j w_ij − (w_ij + w_ji)·σ(β_i − β_j) is solved for 0 by Newton steps, for all draws at once.

    Example: a beats b in 3 of 4: β_a − β_b = ln 3, so β = ±0.549 and Elo 1095 and 905.

    Units: natural units (log-odds). ``n`` of an Estimate: prompts.
    Raises:
        UsageError: no comparison, or models that no path of comparisons joins: their ratings have no common scale.
        ValueError: a score outside [0, 1], a model compared with itself, draws < 1.
    Edge cases: complete separation. A finite maximum exists only for models of which each beat each other, directly or
        through others. The ratings are of the largest such set; a model outside it has no value and a note (never
        beaten by it: unbounded above; never beating it: unbounded below). The same in a draw makes that draw ±∞ for
        the model; a bound that is infinite is None, and the interval is one-sided. One prompt, or prompts that all say
        the same: no interval. A draw's ratings are shifted so that the models it rates have their mean in the whole
        data.
    Source: Bradley and Terry 1952; Ford 1957 (when the maximum exists); ties and bootstrap as in Chatbot Arena (arXiv
        2403.04132), but over prompts, not comparisons.
    """
    check_probability(level, "level")
    if draws < 1:
        raise ValueError(f"draws is {draws}; at least 1 is needed")
    names = _names(comparisons)
    places, tallies_CP = _tallies(comparisons, names)
    wins = _matrices(np.ones((1, tallies_CP.shape[0])) @ tallies_CP, places, len(names))
    _refuse_apart(names, wins[0])
    core = _core(wins)[0]
    rated = np.flatnonzero(core)
    value_K = np.full(len(names), np.nan)
    low_K, high_K = value_K.copy(), value_K.copy()
    if rated.size:
        value_K[rated] = _fit(wins[:, rated][:, :, rated], np.ones((1, rated.size), bool))[0]
        if tallies_CP.shape[0] > 1:
            drawn = _bootstrap(tallies_CP, places, value_K, np.random.default_rng(seed), draws)
            low_K[rated], high_K[rated] = _bounds(drawn[:, rated], level)
            # Resamples of comparisons that are all alike (ties, say) have no spread, which is no certainty.
            both = np.isfinite(low_K) & np.isfinite(high_K)
            alike = both & (np.where(both, high_K, 0.0) - np.where(both, low_K, 0.0) < 1e-9)
            low_K[alike], high_K[alike] = np.nan, np.nan
    notes = _notes(wins, core, low_K, high_K, tallies_CP.shape[0])
    shares = _mean_win_rates(wins[0])
    games = (wins[0] + wins[0].T).sum(axis=1)
    ratings = []
    for k, name in enumerate(names):
        value, low, high = (float(x) if math.isfinite(x) else None for x in (value_K[k], low_K[k], high_K[k]))
        strength = Estimate(value, low, high, tallies_CP.shape[0], METHOD, level)
        ratings.append(Rating(name, strength, _in_elo(strength), float(shares[k]), round(games[k]), notes[k]))
    return sorted(ratings, key=_rank)


def _in_elo(strength: Estimate) -> Estimate:
    value, low, high = (None if x is None else elo(x) for x in (strength.value, strength.low, strength.high))
    return replace(strength, value=value, low=low, high=high)


def _rank(rating: Rating) -> tuple[float, float]:
    """Unbounded above, then the rated by strength, then unbounded below; within a kind by mean win rate."""
    edge = math.inf if "above" in rating.note else -math.inf if "below" in rating.note else 0.0
    value = edge if rating.strength.value is None else rating.strength.value
    return -value, -rating.mean_win_rate


def _names(comparisons: Sequence[Comparison]) -> list[str]:
    if not comparisons:
        raise UsageError("comparisons", "there is none", "Give at least one judged pair.")
    for number, one in enumerate(comparisons):
        if not 0.0 <= one.score <= 1.0:
            raise ValueError(f"comparisons[{number}].score is {one.score}; it must lie in [0, 1]")
        if one.first == one.second:
            raise ValueError(f"comparisons[{number}] compares {one.first!r} with itself")
    return list(dict.fromkeys(name for one in comparisons for name in (one.first, one.second)))


def _tallies(
    comparisons: Sequence[Comparison], names: Sequence[str]
) -> tuple[tuple[NDArray[np.intp], NDArray[np.intp]], sparse.csr_matrix]:
    """Wins by cluster and ordered pair [C, P], and the pairs' winner and loser [P] each."""
    number = {name: k for k, name in enumerate(names)}
    clusters = {name: c for c, name in enumerate(dict.fromkeys(one.cluster for one in comparisons))}
    pairs: dict[tuple[int, int], int] = {}
    rows, columns, values = [], [], []
    for one in comparisons:
        i, j = number[one.first], number[one.second]
        for winner, loser, share in ((i, j, one.score), (j, i, 1.0 - one.score)):
            rows.append(clusters[one.cluster])
            columns.append(pairs.setdefault((winner, loser), len(pairs)))
            values.append(share)
    tallies = sparse.csr_matrix((values, (rows, columns)), shape=(len(clusters), len(pairs)), dtype=np.float64)
    winners, losers = zip(*pairs, strict=True)
    return (np.array(winners, dtype=np.intp), np.array(losers, dtype=np.intp)), tallies


def _matrices(tallies_BP: Floats, places: tuple[NDArray[np.intp], NDArray[np.intp]], models: int) -> Floats:
    wins_BKK = np.zeros((tallies_BP.shape[0], models, models))
    wins_BKK[:, places[0], places[1]] = tallies_BP
    return wins_BKK


def _refuse_apart(names: Sequence[str], wins_KK: Floats) -> None:
    parts, labels = sparse.csgraph.connected_components(sparse.csr_matrix(wins_KK + wins_KK.T), directed=False)
    if parts > 1:
        here, there = (
            next(name for name, label in zip(names, labels, strict=True) if label == part) for part in (0, 1)
        )
        problem = f"no path of comparisons joins {here!r} and {there!r}: their ratings have no common scale"
        raise UsageError("comparisons", problem, "Compare one model of each group with the other, or rate them apart.")


def _reach(wins_BKK: Floats) -> NDArray[np.bool_]:
    """[B, K, K]: i beat j, or beat one that beat j, and so on; each reaches itself."""
    models = wins_BKK.shape[1]
    reach: NDArray[np.bool_] = np.asarray((wins_BKK > 0) | np.eye(models, dtype=bool))
    for _ in range(max(1, math.ceil(math.log2(max(models, 2))))):
        reach = (reach.astype(np.float32) @ reach.astype(np.float32)) > 0
    return reach


def _core(wins_BKK: Floats) -> NDArray[np.bool_]:
    """[B, K]: the largest set of which each beat each other, directly or not; none where it is not unique or one."""
    reach = _reach(wins_BKK)
    mutual: NDArray[np.bool_] = np.asarray(reach & reach.transpose(0, 2, 1))
    sizes_BK = mutual.sum(axis=2)
    largest_B = sizes_BK.max(axis=1)
    core = mutual[np.arange(len(mutual)), sizes_BK.argmax(axis=1)]
    alone = (sizes_BK == largest_B[:, None]).sum(axis=1) == largest_B
    return core & (alone & (largest_B > 1))[:, None]


def _fit(wins_BKK: Floats, core_BK: NDArray[np.bool_]) -> Floats:
    """[B, K]: the maximum of the likelihood over the core's comparisons, centred; 0 elsewhere, NaN if not found."""
    wins = wins_BKK * (core_BK[:, :, None] & core_BK[:, None, :])
    games, beta = wins + wins.transpose(0, 2, 1), np.zeros(core_BK.shape)
    diagonal = np.arange(core_BK.shape[1])
    # The likelihood does not change along (1, …, 1): adding that direction to the curvature makes it invertible.
    anchor = (core_BK[:, :, None] & core_BK[:, None, :]) / np.maximum(core_BK.sum(axis=1), 1)[:, None, None]
    anchor[:, diagonal, diagonal] += ~core_BK
    enough = 1e-9 * np.maximum(games.sum(axis=(1, 2)), 1.0)
    for _ in range(_NEWTON_STEPS):
        chance = expit(beta[:, :, None] - beta[:, None, :])
        gradient = (wins - games * chance).sum(axis=2)
        done = np.abs(gradient).max(axis=1) <= enough
        if done.all():
            return beta
        spread = games * chance * (1 - chance)
        curvature = anchor - spread
        curvature[:, diagonal, diagonal] += spread.sum(axis=2)
        step = np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
        longest = np.abs(step).max(axis=1, keepdims=True)
        beta = beta + np.where(done[:, None], 0.0, step * np.minimum(1.0, _LARGEST_STEP / np.maximum(longest, 1e-300)))
    return np.where(done[:, None], beta, np.nan)


def _bootstrap(
    tallies_CP: sparse.csr_matrix,
    places: tuple[NDArray[np.intp], NDArray[np.intp]],
    value_K: Floats,
    generator: np.random.Generator,
    draws: int,
) -> Floats:
    """[B, K]: ratings of resampled prompts; ±∞ where a model is apart from the core, NaN where its side is unknown."""
    clusters, models = tallies_CP.shape[0], len(value_K)
    rated = np.isfinite(value_K)
    at_once = max(1, _NUMBERS_AT_ONCE // max(clusters, models * models))
    results = []
    for start in range(0, draws, at_once):
        count = min(at_once, draws - start)
        counts_BC = generator.multinomial(clusters, np.full(clusters, 1 / clusters), size=count).astype(np.float64)
        wins = _matrices(counts_BC @ tallies_CP, places, models) * (rated[:, None] & rated)
        core = _core(wins)
        beta = _fit(wins, core)
        size = np.maximum(core.sum(axis=1, keepdims=True), 1)
        beta += (np.where(core, np.nan_to_num(value_K), 0.0)).sum(axis=1, keepdims=True) / size
        above, below = _sides(wins, core)
        beta = np.where(core, beta, np.where(above, np.inf, np.where(below, -np.inf, np.nan)))
        results.append(beta)
    return np.concatenate(results)


def _sides(wins_BKK: Floats, core_BK: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """[B, K] each: models above the core (they beat it, it never them) and below; without a core: top and bottom."""
    reach = _reach(wins_BKK)
    apart = ~(reach & reach.transpose(0, 2, 1))
    anyone: NDArray[np.bool_] = np.asarray(np.where(core_BK.max(axis=1, keepdims=True), core_BK, True))
    up = (reach & apart & anyone[:, None, :]).any(axis=2) & ~core_BK
    down = (reach.transpose(0, 2, 1) & apart & anyone[:, None, :]).any(axis=2) & ~core_BK
    return up & ~down, down & ~up


def _bounds(drawn_BK: Floats, level: float) -> tuple[Floats, Floats]:
    """Percentile bounds [K] each. A draw that cannot tell counts for the worse on either side."""
    unknown = np.isnan(drawn_BK)
    low = np.quantile(np.where(unknown, -np.inf, drawn_BK), (1 - level) / 2, axis=0, method="lower")
    high = np.quantile(np.where(unknown, np.inf, drawn_BK), (1 + level) / 2, axis=0, method="higher")
    return low, high


def _notes(wins: Floats, core_K: NDArray[np.bool_], low_K: Floats, high_K: Floats, clusters: int) -> list[str]:
    above, below = (side[0] for side in _sides(wins, core_K[None]))
    notes = []
    for k in range(len(core_K)):
        if above[k]:
            notes.append("unbounded above: never beaten by those it is rated against")
        elif below[k]:
            notes.append("unbounded below: never beat those it is rated against")
        elif not core_K[k]:
            notes.append("no rating: wins and losses do not tie it to the others")
        elif clusters < 2:
            notes.append("no interval: one prompt")
        elif math.isnan(low_K[k]) and math.isnan(high_K[k]):
            notes.append("no interval: all prompts say the same")
        else:
            open_ended = [side for side, x in (("lower", low_K[k]), ("upper", high_K[k])) if not math.isfinite(x)]
            notes.append(f"no {' and no '.join(open_ended)} bound: too few upsets" if open_ended else "")
    return notes


def _mean_win_rates(wins_KK: Floats) -> Floats:
    games = wins_KK + wins_KK.T
    shares = np.where(games > 0, wins_KK / np.where(games > 0, games, 1.0), 0.0)
    return np.asarray(shares.sum(axis=1) / np.maximum((games > 0).sum(axis=1), 1), dtype=np.float64)
