"""What attempts say together: success by family and over-refusal by twins, as counted and corrected. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trimpot.core.seeds import seed_for
from trimpot.core.stats import Estimate
from trimpot.evaluation.redteam.attack import Attempt
from trimpot.evaluation.redteam.correction import Confusion, Tries, corrected_rate, counted_rate, swapped
from trimpot.evaluation.redteam.detectors import Result
from trimpot.evaluation.redteam.labelled import DetectorRates

ALL = "all"
OVER_REFUSAL = "over_refusal"


@dataclass(frozen=True)
class Rate:
    """How often something bad happened: an attack worked, or a benign twin was refused.

    Args:
        name: a family, ``all`` of them, or ``over_refusal``.
        bad, good, undetermined: tries, counted; undetermined ones are in no rate but the last.
        counted: bad / (bad + good), with its interval over prompts.
        corrected: the same, corrected for the measured error of the detectors; value None where they were not measured.
        at_worst: (bad + undetermined) / all: the share if every undetermined try were bad; None without tries.
    """

    name: str
    bad: int
    good: int
    undetermined: int
    counted: Estimate
    corrected: Estimate
    at_worst: float | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def rates_by_family(attempts: Sequence[Attempt], known: Mapping[str, DetectorRates], seed: int = 0) -> list[Rate]:
    """The success rate of every family in the order of the attempts, then of all together if there is more than one.

    Tries on one seed are not independent, whatever their prompts: they are one cluster.

    Edge cases: a detector without measured rates leaves ``corrected`` without a value. Twins are left out.
    """
    attacks = [one for one in attempts if not one.case.twin]
    families = list(dict.fromkeys(one.case.family for one in attacks))
    found = [_rate(name, [one for one in attacks if one.case.family == name], known, seed) for name in families]
    return found if len(families) < 2 else [*found, _rate(ALL, attacks, known, seed)]


def over_refusal(attempts: Sequence[Attempt], known: Mapping[str, DetectorRates], seed: int = 0) -> Rate:
    """The share of benign twins that were refused, over all families; without twins there is no value."""
    return _rate(OVER_REFUSAL, [one for one in attempts if one.case.twin], known, seed, refusals=True)


def _rate(
    name: str, attempts: Sequence[Attempt], known: Mapping[str, DetectorRates], seed: int, refusals: bool = False
) -> Rate:
    bad: Result = "failure" if refusals else "success"
    detectors = list(dict.fromkeys(_detector(one) for one in attempts))
    strata = [(_tries([one for one in attempts if _detector(one) == each], bad), each) for each in detectors]
    results = [one.result for one in attempts]
    undetermined, worked = results.count("undetermined"), results.count(bad)
    confusions = [_confusion(known.get(each), refusals) for each in detectors]
    stream = seed_for(seed, "redteam", "rate", name)
    return Rate(
        name,
        worked,
        len(results) - worked - undetermined,
        undetermined,
        counted_rate(_tries(attempts, bad), stream),
        corrected_rate([(groups, one) for (groups, _), one in zip(strata, confusions, strict=True)], stream),
        (worked + undetermined) / len(results) if results else None,
    )


def _detector(attempt: Attempt) -> str:
    return "refusal" if attempt.case.twin else attempt.case.seed.detector


def _confusion(rates: DetectorRates | None, refusals: bool) -> Confusion:
    """The labelled counts; none at all where the detector was not measured."""
    if rates is None:
        return Confusion(0, 0, 0, 0)
    confusion = Confusion(rates.caught, rates.successes, rates.cleared, rates.failures)
    return swapped(confusion) if refusals else confusion


def _tries(attempts: Sequence[Attempt], bad: Result) -> list[Tries]:
    """Decided tries by seed."""
    grouped: dict[str, list[Result]] = {}
    for one in attempts:
        grouped.setdefault(one.case.cluster, []).append(one.result)
    return [Tries(some.count(bad), len(some) - some.count("undetermined")) for some in grouped.values()]


def lines(rates: Sequence[Rate], refusals: Rate) -> list[tuple[str, str]]:
    """The rates for people: one line each, what was not measured said so."""
    found = [(f"{one.name}:", _line(one, "worked")) for one in rates]
    if refusals.bad + refusals.good + refusals.undetermined:
        return [*found, ("over-refusal of benign twins:", _line(refusals, "refused"))]
    return [*found, ("over-refusal of benign twins:", "not measured: the seeds have no twins")]


def _line(rate: Rate, word: str) -> str:
    decided = rate.bad + rate.good
    text = f"{rate.bad} of {decided} {word}"
    if decided:
        text += f": {rate.counted.text('.1%')}, corrected {rate.corrected.text('.1%')}"
    if rate.undetermined:
        text += f"; {rate.undetermined} undetermined, {100 * (rate.at_worst or 0):.1f}% if all of them {word}"
    return text
