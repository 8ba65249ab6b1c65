"""Pairs judged in both orders: the swap rule, position bias, and how much a judge disagrees with itself."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from trimpot.core.errors import UsageError
from trimpot.core.progress import Progress, ignore
from trimpot.core.stats import Estimate
from trimpot.evaluation.judges.judge import PairwiseJudge, Question, Verdict
from trimpot.evaluation.judges.pairs import AnswerPair
from trimpot.statistics.intervals import wilson
from trimpot.statistics.paired import paired_difference
from trimpot.store.outcomes import Outcome

JUDGED = "preference"
"""The metric group of outcomes that a judge gave."""


@dataclass(frozen=True)
class Judged:
    """A pair and its verdicts: ``forward`` with ``a`` shown first, ``backward`` with ``b``, one per draw.

    Two answers with the same text are a tie that nobody was asked about: no verdicts.
    """

    pair: AnswerPair
    forward: tuple[Verdict, ...] = ()
    backward: tuple[Verdict, ...] = ()

    @property
    def scores(self) -> tuple[float, ...]:
        """B's score of each draw by the swap rule, over draws with both verdicts."""
        both = zip(self.forward, self.backward, strict=True)
        return tuple(
            swap_rule(one.first, other.first)
            for one, other in both
            if one.first is not None and other.first is not None
        )

    @property
    def score(self) -> float | None:
        """B's score: 1 won, 0 lost, 1/2 tie; the mean over draws. None: no draw has both verdicts."""
        if not self.forward:
            return 0.5
        return math.fsum(self.scores) / len(self.scores) if self.scores else None

    @property
    def status(self) -> str:
        """ok, or why there is no score: the status of the first verdict that is missing."""
        if self.score is not None:
            return "ok"
        return next(one.status for one in (*self.forward, *self.backward) if one.first is None)

    @property
    def conflicts(self) -> tuple[float, ...]:
        """For each draw asked in both orders: 0 if they agree, +1 if the answer shown first gained, −1 the second."""
        both = [pair for pair in zip(self.forward, self.backward, strict=True) if not any(one.turned for one in pair)]
        sums = [one.first + other.first for one, other in both if one.first is not None and other.first is not None]
        return tuple(float(np.sign(total - 1)) for total in sums)


def swap_rule(forward: float, backward: float) -> float:
    """B's score from what the first shown answer got with A first, and with B first: a win only if both agree, else ½.

    Example: A first and A wins (1), B first and A wins (0): both say A, 0. A first and A wins, B first and B wins:
    whoever is first wins, ½. A win and a tie do not agree: ½.

    Source: MT-Bench, arXiv 2306.05685 section 3.4 (conservative).
    """
    return backward if forward + backward == 1.0 else 0.5


def judge_pairs(
    judge: PairwiseJudge, pairs: Sequence[AnswerPair], draws: int = 1, progress: Progress = ignore
) -> list[Judged]:
    """Asks the judge about every pair in both orders, ``draws`` times.

    Raises:
        UsageError: several draws of a judge that always says the same (temperature 0).
    Edge cases: two answers with the same text are not asked about. A judge that order cannot matter to is asked once,
        and its verdict turned.
    """
    if draws > 1 and judge.temperature == 0:
        raise UsageError("repeats", f"{judge.name} says the same each time", "Give --temperature above 0, or 1 repeat.")
    asked = [pair for pair in pairs if pair.a != pair.b]
    orders = (False, True) if judge.order_matters else (False,)
    total = draws * len(orders) * len(asked)
    found: dict[tuple[int, bool], list[Verdict]] = {}
    for draw in range(draws):
        for swapped in orders:
            questions = [Question(pair, swapped) for pair in asked]
            told = _part(progress, len(found) * len(asked), len(asked), total)
            found[draw, swapped] = judge.verdicts(questions, draw, told)
    verdicts: dict[int, tuple[tuple[Verdict, ...], tuple[Verdict, ...]]] = {}
    for number, pair in enumerate(asked):
        forward = tuple(found[draw, False][number] for draw in range(draws))
        backward = tuple(_turned(one) for one in forward)
        if judge.order_matters:
            backward = tuple(found[draw, True][number] for draw in range(draws))
        verdicts[id(pair)] = forward, backward
    return [Judged(pair, *verdicts.get(id(pair), ((), ()))) for pair in pairs]


def _part(progress: Progress, before: int, asked: int, total: int) -> Progress:
    """What a judge tells of its own requests, as questions of the whole."""
    return lambda now, all_now: progress(before + now * asked // max(all_now, 1), total)


def _turned(verdict: Verdict) -> Verdict:
    return replace(verdict, first=None if verdict.first is None else 1.0 - verdict.first, turned=True)


@dataclass(frozen=True)
class PositionBias:
    """How often the two orders contradict each other.

    ``rate``: share of conflicts among pairs that were asked about in both orders, with Wilson's interval (over clusters
    where pairs share one). ``first`` and ``second``: conflicts in which the answer shown there gained; ``first_share``
    their share, and ``p_value`` of the exact test that it is ½. ``direction``: "first", "second" where p < 0.05, else
    "undecided", or "none" without conflicts. None: the judge's verdict does not depend on order, or it is not recorded.
    """

    rate: Estimate
    first: float
    second: float
    first_share: Estimate
    p_value: float | None
    direction: str


def position_bias(judged: Sequence[Judged]) -> PositionBias:
    """Conflicts between the orders, and which position gains.

    Example: of 10 pairs 4 contradict, in 3 of them the first shown wins both times: rate 0.4, first_share 0.75,
    p = 2·(4 + 1)/16 = 0.625: undecided.

    Edge cases: several draws count as their mean. A pair without both verdicts counts for nothing. The test takes pairs
        for independent.
    Source: Wang et al. 2023, arXiv 2305.17926 (conflict rate); Wilson 1927.
    """
    asked = [one for one in judged if one.conflicts]
    units = [one.pair.unit for one in asked]
    rate = share([float(np.mean(np.abs(one.conflicts))) for one in asked], units)
    sides = [float(np.mean(one.conflicts)) for one in asked]
    # One vote per pair: draws of one pair are not independent.
    first, second = sum(side > 0 for side in sides), sum(side < 0 for side in sides)
    p_value = float(stats.binomtest(first, first + second, 0.5).pvalue) if first + second else None
    direction = "none" if p_value is None else "undecided"
    if p_value is not None and p_value < 0.05:
        direction = "first" if first > second else "second"
    return PositionBias(rate, first, second, wilson(first, first + second), p_value, direction)


@dataclass(frozen=True)
class RepeatSpread:
    """How much verdicts of one question (pair and order) vary over draws.

    ``variance``: mean over questions of s² of the draws' verdicts (0, ½, 1), 0 to ½; ``disagreement``: the chance that
    two draws of one question differ. None with fewer than two draws.
    """

    draws: int
    variance: Estimate
    disagreement: Estimate


def repeat_spread(judged: Sequence[Judged]) -> RepeatSpread:
    """The judge's own noise: the same question asked again.

    s² = Σ(v − v̄)²/(r − 1); disagreement = 1 − Σ_v c_v(c_v − 1)/(r(r − 1)), c_v of r draws saying v.
    Example: draws 1, 1, 0: s² = 1/3; disagreement = 1 − 2/6 = 2/3.

    Source: ours; the component "grader" of the variance of an evaluation (arXiv 2411.00640).
    """
    variances, disagreements, units, draws = [], [], [], 0
    for one in judged:
        for verdicts in (one.forward, one.backward):
            values = [said.first for said in verdicts if said.first is not None and not said.turned]
            r = len(values)
            if r < 2:
                continue
            draws = max(draws, r)
            variances.append(float(np.var(values, ddof=1)))
            counts = Counter(values).values()
            disagreements.append(1 - sum(c * (c - 1) for c in counts) / (r * (r - 1)))
            units.append(one.pair.unit)
    zeros = [0.0] * len(units)
    clustered = [paired_difference(values, zeros, units) for values in (variances, disagreements)]
    return RepeatSpread(draws, *(_cut(one) for one in clustered))


def share(values: Sequence[float], units: Sequence[Hashable]) -> Estimate:
    """The mean of values in [0, 1], with Wilson's interval where every value is a unit of its own, else clustered.

    Clustered: Student's t over units, cut to [0, 1]; without any spread, Wilson's with one trial per unit, as an
    interval without width would claim certainty.

    Shapes: values, units [n]. Edge cases: no values: None. Ties of ½ make Wilson's interval wider than it need be.
    """
    count = len(set(units))
    if count == len(values) or (values and max(values) - min(values) < 1e-12):
        found = wilson(math.fsum(values) / max(len(values), 1) * count, count)
        return replace(found, value=min(max(found.value, 0.0), 1.0)) if found.value is not None else found
    return _cut(paired_difference(values, [0.0] * len(values), units))


def _cut(estimate: Estimate) -> Estimate:
    if estimate.low is None or estimate.high is None:
        return estimate
    return replace(estimate, low=max(estimate.low, 0.0), high=min(estimate.high, 1.0))


def judged_outcomes(judged: Sequence[Judged], run: str, weights: str, side: str = "b") -> list[Outcome]:
    """The verdicts as outcomes of one side: score 1, ½ or 0, in the metric group "preference".

    Compare the two sides with ``trimpot compare``: B's mean less A's is twice the win rate less 1.

    Args:
        side: "a" or "b": whose score it is.
    Edge cases: a pair without a verdict keeps its status (parse_failed, unscored or error) and has the score None.
    """
    outcomes = []
    for one in judged:
        pair, score = one.pair, one.score
        outcomes.append(
            Outcome(
                run=run,
                weights=weights,
                task=pair.task,
                item=pair.item,
                cluster=pair.unit,
                slices=dict(pair.slices),
                perturbation=pair.perturbation,
                prompt_ids=(),
                prompt=pair.prompt,
                expected="",
                output=pair.b if side == "b" else pair.a,
                score=None if score is None else score if side == "b" else 1.0 - score,
                status=one.status,
                sample=pair.sample,
                metric_group=JUDGED,
            )
        )
    return outcomes
