"""Slices from metadata: a score for every value, and for crossings of two names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from trimpot.core.errors import UsageError, nearest
from trimpot.core.stats import Estimate
from trimpot.evaluation.slices.compare import Items, excess_error, items_of
from trimpot.evaluation.summary import score_of
from trimpot.statistics.multiple import holm
from trimpot.store.outcomes import Outcome

SMALLEST = 20
"""Items below which a crossing is not shown."""


@dataclass(frozen=True)
class SliceRow:
    """A slice of a scenario.

    Args:
        name: ``difficulty=hard``, or of a crossing ``difficulty=hard & kind=sum``.
        score: the mean score of its items, with an interval.
        excess: its error minus the error of the scenario's other items; above 0 it is worse.
        p: of excess = 0, by Holm over all rows of the scenario; None where nothing can be said.
    """

    scenario: str
    name: str
    items: int
    score: Estimate
    excess: Estimate
    p: float | None
    better: str

    def as_dict(self) -> dict[str, Any]:
        """The row as a JSON-able object."""
        return asdict(self)


def slice_rows(scenario: str, outcomes: Sequence[Outcome], smallest: int = SMALLEST) -> list[SliceRow]:
    """The slices of a scenario: every value of every name, ``task`` too, then crossings of two.

    A slice that holds all items says nothing and is left out, as is a crossing that holds the same items as one of its
    two parts, or fewer than ``smallest``.

    Edge cases: no scored items: no rows.
    """
    items = items_of(outcomes)
    held = _values(items)
    singles = {key: inside for key, inside in held.items() if not inside.all()}
    inside_of = {f"{name}={value}": inside for (name, value), inside in singles.items()}
    for (first, a), (second, b) in combinations(singles.items(), 2):
        both = a & b
        if first[0] != second[0] and both.sum() >= smallest and not (both == a).all() and not (both == b).all():
            inside_of[f"{first[0]}={first[1]} & {second[0]}={second[1]}"] = both
    excesses = {name: excess_error(items, inside) for name, inside in inside_of.items()}
    raw = {name: one.p_value() for name, one in excesses.items()}
    known = [name for name, p in raw.items() if p is not None]
    adjusted = dict(zip(known, holm(p for p in raw.values() if p is not None), strict=True))
    scored = _scored(outcomes, items)
    return [
        SliceRow(
            scenario,
            name,
            int(inside.sum()),
            score_of([one for place in np.flatnonzero(inside) for one in scored[place]]),
            excesses[name].interval(),
            adjusted.get(name),
            items.outcomes[0].better,
        )
        for name, inside in inside_of.items()
    ]


def selected(outcomes: Sequence[Outcome], wanted: str) -> list[Outcome]:
    """The outcomes in a slice, written ``name=value`` or ``name=value & name=value``; ``task`` is a name too.

    Raises:
        UsageError: the slice is not written so, or it is empty; one line that names what there is.
    """
    parts = [part.strip() for part in wanted.split("&")]
    if any("=" not in part for part in parts):
        raise UsageError(f"slice {wanted!r}", "is not name=value", "Write name=value, or name=value & name=value.")
    pairs = [(name.strip(), value.strip()) for name, value in (part.split("=", 1) for part in parts)]
    found = [one for one in outcomes if all(_holds(one, name, value) for name, value in pairs)]
    if not found:
        known = {f"{name}={value}" for one in outcomes for name, value in _attributes(one)}
        unknown = [part for part, pair in zip(parts, pairs, strict=True) if f"{pair[0]}={pair[1]}" not in known]
        mend = nearest(unknown[0], known) if unknown and known else "Leave one of its parts out."
        raise UsageError(f"slice {wanted!r}", "has no items", mend)
    return found


def _attributes(outcome: Outcome) -> Iterable[tuple[str, str]]:
    return {**outcome.slices, "task": outcome.task}.items()


def _holds(outcome: Outcome, name: str, value: str) -> bool:
    return dict(_attributes(outcome)).get(name) == value


def _values(items: Items) -> dict[tuple[str, str], np.ndarray]:
    """(name, value) -> which items it holds [n], by name and value."""
    found: dict[tuple[str, str], np.ndarray] = {}
    for place in range(len(items)):
        for pair in items.attributes(place).items():
            found.setdefault(pair, np.zeros(len(items), bool))[place] = True
    return dict(sorted(found.items()))


def _scored(outcomes: Sequence[Outcome], items: Items) -> list[list[Outcome]]:
    """Of every item its outcomes that ``items_of`` counts."""
    places = {(one.task, one.item): place for place, one in enumerate(items.outcomes)}
    found: list[list[Outcome]] = [[] for _ in items.outcomes]
    for one in outcomes:
        place = places.get((one.task, one.item))
        same = place is not None and one.perturbation == items.outcomes[place].perturbation
        if place is not None and same and one.score is not None and one.metric_group == "accuracy":
            found[place].append(one)
    return found
