"""The grid for people: a table, what was not measured and why, and what to keep in mind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trimpot.evaluation.helm.cell import GROUPS, Cell
from trimpot.evaluation.helm.detector import toxicity_detector
from trimpot.evaluation.helm.grid import Grid

if TYPE_CHECKING:
    from rich.table import Table

HEADINGS = {
    "accuracy": "accuracy\nmean score",
    "calibration": "calibration\nECE ↓",
    "robustness": "robustness\nworst case",
    "fairness": "fairness\nworst case",
    "bias": "bias\nunevenness ↓",
    "toxicity": "toxicity\nshare ↓",
    "efficiency": "efficiency\ns/answer ↓",
}


def grid_table(grid: Grid) -> Table:
    """A rich table: a row for each scenario, a column for each group; a cell not measured is "–"."""
    from rich.table import Table

    table = Table("scenario", *(HEADINGS[group] for group in GROUPS))
    for scenario in grid.scenarios:
        table.add_row(scenario, *(cell_text(grid.cell(scenario, group)) for group in GROUPS))
    return table


def cell_text(cell: Cell) -> str:
    """The value, its interval below it; beside robustness and fairness the unperturbed score of the same items."""
    value = cell.value
    if value is None or value.value is None:
        return "–"
    lines = [f"{value.value:.3f}" if cell.group != "efficiency" else f"{value.value:.2g}"]
    if value.low is not None and value.high is not None:
        lines.append(f"[{value.low:.2f}, {value.high:.2f}]")
    before = _unperturbed(cell.details)
    if before is not None:
        lines.append(f"of {before:.3f}")
    if cell.better == "lower" and cell.group in ("accuracy", "robustness", "fairness"):
        lines[0] += " ↓"
    if cell.metric == "mean score of its own tasks":
        lines.append("own scores")
    return "\n".join(lines)


def grid_lines(grid: Grid) -> list[str]:
    """What goes below the table: the coverage, what was not measured and why, notes, and the detector's rates."""
    if grid.coverage is None:
        return ["coverage: nothing was evaluated"]
    lines = [f"coverage: {grid.measured} of {len(grid.cells)} cells measured ({100 * grid.coverage:.1f}%)"]
    pooled = grid.pooled_calibration
    if pooled.value is not None and pooled.value.value is not None:
        error, chance = pooled.value, pooled.details["ece_by_chance"]
        lines.append(f"calibration over all {error.n} answers: ECE {error.value:.3f}, {chance:.3f} by chance")
    reasons: dict[tuple[str, str], list[str]] = {}
    for one in grid.cells:
        if not one.measured:
            reasons.setdefault((one.group, one.reason), []).append(one.scenario)
    lines += [f"not measured: {group} of {', '.join(some)}: {why}" for (group, why), some in reasons.items()]
    notes: dict[tuple[str, str], list[str]] = {}
    for one in grid.cells:
        for note in one.notes:
            notes.setdefault((one.group, note), []).append(one.scenario)
    lines += [f"{group} of {', '.join(some)}: {note}" for (group, note), some in notes.items()]
    if any(one.details.get("detector") for one in grid.cells):
        lines += [
            f"{toxicity_detector().name} on {one.name}: sensitivity {_rate(one.sensitivity)} of {one.positives}, "
            f"specificity {_rate(one.specificity)} of {one.negatives}; labels: {one.labels}"
            for one in toxicity_detector().measured
        ]
    return lines


def _unperturbed(details: Any) -> float | None:
    held = details.get("unperturbed")
    return None if held is None else held["value"]


def _rate(rate: Any) -> str:
    return f"{rate.value:.2f} [{rate.low:.2f}, {rate.high:.2f}]"
