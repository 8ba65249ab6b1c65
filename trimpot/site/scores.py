"""Arithmetic on outcomes: accuracy, difference to the base model, slices, the same prompt side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trimpot.core.hashing import content_hash
from trimpot.core.stats import Estimate
from trimpot.statistics.intervals import wilson
from trimpot.statistics.paired import flips, paired_difference
from trimpot.store.outcomes import UNPERTURBED, Outcome

RIGHT, WRONG, PARSE_FAILED, ERROR, UNSCORED = "right", "wrong", "parse failed", "error", "unscored"
COUNTED = (RIGHT, WRONG, PARSE_FAILED)
"""An output without a readable answer is a task not solved: it counts against accuracy, and is counted apart too."""
SHOWN_PER_GROUP = {"gained": 4, "lost": 4, "right in both": 2, "wrong in both": 2}

Key = tuple[str, str, str, int]


@dataclass(frozen=True)
class Evaluation:
    """How one stage's model did; ``difference`` and flips are against the base model on the items of both."""

    items: int
    right: int
    accuracy: Estimate
    parse_failures: int
    errors: int
    unscored: int
    difference: Estimate | None = None
    gained: int | None = None
    lost: int | None = None
    p_value: float | None = None


@dataclass(frozen=True)
class SliceRow:
    """Accuracy on the items with one value of one slice, one Estimate per evaluated stage."""

    name: str
    value: str
    cells: tuple[Estimate, ...]


@dataclass(frozen=True)
class Answer:
    """What one stage's model answered."""

    stage: str
    output: str
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """One prompt and the answers of the evaluated stages; ``group`` says what became of it, base to last."""

    task: str
    item: str
    group: str
    prompt: str
    expected: str
    answers: tuple[Answer, ...]


def verdict_of(outcome: Outcome) -> str:
    """right (score 1), wrong, parse failed, error or unscored. A partial score is wrong."""
    if outcome.status == "parse_failed":
        return PARSE_FAILED
    if outcome.status == "error":
        return ERROR
    if outcome.status == "unscored" or outcome.score is None:
        return UNSCORED
    return RIGHT if outcome.score >= 1.0 else WRONG


def accuracy(outcomes: Sequence[Outcome]) -> Estimate:
    """Right answers over counted items, with the Wilson interval. No items: value None."""
    verdicts = [verdict_of(outcome) for outcome in outcomes]
    return wilson(verdicts.count(RIGHT), sum(verdict in COUNTED for verdict in verdicts))


def evaluate(outcomes: Sequence[Outcome], base: Sequence[Outcome] | None) -> Evaluation:
    """The numbers of one stage on its unperturbed items, paired item by item with the base model's if given."""
    plain = unperturbed(outcomes)
    verdicts = [verdict_of(outcome) for outcome in plain]
    counts: dict[str, Any] = {
        "items": sum(verdict in COUNTED for verdict in verdicts),
        "right": verdicts.count(RIGHT),
        "parse_failures": verdicts.count(PARSE_FAILED),
        "errors": verdicts.count(ERROR),
        "unscored": verdicts.count(UNSCORED),
    }
    here, there = _keyed(plain), _keyed(unperturbed(base or ()))
    both = [key for key in here if key in there and _is_counted(here[key]) and _is_counted(there[key])]
    if not both:
        return Evaluation(accuracy=accuracy(plain), **counts)
    now = [float(verdict_of(here[key]) == RIGHT) for key in both]
    before = [float(verdict_of(there[key]) == RIGHT) for key in both]
    # An item without a cluster is independent of the others.
    clusters = [here[key].cluster or key for key in both]
    difference = paired_difference(now, before, clusters if len(set(clusters)) < len(both) else None)
    flipped = flips(now, before)
    return Evaluation(
        accuracy=accuracy(plain),
        difference=difference,
        gained=flipped.gained,
        lost=flipped.lost,
        p_value=flipped.p_value,
        **counts,
    )


def unperturbed(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The items as they stand."""
    return [outcome for outcome in outcomes if outcome.perturbation == UNPERTURBED]


def slice_rows(by_stage: Mapping[str, Sequence[Outcome]]) -> tuple[SliceRow, ...]:
    """Accuracy by task, by each slice of the unperturbed items, and by perturbation where there is one."""
    members: dict[tuple[str, str], dict[str, list[Outcome]]] = {}
    perturbed = any(outcome.perturbation != UNPERTURBED for outcomes in by_stage.values() for outcome in outcomes)
    for stage, outcomes in by_stage.items():
        for outcome in outcomes:
            for name_and_value in _slices_of(outcome, perturbed):
                members.setdefault(name_and_value, {}).setdefault(stage, []).append(outcome)
    first = {name: position for position, name in enumerate(dict.fromkeys(name for name, _ in members))}
    ordered = sorted(members, key=lambda pair: (first[pair[0]], pair[1]))
    return tuple(
        SliceRow(name, value, tuple(accuracy(members[name, value].get(stage, [])) for stage in by_stage))
        for name, value in ordered
    )


def _slices_of(outcome: Outcome, perturbed: bool) -> list[tuple[str, str]]:
    named = [("perturbation", outcome.perturbation)] if perturbed else []
    if outcome.perturbation != UNPERTURBED:
        return named
    return [*{"task": outcome.task, **outcome.slices}.items(), *named]


def side_by_side(by_stage: Mapping[str, Sequence[Outcome]]) -> tuple[Comparison, ...]:
    """A few prompts that the first and the last evaluated stage share, some of each group.

    Which ones is decided by a hash of the item, not by hand and not by their order in the file.
    """
    keyed = {stage: _keyed(unperturbed(outcomes)) for stage, outcomes in by_stage.items()}
    if not keyed:
        return ()
    first, last = next(iter(keyed.values())), next(reversed(keyed.values()))
    groups: dict[str, list[Key]] = {name: [] for name in SHOWN_PER_GROUP}
    for key in sorted(first, key=content_hash):
        if key in last:
            groups[_group(first[key], last[key])].append(key)
    chosen = [(name, key) for name, keys in groups.items() for key in keys[: SHOWN_PER_GROUP[name]]]
    return tuple(_comparison(group, key, keyed) for group, key in chosen)


def _group(before: Outcome, after: Outcome) -> str:
    was, is_now = verdict_of(before) == RIGHT, verdict_of(after) == RIGHT
    if was == is_now:
        return "right in both" if was else "wrong in both"
    return "gained" if is_now else "lost"


def _comparison(group: str, key: Key, keyed: Mapping[str, Mapping[Key, Outcome]]) -> Comparison:
    found = {stage: outcomes[key] for stage, outcomes in keyed.items() if key in outcomes}
    shown = next(iter(found.values()))
    answers = tuple(Answer(stage, outcome.output, verdict_of(outcome)) for stage, outcome in found.items())
    return Comparison(shown.task, shown.item, group, shown.prompt, shown.expected, answers)


def _keyed(outcomes: Sequence[Outcome]) -> dict[Key, Outcome]:
    """Outcomes by task, item, perturbation and, where an item was tried several times, the number of the try."""
    tries: dict[tuple[str, str, str], int] = {}
    keyed: dict[Key, Outcome] = {}
    for outcome in outcomes:
        name = (outcome.task, outcome.item, outcome.perturbation)
        tries[name] = tries.get(name, 0) + 1
        keyed[(*name, tries[name])] = outcome
    return keyed


def _is_counted(outcome: Outcome) -> bool:
    return verdict_of(outcome) in COUNTED
