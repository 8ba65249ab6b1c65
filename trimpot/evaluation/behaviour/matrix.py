"""The failure matrix capability × type × checkpoint, and two checkpoints test by test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trimpot.core.stats import Estimate
from trimpot.evaluation.behaviour.expectations import Verdict
from trimpot.evaluation.behaviour.run import BehaviourRun, CaseResult, verdicts_of
from trimpot.statistics.intervals import wilson
from trimpot.statistics.multiple import holm
from trimpot.statistics.paired import Flips, flips, paired_difference

SHOWN = 3
"""Examples of a cell: failing ones, and as many whose answer could not be read."""


@dataclass(frozen=True)
class Shown:
    """The example that decided a case, with the original beside it where the test compares with one.

    ``change`` is how the example was made of the original; ``expected`` its label, if it has one.
    """

    test: str
    text: str
    output: str
    expected: str | None
    change: str
    original: str | None
    original_output: str | None


@dataclass(frozen=True)
class Cell:
    """Cases that came out how, of one capability and type, or of one test, on one checkpoint.

    ``failure``: failed / (passed + failed) with its Wilson interval, a proportion; value None where no case was judged.
    ``unparsed`` and ``filtered`` are no part of it, and stand beside it. ``failure_at_most``: (failed + unparsed) /
    (passed + failed + unparsed), the rate if every unreadable answer was a failure; None without any.

    The interval holds for more cases of these templates, taken as independent; not for other templates. ``trimpot
    compare`` takes the templates as clusters.
    """

    capability: str
    type: str
    test: str | None
    checkpoint: str
    passed: int
    failed: int
    unparsed: int
    filtered: int
    failure: Estimate
    failure_at_most: float | None
    examples: tuple[Shown, ...]
    unread: tuple[Shown, ...]


def matrix(runs: Sequence[BehaviourRun]) -> list[Cell]:
    """A cell for every capability and type that the suite has, and every checkpoint.

    Example: 4 cases passed, 1 failed, 1 unparsed, 2 filtered: failure 1/5 = 20%, at most 2/6 = 33%.
    """
    return _cells(runs, lambda result: (result.test.capability, result.test.type, None))


def by_test(runs: Sequence[BehaviourRun]) -> list[Cell]:
    """A cell for every test and every checkpoint."""
    return _cells(runs, lambda result: (result.test.capability, result.test.type, result.test.name))


def _cells(runs: Sequence[BehaviourRun], key: Callable[[CaseResult], tuple[str, str, str | None]]) -> list[Cell]:
    keys = list(dict.fromkeys(key(result) for run in runs for result in run.results))
    if keys and keys[0][2] is None:
        order = list(dict.fromkeys(capability for capability, _, _ in keys))
        keys.sort(key=lambda one: (order.index(one[0]), ("MFT", "INV", "DIR").index(one[1])))
    return [
        _cell(one, run.name, [result for result in run.results if key(result) == one]) for one in keys for run in runs
    ]


def _cell(key: tuple[str, str, str | None], checkpoint: str, results: Sequence[CaseResult]) -> Cell:
    counts = verdicts_of(results)
    answered = counts["passed"] + counts["failed"] + counts["unparsed"]
    capability, kind, test = key
    return Cell(
        capability,
        kind,
        test,
        checkpoint,
        passed=counts["passed"],
        failed=counts["failed"],
        unparsed=counts["unparsed"],
        filtered=counts["filtered"],
        failure=wilson(counts["failed"], counts["passed"] + counts["failed"]),
        failure_at_most=(counts["failed"] + counts["unparsed"]) / answered if answered else None,
        examples=_examples(results, "failed"),
        unread=_examples(results, "unparsed"),
    )


def _examples(results: Sequence[CaseResult], verdict: Verdict) -> tuple[Shown, ...]:
    """Up to three cases: the first of every test, then the second of every test, and so on."""
    seen: dict[str, int] = {}
    turns: list[tuple[int, CaseResult]] = []
    for result in results:
        if result.verdict == verdict:
            turn = seen[result.test.name] = seen.get(result.test.name, 0) + 1
            turns.append((turn, result))
    turns.sort(key=lambda one: one[0])
    return tuple(_shown(result) for _, result in turns[:SHOWN])


def _shown(result: CaseResult) -> Shown:
    at = result.decisive
    example, first = result.case.examples[at], result.case.examples[0]
    return Shown(
        result.test.name,
        _with_choices(result, at),
        result.answers[at].output,
        example.label,
        example.change,
        _with_choices(result, 0) if example is not first else None,
        result.answers[0].output if example is not first else None,
    )


def _with_choices(result: CaseResult, at: int) -> str:
    """The text, with the choices in the order shown."""
    example = result.case.examples[at]
    return example.text + (f" [{' / '.join(example.options)}]" if result.test.asking.answer == "choice" else "")


@dataclass(frozen=True)
class TestChange:
    """One test under a new checkpoint against the one before.

    Args:
        cases: compared: not filtered under either.
        filtered: left out, as one of the two could not be judged.
        flips: gained: passed now and not before; lost: the reverse; McNemar's exact p.
        adjusted_p: Holm's over all tests of the comparison; None without cases.
        unparsed: cases whose answer could not be read, (now, before): they count as not passed.
        difference: mean of passed now − passed before, with its paired interval over cases.
    """

    __test__ = False  # not a pytest class

    test: str
    capability: str
    type: str
    cases: int
    filtered: int
    flips: Flips
    adjusted_p: float | None
    unparsed: tuple[int, int]
    difference: Estimate

    @property
    def word(self) -> str:
        """better or worse where Holm's p ≤ 0.05; else undecided, which is not "the same"."""
        if self.adjusted_p is None or self.adjusted_p > 0.05:
            return "undecided"
        return "better" if self.flips.gained > self.flips.lost else "worse"


def compare_runs(new: BehaviourRun, before: BehaviourRun) -> list[TestChange]:
    """Two checkpoints test by test: flips of the same cases, p-values adjusted for the number of tests.

    An answer that cannot be read is not passed, as in outcomes; so a checkpoint that learned the form of answers gains
    by it, and ``unparsed`` shows how much.

    Raises:
        ValueError: the two have no case in common: other suites, seeds or numbers of cases.
    Source: McNemar 1947, exact; Holm 1979.
    """
    then = {result.test.item(result.case): result for result in before.results}
    pairs = [(result, then[item]) for result in new.results if (item := result.test.item(result.case)) in then]
    if not pairs:
        raise ValueError(f"{new.name} and {before.name} have no case in common")
    found = [_change([one for one in pairs if one[0].test.name == name]) for name in _names(pairs)]
    adjusted = iter(holm([flipped.p_value for _, flipped in found if flipped.p_value is not None]))
    return [
        TestChange(**fields, flips=flipped, adjusted_p=None if flipped.p_value is None else next(adjusted))
        for fields, flipped in found
    ]


def _names(pairs: Sequence[tuple[CaseResult, CaseResult]]) -> list[str]:
    return list(dict.fromkeys(now.test.name for now, _ in pairs))


def _change(pairs: Sequence[tuple[CaseResult, CaseResult]]) -> tuple[dict[str, Any], Flips]:
    kept = [pair for pair in pairs if "filtered" not in (pair[0].verdict, pair[1].verdict)]
    now = [float(first.verdict == "passed") for first, _ in kept]
    then = [float(second.verdict == "passed") for _, second in kept]
    test = pairs[0][0].test
    unparsed = tuple(sum(pair[side].verdict == "unparsed" for pair in kept) for side in (0, 1))
    fields = {
        "test": test.name,
        "capability": test.capability,
        "type": test.type,
        "cases": len(kept),
        "filtered": len(pairs) - len(kept),
        "unparsed": unparsed,
        "difference": paired_difference(now, then),
    }
    return fields, flips(now, then)


def report_json(runs: Sequence[BehaviourRun]) -> dict[str, Any]:
    """The matrix, the tests and, of two or more checkpoints, every later one against the first, as JSON has it.

    Rates are proportions in [0, 1].
    """
    return {
        "suite": runs[0].suite,
        "checkpoints": [{"name": run.name, "weights": run.weights, "seconds": run.seconds} for run in runs],
        "matrix": [asdict(cell) for cell in matrix(runs)],
        "tests": [asdict(cell) for cell in by_test(runs)],
        "comparisons": [
            {
                "new": run.name,
                "before": runs[0].name,
                "tests": [{**asdict(one), "word": one.word} for one in compare_runs(run, runs[0])],
            }
            for run in runs[1:]
        ],
    }
