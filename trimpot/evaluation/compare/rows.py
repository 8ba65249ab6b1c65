"""A row of a comparison: one set of paired items, from scores to a difference."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from trimpot.core.stats import Estimate
from trimpot.evaluation.compare.result import Counts, RowKey
from trimpot.evaluation.compare.table import Flags, Numbers, PairTable
from trimpot.statistics.arrays import Floats
from trimpot.statistics.clustered import FEW_CLUSTERS, MeanDifference, clustered_difference, flip_size
from trimpot.statistics.drift import NoiseFloor, noise_floor
from trimpot.statistics.paired import Flips, flips
from trimpot.statistics.seeds import seeded_difference

MOST_VALUES = 200
"""A slice with more values than that is an id, not a slice."""


@dataclass(frozen=True)
class Selected:
    """The paired items of a row. ``clusters`` is None where every item is its own.

    Shapes: a [seeds, n], b [seeds, n] as they were scored; clusters [n]; ``places`` [n] of the items in the table.
    ``sign`` is −1 where a lower score is better.
    """

    a: Floats
    b: Floats
    sign: float
    clusters: Numbers | None
    places: Numbers

    @property
    def difference(self) -> MeanDifference:
        """The improvement from a to b, sign·(b − a), with its error."""
        if not self.places.size:
            return clustered_difference([])
        flip = flip_size(self.a.mean(axis=0), self.b.mean(axis=0))
        return seeded_difference(self.sign * self.a, self.sign * self.b, self.clusters, flip)


def row_keys(table: PairTable, only: tuple[str, ...], warnings: list[str]) -> list[tuple[RowKey, Flags]]:
    """Which rows there are, each with the flags of its items, asked of either side.

    Of every metric group: all items as they stand; each task, if there are several; each value of every slice that has
    several; each perturbation. ``only``: slices by name ("task" and "perturbation" are names too). Of slices that hold
    the same items the first stands for all: a difference that is tested twice would count twice in the correction. For
    the same reason slices and perturbations of fewer than 5 clusters, which could show next to nothing, are left out
    and counted in ``warnings``, unless ``only`` asks for them.
    """
    found: list[tuple[RowKey, Flags]] = []
    for group in dict.fromkeys(table.groups.tolist()):
        inside = table.groups == group
        plain = inside & table.unperturbed
        if plain.any():
            found.append((RowKey(group, "all"), plain))
        if not (inside & table.paired).any():
            continue
        found += _split(group, "task", "task", table.tasks, plain, only, warnings)
        for name, values in sorted(table.slices.items()):
            if name != "task" or "task" not in only:
                found += _split(group, "slice", name, values, plain, only, warnings)
        changed = inside & ~table.unperturbed
        if not only or "perturbation" in only:
            names = sorted(set(table.perturbations[changed].tolist()))
            found += [
                (RowKey(group, "perturbation", "perturbation", name), changed & (table.perturbations == name))
                for name in names
            ]
    first: dict[tuple[str, bytes], RowKey] = {}
    found = [(key, inside) for key, inside in found if first.setdefault((key.group, inside.tobytes()), key) is key]
    return found if only else _large_enough(table, found, warnings)


def _large_enough(
    table: PairTable, keyed: list[tuple[RowKey, Flags]], warnings: list[str]
) -> list[tuple[RowKey, Flags]]:
    found, small = [], Counter[tuple[str, str]]()
    for key, inside in keyed:
        clusters = np.unique(table.clusters[inside & table.paired]).size
        if key.kind in ("slice", "perturbation") and clusters < FEW_CLUSTERS:
            small[key.group, key.name] += 1
        else:
            found.append((key, inside))
    for group in dict.fromkeys(group for group, _ in small):
        counts = ", ".join(f"{name} ({count})" for (of, name), count in small.items() if of == group)
        few = f"slices of fewer than {FEW_CLUSTERS} items or clusters are not compared"
        warnings.append(f"{group}: {few}: {counts}; --slice NAME does")
    return found


def _split(
    group: str, kind: str, name: str, values: np.ndarray, inside: Flags, only: tuple[str, ...], warnings: list[str]
) -> list[tuple[RowKey, Flags]]:
    if only and name not in only:
        return []
    present = sorted({value for value in values[inside].tolist() if value is not None})
    if len(present) > MOST_VALUES:
        warnings.append(
            f"{name} has {len(present)} values in {group}: it is not compared by slice (at most {MOST_VALUES})"
        )
        return []
    if len(present) < 2 and not only and inside[inside].size == sum(value is not None for value in values[inside]):
        return []  # one value for all items: the same row as "all"
    return [(RowKey(group, kind, name, value), inside & (values == value)) for value in present]


def select(table: PairTable, inside: Flags) -> Selected:
    """The paired items among ``inside``."""
    places = np.flatnonzero(inside & table.paired)
    clusters = table.clusters[places]
    return Selected(
        table.a.scores[:, places],
        table.b.scores[:, places],
        float(table.sign[places[0]]) if places.size else 1.0,
        None if np.unique(clusters).size == clusters.size else clusters,
        places,
    )


def counts(table: PairTable, inside: Flags) -> Counts:
    """What became of the items of a row."""
    a_any, b_any = table.a.asked.any(axis=0), table.b.asked.any(axis=0)
    everywhere = table.a.asked.all(axis=0) & table.b.asked.all(axis=0)
    return Counts(
        paired=int((inside & table.paired).sum()),
        only_a=int((inside & a_any & ~b_any).sum()),
        only_b=int((inside & b_any & ~a_any).sum()),
        seeds=int((inside & a_any & b_any & ~everywhere).sum()),
        unscored=int((inside & everywhere & ~table.paired).sum()),
        failed_a=int(table.a.failed[inside].sum()),
        failed_b=int(table.b.failed[inside].sum()),
    )


def flips_of(chosen: Selected) -> Flips:
    """Items that improved (gained) and that got worse (lost); McNemar's p for independent items scored 0 or 1."""
    a, b = chosen.a.mean(axis=0), chosen.b.mean(axis=0)
    binary = np.isin(np.concatenate([a, b]), (0.0, 1.0)).all()
    if binary and chosen.clusters is None and chosen.places.size:
        return flips(b, a) if chosen.sign > 0 else flips(1 - b, 1 - a)
    change = chosen.sign * (b - a)
    return Flips(int((change > 0).sum()), int((change < 0).sum()), None)


def parse_failures(table: PairTable, chosen: Selected, level: float) -> tuple[float | None, float | None, Estimate]:
    """Shares of answers that could not be read, and their change (positive: B has more) on the paired items."""
    a, b = table.a.parse_failed[chosen.places], table.b.parse_failed[chosen.places]
    if not chosen.places.size:
        return None, None, Estimate(None, None, None, 0, "paired t", level)
    change = clustered_difference(b - a, chosen.clusters, flip_size(a, b))
    return float(a.mean()), float(b.mean()), change.interval(level)


def floors(table: PairTable | None, only: tuple[str, ...], level: float) -> dict[RowKey, NoiseFloor]:
    """The A/A floor of every row of the comparison of A with its twin; none without a twin."""
    found: dict[RowKey, NoiseFloor] = {}
    if table is None:
        return found
    for key, inside in row_keys(table, only, []):
        chosen = select(table, inside)
        a, b = chosen.a.mean(axis=0), chosen.b.mean(axis=0)
        clusters = None if chosen.clusters is None else chosen.clusters.tolist()
        if chosen.places.size:
            found[key] = noise_floor(chosen.sign * a, chosen.sign * b, clusters, level)
    return found
