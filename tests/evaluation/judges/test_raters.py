import pytest

from trimpot.core.errors import UsageError
from trimpot.evaluation.judges.raters import Rating, rater_agreement, ratings_of


def ratings(table, order=""):
    return [Rating(f"i{n}", rater, label, order) for rater, said in table.items() for n, label in enumerate(said)]


def test_three_raters_by_hand():
    found = rater_agreement(ratings({"ann": "aabb", "bob": "aabb", "cy": "abbb"}))
    assert (found.items, found.labels) == (4, ("a", "b"))
    assert found.pairs["ann", "bob"].value == 1.0
    # ann and cy: p_o = 3/4, p_e = ½·¼ + ½·¾ = ½: κ = ½.
    assert found.pairs["ann", "cy"].value == pytest.approx(0.5)
    # P = 1, 1/3, 1, 1; P̄ = 5/6; a 5 of 12: P_e = (25 + 49)/144; κ = (5/6 − 74/144)/(70/144) = 46/70.
    assert found.fleiss.value == pytest.approx(46 / 70)
    by_name = {one.rater: one for one in found.raters}
    assert by_name["cy"].agreement.value == 0.75
    assert by_name["cy"].confused == (("b", "a", 1),)
    # For ann item 1 has no majority among the others.
    assert (by_name["ann"].agreement.value, by_name["ann"].agreement.n) == (1.0, 3)


def test_missing_ratings_leave_alpha_alone():
    found = rater_agreement(ratings({"ann": "aab", "bob": "aabb"}))
    assert found.fleiss is None
    assert found.alpha.n == 3
    assert found.pairs["ann", "bob"].n == 3
    alone = rater_agreement(ratings({"ann": "ab"}))
    assert (alone.alpha.value, alone.pairs, alone.raters[0].agreement.value) == (None, {}, None)


def test_a_rater_who_follows_the_order_is_found_and_gets_a_tie_there():
    rows = ratings({"ann": "AAB"}, "AB") + ratings({"ann": "BAA"}, "BA") + ratings({"bob": "AAB"})
    found = rater_agreement(rows)
    orders = found.raters[0].orders
    # Item 0: first shown both times; item 2: second shown both times.
    assert (orders.rate.value, orders.first, orders.second) == (pytest.approx(2 / 3), 1, 1)
    assert found.raters[0].confused == (("tie", "A", 1), ("tie", "B", 1))
    assert found.raters[1].orders is None


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"rater": "a", "label": "x"}, "f:2: has no item"),
        ({"item": "1", "label": "x"}, "f:2: has no rater"),
        ({"item": "1", "rater": "a"}, "f:2: has no label"),
        ({"item": "1", "rater": "a", "label": 0.5}, "f:2: label is float"),
        ({"item": "1", "rater": "a", "label": "x", "order": "left"}, "f:2: order is 'left'"),
        ({"item": "0", "rater": "a", "label": "x"}, "f:2: rater a labels item 0 a second time"),
    ],
)
def test_a_bad_rating_names_file_and_line(record, words):
    with pytest.raises(UsageError, match=words):
        ratings_of([(1, {"item": "0", "rater": "a", "label": "y"}), (2, record)], "f")


def test_labels_may_be_numbers_or_truth_values_and_winner_serves():
    rows = [(1, {"item": 1, "rater": "a", "label": True}), (2, {"item": 1, "rater": "b", "winner": "A"})]
    assert [one.label for one in ratings_of(rows, "f")] == ["True", "A"]
    with pytest.raises(UsageError, match="f: holds no rating"):
        ratings_of([], "f")
