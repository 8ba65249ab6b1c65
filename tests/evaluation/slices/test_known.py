"""Slices from metadata: scores, crossings, the comparison with the rest, and slices that are empty."""

import json

import numpy as np
import pytest

from tests.evaluation.helm.outcomes import outcome
from tests.evaluation.slices.tables import table
from trimpot.core.errors import UsageError
from trimpot.evaluation.slices.compare import excess_error, items_of
from trimpot.evaluation.slices.known import selected, slice_rows


def sliced(score, kind, level="x", count=1, start=0, **fields):
    return [
        outcome(f"{kind}{level}{score}{start + n}", score, slices={"kind": kind, "level": level}, **fields)
        for n in range(count)
    ]


def test_rows_hold_scores_and_the_difference_from_the_rest():
    some = [
        *sliced(1.0, "a", count=30),
        *sliced(0.0, "a", count=10),
        *sliced(1.0, "b", count=10),
        *sliced(0.0, "b", count=30),
    ]
    rows = {row.name: row for row in slice_rows("t", some)}
    assert set(rows) == {"kind=a", "kind=b"}
    assert (rows["kind=a"].items, rows["kind=a"].score.value) == (40, 0.75)
    assert rows["kind=b"].excess.value == pytest.approx(0.5)
    # Agresti and Caffo: p₁ = 31/42, p₂ = 11/42, SE² = 2·p(1 − p)/42; the centre is 20/42.
    assert (rows["kind=b"].excess.low + rows["kind=b"].excess.high) / 2 == pytest.approx(20 / 42)
    p = 31 / 42
    se = (2 * p * (1 - p) / 41) ** 0.5
    # Student's t with 41 + 41 degrees of freedom: 1.9893.
    assert rows["kind=b"].excess.high - 20 / 42 == pytest.approx(1.9893 * se, rel=1e-4)
    assert rows["kind=b"].p < 0.001
    json.dumps([row.as_dict() for row in rows.values()])


def test_where_lower_is_better_a_higher_score_is_an_error():
    some = [*sliced(2.0, "a", count=20, better="lower"), *sliced(3.0, "b", count=20, better="lower")]
    assert {row.name: row.excess.value for row in slice_rows("t", some)} == {"kind=a": -1.0, "kind=b": 1.0}


def test_crossings_of_two_need_items_enough_and_say_something_new():
    some = [
        *sliced(1.0, "a", "x", 30), *sliced(1.0, "a", "y", 30), *sliced(0.0, "b", "x", 30), *sliced(1.0, "b", "y", 19),
        *sliced(1.0, "c", "y", 25),
    ]  # fmt: skip
    names = [row.name for row in slice_rows("t", some)]
    assert "kind=a & level=x" in names
    # 19 items are fewer than 20, and all items of kind c have level y.
    assert "kind=b & level=y" not in names
    assert "kind=c & level=y" not in names
    assert "kind=b & level=y" in [row.name for row in slice_rows("t", some, smallest=19)]


def test_a_slice_of_all_items_is_left_out_and_the_task_is_one():
    some = [*sliced(1.0, "a", count=5), *sliced(0.0, "a", count=5, task="t/other", start=9)]
    assert [row.name for row in slice_rows("t", some)] == ["task=t/a", "task=t/other"]
    assert slice_rows("t", []) == []


def test_forms_unscored_answers_and_other_metrics_are_no_part_of_slices():
    some = [*sliced(1.0, "a", count=5), *sliced(0.0, "b", count=5)]
    noise = [
        outcome("x", 0.0, slices={"kind": "a"}, perturbation="typos"),
        outcome("y", None, slices={"kind": "a"}),
        outcome("z", 0.0, slices={"kind": "a"}, metric_group="bias"),
    ]
    assert slice_rows("t", some + noise) == slice_rows("t", some)


def test_a_slice_without_an_error_is_not_claimed_to_have_none():
    some = [*sliced(1.0, "a", count=5), *sliced(0.0, "b", count=5)]
    (row, _) = slice_rows("t", some)
    assert row.excess.value == -1.0
    assert row.excess.high - row.excess.low > 0.5


def test_clusters_widen_the_difference():
    fields = [{"slices": {"kind": "ab"[n % 40 // 20]}, "cluster": str(n // 10)} for n in range(80)]
    scores = [float(n // 10 in (0, 2, 4, 5, 7)) for n in range(80)]
    together = slice_rows("t", [outcome(n, s, **f) for n, (s, f) in enumerate(zip(scores, fields, strict=True))])
    alone = slice_rows(
        "t", [outcome(n, s, slices=f["slices"]) for n, (s, f) in enumerate(zip(scores, fields, strict=True))]
    )
    wide, narrow = (rows[0].excess.high - rows[0].excess.low for rows in (together, alone))
    assert wide > 1.5 * narrow


@pytest.mark.parametrize("size", [1, 4])
def test_the_difference_from_the_rest_is_false_at_most_5_times_in_100(size):
    """2,000 tables without structure: a fixed slice is called different in 5% of them at most, give or take chance."""
    rejected = 0
    base = items_of(table(0, 80, size=size))
    for seed in range(2000):
        generator = np.random.default_rng(seed)
        chance = np.clip(0.7 + generator.normal(0, 0.3 * (size > 1), 80), 0, 1)[np.arange(80) // size]
        errors = -(generator.random(80) < chance).astype(float)
        items = type(base)(errors, np.arange(80) // size, base.outcomes, True)
        inside = np.repeat(generator.permutation(np.arange(80 // size) < 20 // size), size)
        p = excess_error(items, inside).p_value()
        rejected += p is not None and p <= 0.05
    # Binomial(2000, 0.05): standard deviation 9.7.
    assert 20 < rejected < 130


def test_simpsons_paradox_shows_in_the_table():
    """A is ahead in both slices and behind over all, since it was asked more hard items."""
    a = [
        *sliced(1.0, "easy", count=9),
        *sliced(0.0, "easy", count=1),
        *sliced(1.0, "hard", count=30),
        *sliced(0.0, "hard", count=60),
    ]
    b = [
        *sliced(1.0, "easy", count=76),
        *sliced(0.0, "easy", count=14),
        *sliced(1.0, "hard", count=2),
        *sliced(0.0, "hard", count=8),
    ]
    of_a, of_b = ({row.name: row.score.value for row in slice_rows("t", some)} for some in (a, b))
    assert all(of_a[name] > of_b[name] for name in ("kind=easy", "kind=hard"))
    assert sum(one.score for one in a) / len(a) < sum(one.score for one in b) / len(b)


def test_a_slice_is_selected_by_name_and_value():
    some = [*sliced(1.0, "a", "x", 2), *sliced(1.0, "a", "y", 3)]
    assert len(selected(some, "kind=a")) == 5
    assert len(selected(some, "kind=a & level = y")) == 3
    assert len(selected(some, "task=t/a")) == 5


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("kind=b", r"slice 'kind=b': has no items. Did you mean 'kind=a'\?"),
        ("kind", r"slice 'kind': is not name=value. Write"),
        ("kind=a & kind=c", r"slice 'kind=a & kind=c': has no items"),
    ],
)
def test_an_empty_slice_is_one_line(wanted, message):
    with pytest.raises(UsageError, match=message) as caught:
        selected(sliced(1.0, "a", count=3), wanted)
    assert "\n" not in str(caught.value)
