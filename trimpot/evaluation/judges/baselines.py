"""Answers that deserve nothing, and the rule "the longer one": a judge that they win with cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from trimpot.core.progress import Progress, ignore
from trimpot.core.seeds import stream
from trimpot.core.stats import Estimate
from trimpot.evaluation.judges.duel import Judged, judge_pairs, share
from trimpot.evaluation.judges.judge import PairwiseJudge
from trimpot.evaluation.judges.pairs import AnswerPair, question_text

CONSTANT = "Thank you for your question. This is an important topic, and there are several things to consider."
LENGTH_LIMIT = 0.8
"""A judge is unusable where the share of its verdicts that "the longer" gives too is shown to be above this."""
PROBES = 50

NullAnswer = Callable[[AnswerPair, str], str]
"""A pair and the real answer that it plays against -> the null answer."""


def _copied(pair: AnswerPair, real: str) -> str:
    return question_text(pair.prompt)


def _constant(pair: AnswerPair, real: str) -> str:
    return CONSTANT


def _twice(pair: AnswerPair, real: str) -> str:
    return f"{real}\n\n{real}"


WORTHLESS: dict[str, NullAnswer] = {"copy of the prompt": _copied, "constant answer": _constant}
"""Answers that must lose: their win rate has to be shown to be below ½."""
PADDED: dict[str, NullAnswer] = {"answer given twice": _twice}
"""Answers that are longer and no better: their win rate must not be shown to be above ½."""


@dataclass(frozen=True)
class NullBaseline:
    """A null answer against the real ones. ``win_rate``: its own, by the swap rule, a tie counting ½.

    ``fault``: why the judge cannot be used; empty where the baseline behaves as it should.
    """

    name: str
    win_rate: Estimate
    fault: str


@dataclass(frozen=True)
class LengthRule:
    """``agreement``: share of decided pairs, with answers of different lengths, in which the longer one won.

    ``fault``: why the verdicts cannot be used, or empty.
    """

    agreement: Estimate
    fault: str


def null_baselines(
    judge: PairwiseJudge, pairs: Sequence[AnswerPair], probes: int = PROBES, seed: int = 0, progress: Progress = ignore
) -> list[NullBaseline]:
    """Has null answers play against real ones, in both orders, on ``probes`` pairs drawn by the seed.

    The copy of the prompt and the constant answer deserve to lose: unless the upper bound of their win rate is below ½
    the judge is at fault. A real answer given twice is longer and no better: if the lower bound of its win rate is
    above ½ the judge is at fault. The real answer is A's and B's in turn.

    Edge cases: a judge that cannot be asked about new answers (people's labels): none. A real answer that is the null
        answer itself, or empty, is left out. Nothing left to ask, or no verdict that can be read: at fault, as the
        baseline is not shown to lose.
    Source: null models beat leaderboards' judges: arXiv 2410.07137; the repeated answer: MT-Bench, arXiv 2306.05685
        section 3.3.
    """
    if not judge.reads_anything:
        return []
    drawn = list(pairs)
    stream(seed, "null baselines").shuffle(drawn)
    drawn = drawn[:probes]
    kinds: Mapping[str, NullAnswer] = {**WORTHLESS, **PADDED}
    found = []
    for place, (name, answer) in enumerate(kinds.items()):
        reals = [pair.a if number % 2 else pair.b for number, pair in enumerate(drawn)]
        matches = [replace(pair, a=real, b=answer(pair, real)) for pair, real in zip(drawn, reals, strict=True)]
        kept = [match for match in matches if match.a.strip() and match.a.strip() != match.b.strip()]
        told = _part(progress, place, len(kinds))
        won = [one for one in judge_pairs(judge, kept, progress=told) if one.score is not None]
        rate = share([one.score for one in won if one.score is not None], [one.pair.unit for one in won])
        found.append(NullBaseline(name, rate, _fault(name, rate)))
    return found


def _part(progress: Progress, place: int, places: int) -> Progress:
    return lambda done, total: progress(place * max(total, 1) + done, places * max(total, 1))


def _fault(name: str, rate: Estimate) -> str:
    if rate.value is None or rate.low is None or rate.high is None:
        return f"{name}: not shown to lose, as no verdict could be read" if name in WORTHLESS else ""
    bounds = f"{100 * rate.value:.0f}% of the time [{100 * rate.low:.0f}, {100 * rate.high:.0f}]"
    if name in WORTHLESS and rate.high >= 0.5:
        return f"{name}: wins {bounds}, which is not shown to be below 50%"
    if name in PADDED and rate.low > 0.5:
        return f"{name}: beats the answer given once {bounds}"
    return ""


def length_rule(judged: Sequence[Judged], limit: float = LENGTH_LIMIT) -> LengthRule:
    """How often "the longer answer" says what the judge says.

    At fault where the lower bound of the agreement is above ``limit``: then judge and rule cannot be told apart on
    these pairs, whether it is the judge who counts characters or the set in which the better answer is always longer.

    Args:
        limit: a share; the default is ours.
    Units: characters. Edge cases: no decided pair with different lengths: None, no fault.
    Source: reward-bench issue 267: "the longer" is right in all pairs of two subsets.
    """
    decided = [
        (float((one.score > 0.5) == (len(one.pair.b) > len(one.pair.a))), one.pair.unit)
        for one in judged
        if one.score is not None and one.score != 0.5 and len(one.pair.a) != len(one.pair.b)
    ]
    found = share([value for value, _ in decided], [unit for _, unit in decided])
    fault = ""
    if found.value is not None and found.low is not None and found.low > limit:
        fault = (
            f"the longer answer wins {100 * found.value:.0f}% of {len(decided)} decided pairs (at least "
            f"{100 * found.low:.0f}%; limit {100 * limit:.0f}%): verdicts cannot be told from counting characters"
        )
    return LengthRule(found, fault)
