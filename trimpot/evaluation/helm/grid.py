"""The grid: every scenario by every metric group, and the share of its cells that was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trimpot.core.progress import Progress, ignore
from trimpot.evaluation.helm.bias import bias_cell
from trimpot.evaluation.helm.calibration import calibration_cell
from trimpot.evaluation.helm.cell import GROUPS, Cell, Group, not_measured, of_group, own_scores, unperturbed
from trimpot.evaluation.helm.detector import toxicity_detector
from trimpot.evaluation.helm.efficiency import efficiency_cell
from trimpot.evaluation.helm.toxicity import toxicity_cell
from trimpot.evaluation.helm.worst_case import worst_case_cell
from trimpot.evaluation.summary import score_of
from trimpot.store.outcomes import STATUSES, Outcome


@dataclass(frozen=True)
class Grid:
    """Cells by scenario, then by group in HELM's order. ``scenarios`` are families of tasks (``choice`` of
    ``choice/facts``), in the order they were evaluated. ``pooled_calibration`` is that of all scenarios' answers
    together, since one scenario seldom has the 300 that an ECE needs; it is no cell of the grid."""

    scenarios: tuple[str, ...]
    cells: tuple[Cell, ...]
    pooled_calibration: Cell

    def cell(self, scenario: str, group: Group) -> Cell:
        """One cell. Raises KeyError for a scenario or group that the grid does not have."""
        for one in self.cells:
            if (one.scenario, one.group) == (scenario, group):
                return one
        raise KeyError((scenario, group))

    @property
    def measured(self) -> int:
        """How many cells have a value."""
        return sum(one.measured for one in self.cells)

    @property
    def coverage(self) -> float | None:
        """Measured cells / all cells, in [0, 1]; HELM's 96.0% is this kind of figure. None for an empty grid."""
        return self.measured / len(self.cells) if self.cells else None

    def as_dict(self) -> dict[str, Any]:
        """The grid as a JSON-able object, with the toxicity detector's rates where it was used."""
        used = any(one.details.get("detector") for one in self.cells)
        return {
            "groups": list(GROUPS),
            "scenarios": list(self.scenarios),
            "coverage": {"measured": self.measured, "cells": len(self.cells), "share": self.coverage},
            "cells": [one.as_dict() for one in self.cells],
            "pooled_calibration": self.pooled_calibration.as_dict(),
            "toxicity_detector": toxicity_detector().as_dict() if used else None,
        }


def grid(outcomes: Sequence[Outcome], flops_per_token: float | None, progress: Progress = ignore) -> Grid:
    """HELM's seven metric groups on every scenario of an outcome table.

    Args:
        flops_per_token: of the model's forward pass; None where unknown.
        progress: is told of scenarios.

    Edge cases: no outcomes: an empty grid, whose coverage is None. Tasks of one family whose scores run in opposite
    directions are two scenarios, the second named "(lower is better)".
    """
    families = scenarios_of(outcomes)
    cells: list[Cell] = []
    for number, (scenario, some) in enumerate(families.items()):
        cells += _row(scenario, some, flops_per_token)
        progress(number + 1, len(families))
    return Grid(tuple(families), tuple(cells), calibration_cell("all scenarios", outcomes))


def family_of(task: str) -> str:
    """The scenario that a task belongs to: what stands before the first "/", or the whole name."""
    return task.split("/", 1)[0]


def scenarios_of(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Scenario -> its outcomes, in the order they were evaluated; all of one have one direction of scores."""
    families: dict[str, list[Outcome]] = {}
    for name, one in zip(_scenario_names(outcomes), outcomes, strict=True):
        families.setdefault(name, []).append(one)
    return families


def _scenario_names(outcomes: Sequence[Outcome]) -> list[str]:
    """Each outcome's scenario."""
    directions: dict[str, set[str]] = {}
    for one in outcomes:
        directions.setdefault(family_of(one.task), set()).add(one.better)
    return [
        f"{family_of(one.task)} (lower is better)"
        if one.better == "lower" and len(directions[family_of(one.task)]) > 1
        else family_of(one.task)
        for one in outcomes
    ]


def _row(scenario: str, outcomes: Sequence[Outcome], flops_per_token: float | None) -> list[Cell]:
    return [
        _accuracy(scenario, outcomes),
        _or_own(calibration_cell(scenario, outcomes), outcomes),
        _or_own(worst_case_cell(scenario, "robustness", outcomes), outcomes),
        _or_own(worst_case_cell(scenario, "fairness", outcomes), outcomes),
        bias_cell(scenario, outcomes),
        toxicity_cell(scenario, outcomes),
        efficiency_cell(scenario, outcomes, flops_per_token),
    ]


def _or_own(cell: Cell, outcomes: Sequence[Outcome]) -> Cell:
    """The cell, or where it was not measured the scores of tasks that say they are of its group."""
    return cell if cell.measured else own_scores(cell.scenario, cell.group, outcomes) or cell


def _accuracy(scenario: str, outcomes: Sequence[Outcome]) -> Cell:
    """The mean score of the items as they stand; those without a score are counted and no part of it."""
    some = unperturbed(of_group(outcomes))
    value = score_of(some)
    if value.value is None:
        counts = Counter(one.status for one in some)
        shown = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
        why = f"no answer has a score: {shown}" if some else "its tasks measure something else"
        return not_measured(scenario, "accuracy", why)
    statuses = {status: sum(one.status == status for one in some) for status in STATUSES}
    unscored = sum(one.score is None for one in some)
    notes = (f"{unscored} of {len(some)} answers have no score and are no part of it.",) if unscored else ()
    details = {"answers": len(some), "tasks": sorted({one.task for one in some}), "statuses": statuses}
    return Cell(scenario, "accuracy", "mean score", value, some[0].better, details, notes=notes)
