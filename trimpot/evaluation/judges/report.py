"""A judge's verdict on two models, with what speaks against the judge beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.core.progress import Progress, ignore
from trimpot.core.seeds import seed_for
from trimpot.core.stats import Estimate
from trimpot.evaluation.judges.baselines import (
    LENGTH_LIMIT,
    PROBES,
    LengthRule,
    NullBaseline,
    length_rule,
    null_baselines,
)
from trimpot.evaluation.judges.duel import (
    Judged,
    PositionBias,
    RepeatSpread,
    judge_pairs,
    position_bias,
    repeat_spread,
    share,
)
from trimpot.evaluation.judges.judge import PairwiseJudge
from trimpot.evaluation.judges.length_controlled import LengthControlled, length_controlled
from trimpot.evaluation.judges.pairs import AnswerPair
from trimpot.statistics.bradley_terry import Comparison, Rating, bradley_terry


@dataclass(frozen=True)
class JudgeSettings:
    """How a judge is asked and checked.

    Args:
        draws: times that each question is asked; above 1 only at a temperature above 0.
        probes: pairs that each null answer plays on; 0: none, and the judge's null baselines are unknown.
        seed: of the drawn probes and of the bootstrap.
        length_limit: see ``length_rule``.
        difficulty: the slice that holds an item's difficulty as a number; None: no such term.
    """

    draws: int = 1
    probes: int = PROBES
    seed: int = 0
    length_limit: float = LENGTH_LIMIT
    difficulty: str | None = None


@dataclass(frozen=True)
class JudgeReport:
    """What a judge says of B against A, and whether it can be believed.

    ``counts``: pairs by what became of them: ok (with a verdict), identical (not asked: a tie), parse_failed, unscored,
    error. ``ties``: share of ties among verdicts. ``bias`` and ``spread`` are None where they cannot be measured
    (order plays no part or was not recorded; one draw). ``faults``: why the judge is unusable; empty: usable.
    """

    judge: str
    a: str
    b: str
    counts: Mapping[str, int]
    win_rate: LengthControlled
    ties: Estimate
    bias: PositionBias | None
    spread: RepeatSpread | None
    length: LengthRule
    baselines: tuple[NullBaseline, ...]
    faults: tuple[str, ...]

    @property
    def usable(self) -> bool:
        return not self.faults

    def as_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        return {**asdict(self), "usable": self.usable}


def judge_report(
    judge: PairwiseJudge,
    names: tuple[str, str],
    pairs: Sequence[AnswerPair],
    settings: JudgeSettings = JudgeSettings(),
    progress: Progress = ignore,
) -> tuple[JudgeReport, list[Judged]]:
    """Asks the judge about all pairs in both orders and about null answers.

    The judge is UNUSABLE where a null answer wins (see ``null_baselines``), where its verdicts cannot be told from
    "the longer one" (``length_rule``), where it contradicts itself with the order in more than half of all pairs (lower
    bound above ½), or where fewer than half of the pairs get a verdict.

    Raises:
        UsageError: no pair; a pair the judge cannot read; no number in the slice of the difficulty; ``draws`` above 1
            of a judge that always says the same.
    """
    if not pairs:
        raise UsageError(
            f"{names[0]} and {names[1]}", "share no answer with text", "Judge tasks that generate answers."
        )
    gamma = None if settings.difficulty is None else _difficulty(pairs, settings.difficulty)
    judged = judge_pairs(judge, pairs, settings.draws, _share_of(progress, 0))
    told = _share_of(progress, 1)
    baselines = null_baselines(judge, pairs, settings.probes, settings.seed, told) if settings.probes else []
    length = length_rule(judged, settings.length_limit)
    bias = position_bias(judged) if judge.order_matters else None
    counts = Counter("identical" if not one.forward else one.status for one in judged)
    scored = [number for number, one in enumerate(judged) if one.score is not None]
    scores = [one.score for one in judged if one.score is not None]
    units = [judged[number].pair.unit for number in scored]
    win_rate = length_controlled(
        scores,
        [len(pairs[number].a) for number in scored],
        [len(pairs[number].b) for number in scored],
        units,
        seed_for(settings.seed, "length controlled"),
        None if gamma is None else [gamma[number] for number in scored],
    )
    report = JudgeReport(
        judge=judge.name,
        a=names[0],
        b=names[1],
        counts=dict(counts),
        win_rate=win_rate,
        ties=share([float(score == 0.5) for score in scores], units),
        bias=bias,
        spread=repeat_spread(judged) if settings.draws > 1 else None,
        length=length,
        baselines=tuple(baselines),
        faults=_faults(bias, length, baselines, len(scored), len(judged)),
    )
    return report, judged


def _share_of(progress: Progress, half: int) -> Progress:
    """The pairs are the first half of the work, the null baselines the second."""
    return lambda done, total: progress(half * max(total, 1) + done, 2 * max(total, 1))


def _difficulty(pairs: Sequence[AnswerPair], name: str) -> list[float]:
    values = []
    for pair in pairs:
        try:
            values.append(float(pair.slices[name]))
        except KeyError as error:
            raise UsageError(f"item {pair.item}", f"has no slice {name!r}", "Leave --difficulty out.") from error
        except ValueError as error:
            problem = f"slice {name} is {pair.slices[name]!r}, not a number"
            raise UsageError(f"item {pair.item}", problem, "Name a slice that holds numbers.") from error
    return values


def _faults(
    bias: PositionBias | None, length: LengthRule, baselines: Sequence[NullBaseline], scored: int, pairs: int
) -> tuple[str, ...]:
    faults = [one.fault for one in baselines] + [length.fault]
    if bias is not None and bias.rate.low is not None and bias.rate.low > 0.5:
        faults.append(f"the order decides: the verdict changes with it in {100 * (bias.rate.value or 0):.0f}% of pairs")
    if 2 * scored < pairs:
        faults.append(f"only {scored} of {pairs} pairs have a verdict")
    return tuple(fault for fault in faults if fault)


def rate_models(duels: Mapping[tuple[str, str], Sequence[Judged]], seed: int, draws: int = 1000) -> list[Rating]:
    """Bradley–Terry ratings of all models that were judged in pairs: (name of A, name of B) -> their pairs.

    Pairs without a verdict count for nothing. Prompts (``AnswerPair.unit``) are the clusters, across pairs of models.

    Raises:
        UsageError: no verdict, or models that no pair joins.
    """
    comparisons = [
        Comparison(b, a, one.score, f"{one.pair.task}/{one.pair.unit}")
        for (a, b), judged in duels.items()
        for one in judged
        if one.score is not None
    ]
    return bradley_terry(comparisons, seed, draws)
