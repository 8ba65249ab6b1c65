"""Discovered slices: found on one half of the items, and reported only if they hold on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimpot.core.seeds import seed_for, stream
from trimpot.core.stats import Estimate
from trimpot.evaluation.slices.candidates import Candidate, text_candidates, tree_candidates
from trimpot.evaluation.slices.compare import Items, excess_error, items_of
from trimpot.statistics.multiple import holm
from trimpot.store.outcomes import Outcome

ENOUGH = 80
"""Items below which nothing is looked for."""
SMALLEST = 10
"""Held-out items that a slice and the rest need to be tested."""


@dataclass(frozen=True)
class FoundSlice:
    """A slice that held on items it was not found on.

    Args:
        kind: metadata (a rule) or text (a cluster).
        items: held-out items in it. found: items of the half it was found on.
        excess: on the held-out half, its error minus that of the rest: above 0 it is worse.
        p: of excess = 0, by Holm over all candidates that were tested.
        examples: prompts of the worst held-out items in it.
    """

    name: str
    kind: str
    items: int
    found: int
    excess: Estimate
    p: float
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Discovery:
    """What was looked for in a scenario: the slices that held, how many candidates were tested, and on what."""

    scenario: str
    slices: tuple[FoundSlice, ...]
    candidates: int
    explored: int
    held_out: int

    @property
    def line(self) -> str:
        """One line for people: what was looked for and what held."""
        if not self.explored:
            return f"{self.scenario}: {self.held_out} items are too few to look for slices ({ENOUGH} are needed)"
        looked = f"{self.candidates} candidates from {self.explored} items"
        if not self.slices:
            return f"{self.scenario}: no slice discovered ({looked}, none held on the other {self.held_out})"
        return f"{self.scenario}: {len(self.slices)} of {looked} held on the other {self.held_out}"

    def as_dict(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        return {**asdict(self), "line": self.line}


def discover(scenario: str, outcomes: Sequence[Outcome], seed: int, level: float = 0.95) -> Discovery:
    """Looks for slices that err more than the rest: trees over metadata, then clusters of text.

    Clusters of items are halved at random; candidates are found on one half, at most three of either kind, and tested
    on the other: two-sided, Holm over the candidates; one is reported if p ≤ 1 − level and its excess is above 0. So on
    data without structure some slice is reported in at most 1 − level of the cases.

    Edge cases: fewer than 80 scored items: nothing is looked for. A candidate with fewer than 10 held-out items on
    either side is not tested.
    Source: ours; candidates as in slice finders (Chung et al. 2019, arXiv 1807.06068; Eyuboglu et al. 2022, arXiv
    2203.14960), which report them without a held-out test.
    """
    items = items_of(outcomes)
    if len(items) < ENOUGH:
        return Discovery(scenario, (), 0, 0, len(items))
    first, second = _halves(items, seed)
    explored, held = items.some(first), items.some(second)
    candidates = [
        *tree_candidates(explored, seed_for(seed, "slices", "tree")),
        *text_candidates(explored, seed_for(seed, "slices", "text")),
    ]
    tested = [(one, inside) for one in candidates if _testable(inside := one.inside(held))]
    differences = [excess_error(held, inside) for _, inside in tested]
    raw = [1.0 if (p := one.p_value()) is None else p for one in differences]
    found = [
        _found(one, explored, held, inside, difference.interval(level), p)
        for (one, inside), difference, p in zip(tested, differences, holm(raw), strict=True)
        if p <= 1 - level and difference.value is not None and difference.value > 0
    ]
    return Discovery(scenario, tuple(found), len(tested), len(explored), len(held))


def _found(
    one: Candidate, explored: Items, held: Items, inside: NDArray[np.bool_], excess: Estimate, p: float
) -> FoundSlice:
    places = np.flatnonzero(inside)
    worst = places[np.argsort(-held.errors[places], kind="stable")][:3]
    examples = tuple(held.outcomes[place].prompt for place in worst)
    return FoundSlice(one.name, one.kind, int(inside.sum()), int(one.inside(explored).sum()), excess, p, examples)


def _testable(inside: NDArray[np.bool_]) -> bool:
    return SMALLEST <= int(inside.sum()) <= inside.size - SMALLEST


def _halves(items: Items, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of items in either half; the items of a cluster stay together."""
    clusters = sorted(set(items.clusters.tolist()))
    stream(seed, "slices", "halves").shuffle(clusters)
    first = np.isin(items.clusters, clusters[: len(clusters) // 2])
    return np.flatnonzero(first), np.flatnonzero(~first)
