"""A slice against the rest: how much more it errs, with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimpot.statistics.arrays import Floats
from trimpot.statistics.clustered import MeanDifference, clustered_difference, numbered
from trimpot.store.outcomes import UNPERTURBED, Outcome


@dataclass(frozen=True)
class Items:
    """The scored items of a scenario: each once, with its mean error over samples.

    Args:
        errors: −score, or the score where lower is better: larger is worse. Shapes: [n].
        clusters: numbers of the items' clusters. Shapes: [n].
        outcomes: the first outcome of each item, for its text and slices.
        binary: every score is 0 or 1.
    """

    errors: Floats
    clusters: NDArray[np.int64]
    outcomes: tuple[Outcome, ...]
    binary: bool

    def __len__(self) -> int:
        return len(self.outcomes)

    def some(self, places: NDArray[np.int64]) -> Items:
        """The items at these places."""
        kept = tuple(self.outcomes[place] for place in places)
        return Items(self.errors[places], self.clusters[places], kept, self.binary)

    def attributes(self, place: int) -> dict[str, str]:
        """An item's slices and its task, by name."""
        return {**self.outcomes[place].slices, "task": self.outcomes[place].task}


def items_of(outcomes: Sequence[Outcome]) -> Items:
    """The items of an outcome table as they stand: unperturbed, with a score, of the metric group accuracy.

    Edge cases: none give an empty table.
    """
    found: dict[tuple[str, str], list[Outcome]] = {}
    for one in outcomes:
        if one.perturbation == UNPERTURBED and one.score is not None and one.metric_group == "accuracy":
            found.setdefault((one.task, one.item), []).append(one)
    firsts = tuple(some[0] for some in found.values())
    means = [sum(float(one.score or 0.0) for one in some) / len(some) for some in found.values()]
    signs = [1.0 if one.better == "lower" else -1.0 for one in firsts]
    clusters = numbered([one.cluster for one in firsts]) if firsts else np.zeros(0, np.int64)
    errors = np.array(means) * np.array(signs)
    return Items(errors, clusters, firsts, bool(firsts) and set(means) <= {0.0, 1.0})


def excess_error(items: Items, inside: NDArray[np.bool_]) -> MeanDifference:
    """D = mean error inside a slice − mean error of all other items; above 0 the slice is worse.

    V(D) = V(inside) + V(rest), each clustered (``clustered_difference``), t with Welch and Satterthwaite's degrees of
    freedom, V(D)² / Σ V²/df. Scores of 0
    and 1: one right and one wrong item are added to either side before V and the centre are computed, so that a slice
    without an error is not claimed to have none (Agresti and Caffo). A cluster with items on both sides counts on each,
    which makes the interval too wide, not too narrow.
    Example: errors −1, −1, 0, 0 with the last two inside: D = 0 − (−1) = 1.

    Shapes: inside [n].
    Edge cases: an empty slice or rest: no value; a side of fewer than two clusters (scores other than 0 and 1), or no
    spread on either: a value without an interval.
    Source: Welch 1947; Agresti and Caffo 2000; clusters as in ``trimpot.statistics.clustered``.
    """
    sides = [_side(items, inside), _side(items, ~inside)]
    plain = [items.errors[inside], items.errors[~inside]]
    if not plain[0].size or not plain[1].size:
        return MeanDifference(None, None, (), 0, 0, "difference of means")
    value = float(plain[0].mean() - plain[1].mean())
    centre = value
    if sides[0].centre is not None and sides[1].centre is not None:
        centre = sides[0].centre - sides[1].centre
    known = [component for one in sides for component in one.components]
    variance = sum(own for own, _ in known)
    components: tuple[tuple[float, float], ...] = ()
    if len(known) == 2 and variance > 0:
        components = ((variance, variance**2 / sum(own**2 / degrees for own, degrees in known)),)
    clusters = len(set(items.clusters.tolist()))
    return MeanDifference(value, centre, components, len(items), clusters, "difference of means, Welch, clustered")


def _side(items: Items, inside: NDArray[np.bool_]) -> MeanDifference:
    errors, clusters = items.errors[inside], items.clusters[inside]
    if not items.binary:
        return clustered_difference(errors, clusters)
    one, other = (0.0, 1.0) if items.outcomes[0].better == "lower" else (-1.0, 0.0)
    fresh = int(items.clusters.max()) + 1
    return clustered_difference(np.append(errors, [one, other]), np.append(clusters, [fresh, fresh + 1]))
