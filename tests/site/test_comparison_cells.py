"""The cells of the heat map: each of the comparison's rows has one, and what was not measured says so."""

import pytest

from tests.evaluation.compare.made import outcome, side
from trimpot.evaluation.compare.compare import compare_table
from trimpot.evaluation.compare.frames import frame_of
from trimpot.evaluation.compare.settings import CompareSettings
from trimpot.evaluation.compare.table import pair
from trimpot.site.comparison_cells import AS_THEY_STAND, answer, facts, heat_maps


def maps_of(a, b, **settings):
    chosen = CompareSettings(**settings)
    table = pair([frame_of(a)], [frame_of(b)], chosen)
    found = compare_table(table, chosen)
    return heat_maps(found, table), found


def sized(scores, weights, **more):
    return side(scores, weights, slices=lambda i: {"size": "sl"[i % 2]}, **more)


def cell(maps, label, column=AS_THEY_STAND):
    (found,) = [one for each in maps for row in each.rows for one in row if (one.label, one.column) == (label, column)]
    return found


OLD, NEW = [float(i % 2) for i in range(40)], [1.0] * 20 + [float(i % 2) for i in range(20, 40)]


def test_a_cell_is_the_comparisons_row_and_its_shade_is_a_part_of_the_largest_difference():
    maps, found = maps_of(sized(OLD, "old"), sized(NEW, "new"))
    # Even items are s: wrong in A, and the ten of them below 20 are right in B. 10/20 in s, 0 in l, 10/40 in all.
    assert cell(maps, "size=s").difference.value == 0.5
    assert cell(maps, "size=s").shade == 1.0
    assert cell(maps, "all").shade == pytest.approx(0.25 / 0.5)
    assert cell(maps, "size=l").shade == 0.0
    assert maps[0].reach == 0.5
    assert cell(maps, "size=s").row is found.row("size=s")
    assert facts(cell(maps, "size=s"))["flips"] == "+10 −0"
    assert facts(cell(maps, "size=s"))["A"] == "0.000"
    row = found.row("size=s")
    assert facts(cell(maps, "size=s"))["p"] == f"{row.p_adjusted:.4f}" != f"{row.p_value:.4f}"
    assert list(maps[0].blocks) == ["all", "size"]


def test_every_row_of_a_comparison_has_one_cell():
    more = [outcome(i, 1.0, weights="new", perturbation="typos", slices={"size": "sl"[i % 2]}) for i in range(12)]
    less = [outcome(i, 0.0, weights="old", perturbation="typos", slices={"size": "sl"[i % 2]}) for i in range(12)]
    maps, found = maps_of(sized(OLD, "old") + less, sized(NEW, "new") + more)
    held = [one.row for each in maps for row in each.rows for one in row if one.row is not None]
    assert sorted(row.key.label for row in held) == sorted(row.key.label for row in found.rows)
    assert cell(maps, "all", "typos").row is found.row("perturbation=typos")
    beside = cell(maps, "size=s", "typos")
    assert (beside.row, beside.verdict, beside.difference.value) == (None, None, 1.0)
    assert beside.difference.low is not None
    assert facts(beside)["verdict"].startswith("none: not one of the rows")
    assert "p" not in facts(beside)


def test_small_differences_do_not_shine():
    more = [*OLD[:-2], 1.0, OLD[-1]]
    maps, _ = maps_of(sized(OLD, "old"), sized(more, "new"), margin=0.4)
    assert maps[0].reach == 0.8


def test_what_was_not_measured_is_never_a_zero():
    few = [outcome(i, 1.0, perturbation="typos", slices={"size": "s"}) for i in range(0, 6, 2)]
    few += [outcome(i, 1.0, perturbation="typos", slices={}) for i in range(101, 106)]
    maps, _ = maps_of(sized(OLD, "old") + few, sized(NEW, "new") + few)
    none, small = cell(maps, "size=l", "typos"), cell(maps, "size=s", "typos")
    assert (none.difference.value, none.shade, none.why) == (None, None, "no such items")
    assert (small.difference.value, small.shade, small.why) == (None, None, "only 3 items")
    assert facts(small)["improvement"] == "not measured: only 3 items"
    assert facts(small)["verdict"] == "not measured"


def test_a_group_asked_of_one_side_says_so():
    other = [outcome(f"x{i}", 1.0, metric_group="toxicity", task="other") for i in range(7)]
    maps, found = maps_of(sized(OLD, "old") + other, sized(NEW, "new"))
    assert cell(maps[1:], "all").why == "7 asked of A only"
    assert answer(found)[1] == ("not measured", "toxicity", "7 asked of A only")


def test_the_answer_says_what_a_null_could_have_seen():
    _, found = maps_of(sized(OLD, "old"), sized([*OLD[:-2], 1.0, OLD[-1]], "new"))
    ((said, group, grounds),) = answer(found)
    row = found.row("all")
    assert (said, group) == ("underpowered", "accuracy")
    assert grounds.startswith("+0.025 [")
    assert f"; {row.detectable:.3f} would have been found" in grounds


def test_with_a_lower_score_better_blue_is_still_better():
    lower = {"better": "lower", "metric_group": "toxicity"}
    maps, _ = maps_of(sized(NEW, "old", **lower), sized(OLD, "new", **lower))
    assert cell(maps, "all").difference.value == pytest.approx(0.25)
    assert maps[0].group == "toxicity (lower is better)"
