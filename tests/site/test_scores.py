import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimpot.site.scores import accuracy, evaluate, side_by_side, slice_rows, verdict_of
from trimpot.store.outcomes import Outcome


def outcome(item, score, status="ok", **more):
    given = dict(
        run="r", weights="w", task="sums", item=str(item), cluster="", slices={}, perturbation="none",
        prompt_ids=(), prompt=f"prompt {item}", expected="1", output="out", score=score, status=status,
    )  # fmt: skip
    return Outcome(**{**given, **more})


def many(*scores):
    return [outcome(number, score) for number, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("score", "status", "verdict"),
    [
        (1.0, "ok", "right"),
        (0.99, "ok", "wrong"),
        (0.0, "ok", "wrong"),
        (None, "ok", "unscored"),
        (None, "unscored", "unscored"),
        (None, "parse_failed", "parse failed"),
        (1.0, "error", "error"),
    ],
)
def test_verdicts(score, status, verdict):
    assert verdict_of(outcome(1, score, status)) == verdict


def test_parse_failures_count_against_accuracy_and_errors_do_not():
    mixed = [*many(1.0, 0.0), outcome(2, None, "parse_failed"), outcome(3, None, "error"), outcome(4, None, "unscored")]
    found = evaluate(mixed, None)
    assert (found.items, found.right) == (3, 1)
    assert found.accuracy.value == pytest.approx(1 / 3)
    assert (found.parse_failures, found.errors, found.unscored) == (1, 1, 1)
    assert found.difference is None
    assert found.gained is None


def test_no_outcomes_have_no_accuracy():
    assert accuracy([]).value is None
    assert evaluate([], many(1.0)).difference is None
    assert slice_rows({}) == ()
    assert side_by_side({}) == ()


def test_difference_and_flips_are_against_base_on_items_of_both():
    base = many(0.0, 0.0, 1.0, 1.0)
    tuned = [*many(1.0, 1.0, 1.0, 0.0), outcome("new", 1.0)]
    found = evaluate(tuned, base)
    assert found.items == 5
    assert found.difference is not None
    assert found.difference.value == pytest.approx((1 + 1 + 0 - 1) / 4)
    assert (found.gained, found.lost) == (2, 1)
    reverse = evaluate(base, tuned)
    assert reverse.difference is not None
    assert reverse.difference.value == pytest.approx(-0.25)


def test_items_pair_by_name_not_by_place():
    base = many(0.0, 1.0, 0.0)
    assert evaluate(list(reversed(base)), base).difference.value == 0.0
    assert evaluate([outcome(0, 1.0, task="other")], base).difference is None


def test_an_item_scored_by_one_only_is_not_paired():
    found = evaluate(many(1.0, 1.0), [outcome(0, None, "error"), outcome(1, 0.0)])
    assert (found.gained, found.difference.n) == (1, 1)


def test_several_tries_of_an_item_pair_in_order():
    found = evaluate([outcome(0, 1.0), outcome(0, 0.0)], [outcome(0, 1.0), outcome(0, 1.0)])
    assert (found.gained, found.lost) == (0, 1)


def test_clusters_are_the_units():
    tuned = [outcome(number, 1.0, cluster=f"c{number // 4}") for number in range(12)]
    base = [outcome(number, float(number % 3 == 0)) for number in range(12)]
    assert evaluate(tuned, base).difference.n == 3
    assert evaluate(many(*[1.0] * 12), base).difference.n == 12


def test_perturbed_items_are_a_slice_and_not_in_the_headline():
    mixed = [*many(1.0, 1.0), outcome(0, 0.0, perturbation="typos")]
    assert evaluate(mixed, None).accuracy.value == 1.0
    rows = {(row.name, row.value): row.cells[0] for row in slice_rows({"sft": mixed})}
    assert rows["perturbation", "typos"].value == 0.0
    assert rows["perturbation", "none"].value == 1.0
    assert rows["task", "sums"].n == 2


def test_slices_have_a_cell_for_every_stage():
    first = [outcome(0, 1.0, slices={"level": "easy"}), outcome(1, 0.0, slices={"level": "hard"})]
    second = [outcome(0, 1.0, slices={"level": "easy"})]
    rows = slice_rows({"a": first, "b": second})
    assert [(row.name, row.value) for row in rows] == [("task", "sums"), ("level", "easy"), ("level", "hard")]
    assert [cell.n for cell in rows[2].cells] == [1, 0]
    assert rows[2].cells[1].value is None


def test_side_by_side_shows_each_group():
    base = many(*[0.0] * 10, *[1.0] * 10)
    tuned = many(*[1.0] * 5, *[0.0] * 5, *[0.0] * 5, *[1.0] * 5)
    shown = side_by_side({"evaluate": base, "sft": tuned})
    groups = [sample.group for sample in shown]
    assert groups == ["gained"] * 4 + ["lost"] * 4 + ["right in both"] * 2 + ["wrong in both"] * 2
    assert [answer.verdict for answer in shown[0].answers] == ["wrong", "right"]
    again = side_by_side({"evaluate": list(reversed(base)), "sft": tuned})
    assert again == shown


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, None]), st.booleans()), max_size=20))
def test_gained_less_lost_is_the_difference(pairs):
    base = [outcome(number, score) for number, (score, _) in enumerate(pairs)]
    tuned = [outcome(number, float(right)) for number, (_, right) in enumerate(pairs)]
    found = evaluate(tuned, base)
    shared = sum(score is not None for score, _ in pairs)
    if shared:
        assert found.gained - found.lost == pytest.approx(found.difference.value * shared)
    else:
        assert found.difference is None
