"""Simpson's paradox: better in every slice, worse over all, because other items were asked."""

import pytest

from tests.evaluation.compare.made import outcome
from trimpot.evaluation.compare.compare import compare


def outcomes(weights, cells):
    """cells: (slice, first item, items, right ones)."""
    return [
        outcome(f"{kind} {first + i}", float(i < right), weights=weights, slices={"size": kind})
        for kind, first, count, right in cells
        for i in range(count)
    ]


# Charig et al. 1986, kidney stones: 81/87 and 192/263 against 234/270 and 55/80.
A = outcomes("old", [("small", 0, 270, 234), ("large", 0, 80, 55)])
B = outcomes("new", [("small", 0, 87, 81), ("large", 0, 263, 192)])


def test_ahead_in_every_slice_and_behind_over_all_is_named():
    found = compare(A, B)
    (paradox,) = found.paradoxes
    assert paradox.name == "size"
    assert paradox.overall == pytest.approx(273 / 350 - 289 / 350)
    assert paradox.within == {"large": pytest.approx(192 / 263 - 55 / 80), "small": pytest.approx(81 / 87 - 234 / 270)}
    assert "B is better for every value of size, yet A is ahead" in paradox.sentence
    assert found.as_dict()["paradoxes"][0]["sentence"] == paradox.sentence


def test_the_other_way_round_names_the_other_side():
    (paradox,) = compare(B, A).paradoxes
    assert paradox.overall > 0
    assert "A is better for every value of size, yet B is ahead" in paradox.sentence


def test_where_lower_is_better_too():
    import dataclasses

    turned = [
        [dataclasses.replace(one, better="lower", score=1 - one.score) for one in outcomes] for outcomes in (A, B)
    ]
    (paradox,) = compare(*turned).paradoxes
    assert paradox.overall == pytest.approx(273 / 350 - 289 / 350)


def test_the_same_items_hold_no_paradox():
    same = [outcome(one.item.removeprefix("item "), 1.0, weights="new", slices=one.slices) for one in A]
    assert compare(A, same).paradoxes == ()


def test_ahead_in_only_some_slices_is_none():
    b = outcomes("new", [("small", 0, 87, 70), ("large", 0, 263, 192)])
    assert compare(A, b).paradoxes == ()
