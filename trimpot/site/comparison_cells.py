"""The cells of a comparison's heat map: rows are slices, columns are the items as they stand and perturbed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from trimpot.core.stats import Estimate
from trimpot.evaluation.compare.result import Comparison, Counts, Row, RowKey, items_to_decide
from trimpot.evaluation.compare.rows import counts, flips_of, row_keys, select
from trimpot.evaluation.compare.table import Flags, Numbers, PairTable
from trimpot.site.decimals import decimal, improvement, p_value
from trimpot.statistics.clustered import FEW_CLUSTERS
from trimpot.statistics.paired import Flips

AS_THEY_STAND = "as they stand"
ALL = RowKey("", "all").label
NO_VERDICT = "none: not one of the rows that are tested and corrected"
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Cell:
    """The items of one slice in one form, asked of either side.

    Args:
        group, name, value, column: where it stands; ``name`` and ``value`` as in difficulty=hard, or "all".
        places: its items in the table.
        difference: the improvement from A to B with its interval; value None: not measured, and ``why`` says why.
        row: the comparison's row; None where the comparison has none (a slice under a perturbation), and then there
            is no verdict.
        shade: the improvement as a part of the largest of the group, in [-1, 1]; None where there is none.
    """

    group: str
    name: str
    value: str
    column: str
    places: Numbers
    difference: Estimate
    counts: Counts
    flips: Flips
    row: Row | None
    why: str = ""
    shade: float | None = None

    @property
    def label(self) -> str:
        return self.value if self.name == ALL else f"{self.name}={self.value}"

    @property
    def key(self) -> tuple[str, str, str]:
        """Names the cell within the page."""
        return self.group, self.label, self.column

    @property
    def verdict(self) -> str | None:
        """The comparison's, or None where it has none or nothing was measured."""
        return None if self.row is None or self.difference.value is None else self.row.verdict


@dataclass(frozen=True)
class HeatMap:
    """One metric group: ``rows`` of cells, a cell per column; ``reach`` is the difference with the full colour."""

    group: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    reach: float

    @property
    def blocks(self) -> dict[str, list[tuple[Cell, ...]]]:
        """The rows by the name of their slice, in order."""
        found: dict[str, list[tuple[Cell, ...]]] = {}
        for row in self.rows:
            found.setdefault(row[0].name, []).append(row)
        return found


def heat_maps(found: Comparison, table: PairTable) -> tuple[HeatMap, ...]:
    """A map for every metric group, rows in the order of the comparison: all, tasks, slices.

    Columns are the items as they stand and every perturbation that the comparison has a row for. What a slice does
    under a perturbation is no row of the comparison: it is shown with its interval and without a verdict, since it was
    not tested nor corrected for. The full colour is the group's largest difference, or twice the margin if that is
    more, so that noise does not shine.

    Args:
        found: of ``table``, with the same settings.

    Edge cases: no paired items, or fewer than 5 of them (or clusters) outside the comparison's rows: not measured.
    """
    keyed = row_keys(table, found.settings.slices, [])
    rows = {row.key: row for row in found.rows}
    return tuple(
        _heat_map(table, rows, [one for one in keyed if one[0].group == group], found.settings.margin, level(found))
        for group in dict.fromkeys(key.group for key, _ in keyed)
    )


def level(found: Comparison) -> float:
    """Of the intervals that the comparison shows."""
    return 1 - found.settings.alpha


def _heat_map(
    table: PairTable, rows: Mapping[RowKey, Row], keyed: list[tuple[RowKey, Flags]], margin: float, level: float
) -> HeatMap:
    group = keyed[0][0].group
    forms = {key.value: inside for key, inside in keyed if key.kind == "perturbation"}
    plain = [(key, inside) for key, inside in keyed if key.kind != "perturbation"]
    if not plain or plain[0][0].kind != "all":
        plain.insert(0, (RowKey(group, "all"), (table.groups == group) & table.unperturbed))
    made = []
    for key, inside in plain:
        cells = [_cell(table, key, AS_THEY_STAND, inside, rows.get(key), level)]
        for form, perturbed in forms.items():
            row = rows.get(RowKey(group, "perturbation", "perturbation", form)) if key.kind == "all" else None
            cells.append(_cell(table, key, form, perturbed & _of_slice(table, key), row, level))
        made.append(tuple(cells))
    sizes = [abs(one.difference.value) for cells in made for one in cells if one.difference.value is not None]
    reach = max([2 * margin, *sizes]) or 1.0
    shaded = tuple(tuple(_shaded(one, reach) for one in cells) for cells in made)
    return HeatMap(group, (AS_THEY_STAND, *forms), shaded, reach)


def _of_slice(table: PairTable, key: RowKey) -> Flags:
    if key.kind == "all":
        return np.ones(table.groups.size, bool)
    values = table.tasks if key.kind == "task" else table.slices[key.name]
    return np.asarray(values == key.value)


def _cell(table: PairTable, key: RowKey, column: str, inside: Flags, row: Row | None, level: float) -> Cell:
    chosen, held = select(table, inside), counts(table, inside)
    name, value = (ALL, ALL) if key.kind == "all" else (key.name, key.value)
    difference = chosen.difference.interval(level) if row is None else row.interval
    why = _why(held)
    clusters = np.unique(table.clusters[chosen.places]).size
    if row is None and held.paired and clusters < FEW_CLUSTERS:
        why = f"only {held.paired} items in {clusters} clusters" if clusters < held.paired else f"only {clusters} items"
        difference = replace(difference, value=None, low=None, high=None)
    return Cell(
        key.group, name, value, column, np.flatnonzero(inside), difference, held, flips_of(chosen), row,
        why if difference.value is None else "",
    )  # fmt: skip


def _shaded(cell: Cell, reach: float) -> Cell:
    value = cell.difference.value
    return cell if value is None else replace(cell, shade=max(-1.0, min(1.0, value / reach)))


def _why(held: Counts) -> str:
    said = left_out(held)
    return said or "no such items"


def left_out(held: Counts) -> str:
    """What became of the items that are not compared, in words; empty where all are."""
    parts = [
        (held.only_a, "asked of A only"), (held.only_b, "asked of B only"), (held.seeds, "not under every seed"),
        (held.unscored, "without a score on a side"),
    ]  # fmt: skip
    return ", ".join(f"{number} {text}" for number, text in parts if number)


FACTS = (
    "items", "A", "B", "improvement", "p", "p of equivalence", "verdict", "detectable", "items to decide", "flips",
    "unreadable", "A/A floor", "left out",
)  # fmt: skip
"""The names of what is said of a cell, in this order."""


def facts(cell: Cell) -> dict[str, str]:
    """What is known of a cell in words, by the names of ``FACTS``; what is not known or not so is left out."""
    said = {
        "items": str(cell.counts.paired),
        "improvement": improvement(cell.difference),
        "verdict": cell.verdict or (NOT_MEASURED if cell.difference.value is None else NO_VERDICT),
        "flips": f"+{cell.flips.gained} −{cell.flips.lost}" if cell.counts.paired else "",
        "left out": left_out(cell.counts),
    }
    if cell.difference.value is None:
        said["improvement"] = f"{NOT_MEASURED}: {cell.why}"
    elif cell.row is not None:
        said |= _facts_of_row(cell.row)
    return {name: said[name] for name in FACTS if said.get(name)}


def _facts_of_row(row: Row) -> dict[str, str]:
    decides = items_to_decide(row)
    clustered = row.difference.clusters not in (0, row.counts.paired)
    a, b, _ = row.parse_failed
    return {
        "items": f"{row.counts.paired} in {row.difference.clusters} clusters" if clustered else str(row.counts.paired),
        "A": decimal(row.mean_a),
        "B": decimal(row.mean_b),
        "p": p_value(row.p_adjusted),
        "p of equivalence": p_value(row.p_equivalent),
        "detectable": decimal(row.detectable),
        "items to decide": "" if decides is None else str(decides),
        "unreadable": f"{100 * a:.1f}% in A, {100 * b:.1f}% in B" if a is not None and b is not None and a + b else "",
        "A/A floor": "" if row.floor is None else decimal(row.floor.floor),
    }


def answer(found: Comparison) -> list[tuple[str, str, str]]:
    """Of each metric group the verdict over all items, the group, and what it rests on: the page's first sentence.

    Example: ("better", "accuracy", "+0.031 [+0.010, +0.052], 1200 items").
    """
    return [
        (NOT_MEASURED if row.difference.value is None else row.verdict, row.key.group, _grounds(row, found))
        for row in found.rows
        if row.key.kind == "all"
    ]


def _grounds(row: Row, found: Comparison) -> str:
    if row.difference.value is None:
        return _why(row.counts)
    said = f"{improvement(row.interval)}, {row.counts.paired} items"
    if row.verdict == "equivalent":
        said += f", the margin is {found.settings.margin:g}"
    if row.verdict == "underpowered":
        decides = items_to_decide(row)
        said += f"; {decimal(row.detectable)} would have been found" if row.detectable is not None else ""
        said += f", about {decides} items would decide" if decides is not None else ""
    return said


def notes_of(rows: Iterable[Row]) -> list[str]:
    """What the rows themselves warn of."""
    return [f"{row.key.group} {row.key.label}: {note}" for row in rows for note in row.notes]
