"""The grid: every cell measured or explained, its coverage, and what people see."""

import json

import pytest

from tests.evaluation.helm.outcomes import outcome
from trimpot.evaluation.helm.cell import GROUPS
from trimpot.evaluation.helm.grid import family_of, grid, scenarios_of
from trimpot.evaluation.helm.show import cell_text, grid_lines, grid_table
from trimpot.store.outcomes import read_outcomes, write_outcomes


def everything():
    """A scenario with all seven groups, and one of choices with accuracy and efficiency."""
    full = [outcome(n, 1.0, "full/a", output="she is here", confidence=0.9, tokens=5, seconds=0.5) for n in range(4)]
    forms = [outcome(0, 0.0, "full/a", name, output="he", tokens=5, seconds=0.5) for name in ("mild_mix", "dialect")]
    return [*full, *forms, *(outcome(n, 0.0, "some/b", seconds=0.1) for n in range(3))]


def test_every_scenario_has_every_group_and_coverage_is_the_share_measured():
    made = grid(everything(), 100.0)
    assert made.scenarios == ("full", "some")
    assert [one.group for one in made.cells] == [*GROUPS, *GROUPS]
    assert all(made.cell("full", group).measured for group in GROUPS)
    assert [group for group in GROUPS if made.cell("some", group).measured] == ["accuracy", "efficiency"]
    assert (made.measured, made.coverage) == (9, 9 / 14)


def test_a_cell_is_measured_or_says_why_and_never_both():
    for one in grid(everything(), 100.0).cells:
        assert one.measured != bool(one.reason)


def test_the_grid_of_no_outcomes_is_empty():
    made = grid([], None)
    assert (made.cells, made.coverage) == ((), None)
    assert grid_lines(made) == ["coverage: nothing was evaluated"]


def test_accuracy_is_of_the_items_as_they_stand_and_counts_what_has_no_score():
    some = [
        outcome(1, 1.0),
        outcome(2, 0.0, status="parse_failed"),
        outcome(3, None),
        outcome(1, 0.0, perturbation="typos"),
    ]
    cell = grid(some, None).cell("t", "accuracy")
    assert cell.value.value == 0.5
    assert cell.details["statuses"] == {"ok": 1, "parse_failed": 1, "error": 0, "unscored": 1}
    assert "1 of 3 answers have no score" in cell.notes[0]


def test_accuracy_without_a_score_says_which_statuses_there_were():
    cell = grid([outcome(1, None, status="error"), outcome(2, None)], None).cell("t", "accuracy")
    assert cell.reason == "no answer has a score: 1 error, 1 unscored"


def test_scores_in_opposite_directions_are_two_scenarios():
    some = [outcome(1, 1.0, "t/a"), outcome(1, 5.0, "t/b", better="lower")]
    assert list(scenarios_of(some)) == ["t", "t (lower is better)"]
    assert list(scenarios_of(some[1:])) == ["t"]
    assert family_of("arc") == "arc"


def test_a_task_with_scores_of_its_own_fills_its_cell():
    made = grid([outcome(n, 0.25, "t/mine", metric_group="fairness") for n in range(3)], None)
    assert made.cell("t", "fairness").value.value == 0.25
    assert made.cell("t", "accuracy").reason == "its tasks measure something else"


def test_calibration_is_pooled_over_scenarios():
    some = [outcome(n, 1.0, f"s{n % 4}/a", confidence=0.9) for n in range(400)]
    made = grid(some, None)
    assert made.cell("s0", "calibration").notes
    assert not made.pooled_calibration.notes
    assert made.pooled_calibration.value.n == 400


def test_json_holds_coverage_cells_and_the_detectors_rates():
    held = json.loads(json.dumps(grid(everything(), 100.0).as_dict()))
    assert held["coverage"] == {"measured": 9, "cells": 14, "share": 9 / 14}
    assert held["toxicity_detector"]["measured"][0]["sensitivity"]["low"] > 0.7
    assert held["cells"][0]["value"]["value"] == 1.0
    assert held["cells"][-1]["details"]["seconds"] == pytest.approx(0.3)
    assert grid(everything()[-3:], None).as_dict()["toxicity_detector"] is None


def test_the_grid_is_the_same_after_a_file(tmp_path):
    write_outcomes(tmp_path / "o.parquet", everything())
    assert grid(read_outcomes(tmp_path / "o.parquet"), 100.0) == grid(everything(), 100.0)


def test_people_see_values_gaps_reasons_and_coverage():
    from rich.console import Console

    made, console = grid(everything(), 100.0), Console(width=160, record=True)
    console.print(grid_table(made))
    shown = console.export_text()
    assert "–" in shown
    assert "0.750" in shown
    lines = grid_lines(made)
    assert lines[0] == "coverage: 9 of 14 cells measured (64.3%)"
    assert "not measured: bias of some: no text was generated" in lines
    assert any(line.startswith("trimpot-toxicity-1 on answers: sensitivity 0.") for line in lines)


def test_the_unperturbed_score_stands_beside_the_worst_case():
    assert cell_text(grid(everything(), 1.0).cell("full", "robustness")).splitlines()[-1] == "of 1.000"
