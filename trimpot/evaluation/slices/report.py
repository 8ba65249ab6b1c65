"""Slices of an evaluation for people and for --json: known ones and discovered ones, scenario by scenario."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trimpot.core.progress import Progress, ignore
from trimpot.evaluation.helm.grid import scenarios_of
from trimpot.evaluation.slices.discover import Discovery, discover
from trimpot.evaluation.slices.known import SliceRow, slice_rows
from trimpot.store.outcomes import Outcome

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class SliceReport:
    """Known slices of all scenarios, and what was discovered in each."""

    rows: tuple[SliceRow, ...]
    discoveries: tuple[Discovery, ...]

    def as_dict(self) -> dict[str, Any]:
        """The report as a JSON-able object."""
        return {
            "slices": [one.as_dict() for one in self.rows],
            "discovered": [one.as_dict() for one in self.discoveries],
        }


def slice_report(outcomes: Sequence[Outcome], seed: int, progress: Progress = ignore) -> SliceReport:
    """Known and discovered slices of every scenario that has scored items.

    Args:
        seed: of the halves that discovery uses.
        progress: is told of scenarios.
    """
    families = scenarios_of(outcomes)
    rows: list[SliceRow] = []
    discoveries = []
    for number, (scenario, some) in enumerate(families.items()):
        rows += slice_rows(scenario, some)
        found = discover(scenario, some, seed)
        if found.explored or found.held_out:
            discoveries.append(found)
        progress(number + 1, len(families))
    return SliceReport(tuple(rows), tuple(discoveries))


def slice_table(rows: Sequence[SliceRow], level: float = 0.05) -> Table:
    """A rich table of the slices that differ from the rest (p ≤ level), worst first."""
    from rich.table import Table

    table = Table("scenario", "slice", "items", "score", "error above the rest [95% interval]", "p (Holm)")
    differing = [one for one in rows if one.p is not None and one.p <= level]
    for one in sorted(differing, key=lambda row: -(row.excess.value or 0.0)):
        table.add_row(
            one.scenario, one.name, str(one.items), _number(one.score.value), one.excess.text("+.3f"), f"{one.p:.3f}"
        )
    return table


def discovery_lines(discoveries: Sequence[Discovery]) -> list[str]:
    """A line for each scenario, and one for every slice that held."""
    lines = []
    for one in discoveries:
        lines.append(one.line)
        lines += [
            f"  {slice_.name} ({slice_.kind}, {slice_.items} held-out items): error {slice_.excess.value:+.3f} "
            f"[{slice_.excess.low:+.3f}, {slice_.excess.high:+.3f}] above the rest, p {slice_.p:.3f}"
            for slice_ in one.slices
        ]
    return lines


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"
