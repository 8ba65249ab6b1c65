"""Which items are shown, in which order, and that the page stays small."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluation.compare.made import outcome, side
from trimpot.evaluation.compare.frames import frame_of
from trimpot.evaluation.compare.settings import CompareSettings
from trimpot.evaluation.compare.table import pair
from trimpot.site.comparison_samples import CHANGES, Samples, block, chosen, ends, sample, samples_of, verdict
from trimpot.site.pages import json_block


def made(a, b):
    a, b = ([one] if not isinstance(one[0], list) else one for one in (a, b))
    table = pair([frame_of(one) for one in a], [frame_of(one) for one in b], CompareSettings())
    return samples_of(table, a, b)


def names(samples, places):
    return [str(samples.table.items[place]).removeprefix("item ") for place in places]


def test_lost_then_gained_then_changed_then_same_then_not_compared():
    a = side([1.0, 0.0, 1.0, 1.0, 0.0], "old", output=lambda i: "y")
    b = side([1.0, 0.0, 0.0, 1.0, 1.0], "new", output=lambda i: "other" if i == 3 else "y")
    a.append(outcome("only a", 1.0))
    a.append(outcome("failed", None, status="error"))
    b.append(outcome("failed", 1.0))
    samples = made(a, b)
    order = chosen(samples, range(7))
    assert [samples.changes[place] for place in order] == [
        "lost", "gained", "changed", "same", "same", "not compared", "not compared",
    ]  # fmt: skip
    assert names(samples, order)[:3] == ["2", "4", "3"]
    assert set(names(samples, order)[3:5]) == {"0", "1"}


def test_larger_changes_come_first_and_lower_may_be_better():
    a = side([0.9, 0.5, 0.4], "old", better="lower")
    b = side([0.5, 0.6, 1.0], "new", better="lower")
    samples = made(a, b)
    assert names(samples, chosen(samples, range(3))) == ["2", "1", "0"]
    assert samples.changes == ("gained", "lost", "lost")


def test_the_same_answer_with_another_status_has_changed():
    a, b = side([0.0], "old"), [outcome(0, 0.0, status="parse_failed")]
    assert made(a, b).changes == ("changed",)


def constructed(counts):
    changes = tuple(change for change, count in zip(CHANGES, counts, strict=True) for _ in range(count))
    return Samples(None, changes, tuple(range(len(changes))), ())


def shown(counts, most):
    samples = constructed(counts)
    found = [samples.changes[place] for place in chosen(samples, range(len(samples.changes)), most)]
    return [found.count(change) for change in CHANGES]


def test_room_is_shared():
    assert shown((300, 10, 0, 500, 0), 200) == [165, 10, 0, 25, 0]
    assert shown((300, 300, 300, 300, 300), 200) == [63, 62, 25, 25, 25]
    assert shown((2, 0, 10, 500, 0), 200) == [2, 0, 10, 188, 0]
    assert shown((0, 0, 0, 0, 0), 200) == [0, 0, 0, 0, 0]


@given(st.lists(st.integers(0, 60), min_size=5, max_size=5), st.integers(1, 100))
def test_as_many_as_there_is_room_for_and_in_order(counts, most):
    samples = constructed(counts)
    places = chosen(samples, range(sum(counts)), most)
    assert len(places) == min(most, sum(counts))
    assert places == sorted(set(places))


def test_an_item_as_the_page_holds_it():
    a = [outcome(0, 1.0, weights="old", prompt="2+2", expected="4", output="4", prompt_ids=(7, 8, 9), tokens=1)]
    b = [replace(a[0], weights="new", output="five", score=0.0, status="parse_failed", confidence=0.25, tokens=4)]
    assert sample(made(a, b), 0) == {
        "task": "t", "item": "item 0", "form": "none", "change": "lost", "both": "", "unreadable": True,
        "expected": "4", "answers": [1, 1], "means": [1.0, 0.0],
        "a": [{"text": "4", "verdict": "right", "status": "ok", "score": 1.0, "confidence": None, "tokens": 1}],
        "b": [{"text": "five", "verdict": "parse failed", "status": "parse_failed", "score": 0.0,
               "confidence": 0.25, "tokens": 4}],
        "asked": {"text": "2+2", "ids": [7, 8, 9], "tokens": 3},
    }  # fmt: skip


def test_what_b_was_asked_is_told_where_it_differs():
    a = [outcome(0, 1.0, prompt_ids=(1, 2))]
    other = sample(made(a, [outcome(0, 1.0, weights="new", prompt_ids=(3,))]), 0)
    assert other["asked_b"] == {"text": "prompt 0", "ids": [3], "tokens": 1}
    assert "asked_b" not in sample(made(a, a), 0)


def test_answers_of_seeds_and_samples_are_counted_and_few_are_kept():
    seeds = [[outcome(0, float(n < 3), weights=f"w{seed}", sample=n) for n in range(3)] for seed in range(2)]
    found = sample(made(seeds, [[one] for one in side([1.0], "new") * 2]), 0)
    assert found["answers"] == [6, 2]
    assert len(found["a"]) == 4
    assert found["both"] == "right"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"score": 1.0}, "right"),
        ({"score": 0.0}, "wrong"),
        ({"score": 1.0, "better": "lower"}, "wrong"),
        ({"score": 0.0, "better": "lower"}, "right"),
        ({"score": 0.71, "better": "lower"}, ""),
        ({"score": 0.5}, ""),
        ({"score": float("nan")}, ""),
        ({"score": None, "status": "error"}, "error"),
        ({"score": 0.0, "status": "parse_failed"}, "parse failed"),
        ({"score": None, "status": "unscored"}, "unscored"),
    ],
)
def test_right_and_wrong_are_said_of_scores_of_0_and_1_alone(more, said):
    assert verdict(outcome(0, **{"score": 1.0, **more})) == said


def test_wrong_in_both_holds_what_could_not_be_read_too():
    a, b = [outcome(0, 0.0)], [outcome(0, 0.0, weights="new", status="parse_failed")]
    found = sample(made(a, b), 0)
    assert (found["both"], found["unreadable"]) == ("wrong", True)
    assert sample(made([outcome(0, 0.4)], [outcome(0, 0.4, weights="new")]), 0)["both"] == ""


def test_a_score_that_is_no_number_does_not_break_the_page():
    found = sample(made(side([float("nan"), 1.0], "old"), side([1.0, 1.0], "new")), 0)
    assert (found["a"][0]["score"], found["change"], found["means"][0]) == (None, "not compared", None)
    json.loads(json_block(found))


def test_each_item_is_held_once_and_cells_hold_numbers():
    samples = made(side([1.0, 0.0, 1.0], "old"), side([0.0, 0.0, 1.0], "new"))
    held = block(samples, [[0, 1, 2], [2, 0], []])
    assert held.samples[0]["item"] == "item 0"
    assert len(held.samples) == 3
    where = {one["item"]: number for number, one in enumerate(held.samples)}
    assert held.shown[1] == [where["item 0"], where["item 2"]]
    assert held.shown[2] == []


def test_fewer_of_each_slice_are_held_where_all_would_be_too_large():
    scores = [float(i % 2) for i in range(400)]
    samples = made(side(scores, "old", output=lambda i: "long " * 100), side(scores, "new", output=lambda i: "<" * 500))
    most = 300_000
    held = block(samples, [range(200), range(200, 400)], most)
    assert held.most == 25
    assert [len(places) for places in held.shown] == [25, 25]
    assert len(json_block(held.samples).encode()) <= most
    assert block(samples, [range(200)], 1).most == 1
    assert len(block(samples, [range(200)], 1).samples) == 1


def test_of_a_long_text_both_ends_are_kept():
    text = "a" * 5000 + "the answer"
    assert ends("short") == "short"
    assert ends(text, 40) == "a" * 10 + "\n… 4970 characters left out …\n" + "a" * 20 + "the answer"
