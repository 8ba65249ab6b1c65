"""The pieces that compare two parts of a series."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimpot.detectors.windows import change, make_window, standard_error, third_changes, together

NAN = float("nan")
numbers = st.floats(-100, 100)


def test_change_by_hand():
    # Means 2 and 5; both have s² = 1 and n = 3, so each standard error is √(1/3) and that of the difference √(2/3).
    moved = change([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    assert (moved.early, moved.late, moved.size) == (2.0, 5.0, 3.0)
    assert standard_error([1.0, 2.0, 3.0]) == pytest.approx(math.sqrt(1 / 3))
    assert moved.in_errors == pytest.approx(3 / math.sqrt(2 / 3))


def test_a_change_without_spread_is_beyond_any_error_and_finite():
    assert 1e6 < change([1.0, 1.0], [2.0, 2.0]).in_errors < math.inf
    assert change([1.0, 1.0], [1.0, 1.0]).in_errors == 0


@given(st.lists(numbers, min_size=2, max_size=8), st.lists(numbers, min_size=2, max_size=8))
def test_exchanging_early_and_late_turns_the_sign(early, late):
    assert change(early, late).in_errors == pytest.approx(-change(late, early).in_errors)


def test_together_keeps_the_steps_that_report_all():
    window = make_window(a=[1.0, 2.0, NAN, 4.0, 5.0], b=[10.0, None, 30.0, 40.0, 50.0])
    assert together(window, "a", "b") == [[1.0, 4.0, 5.0], [10.0, 40.0, 50.0]]
    assert together(make_window(a=[1.0, 2.0], b=[1.0, None]), "a", "b") == [[], []]
    assert together(make_window(a=[1.0]), "a", "b") == [[], []]


def test_third_changes_double_the_window_and_end_at_the_newest_value():
    column = [float(value) for value in range(25)]
    moved = [(one.early, one.late) for (one,) in third_changes([column], 2)]
    # The newest 6, 12 and 24 values; their outer thirds have 2, 4 and 8.
    assert moved == [(19.5, 23.5), (14.5, 22.5), (4.5, 20.5)]
    assert list(third_changes([column[:5]], 2)) == []
    assert list(third_changes([], 2)) == []
    assert list(third_changes([column, column[:5]], 2)) == []
