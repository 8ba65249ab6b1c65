"""Curves of one line."""

import math

from hypothesis import given
from hypothesis import strategies as st

from trimpot.doctor.sparkline import BLOCKS, BROKEN, GAP, marks, sparkline

values = st.lists(st.none() | st.floats(-1e6, 1e6) | st.just(math.nan), max_size=200)


def test_levels_are_shares_of_the_range():
    assert sparkline([0.0, 1.0, 7.0]) == "▁▂█"
    assert sparkline([2.0, 2.0]) == "▅▅"
    assert sparkline([1.0, None, math.nan, math.inf, 2.0]) == "▁ !!█"
    assert sparkline([]) == ""


def test_no_spike_is_lost_in_a_narrow_line():
    series = [1.0] * 500
    series[333] = 9.0
    line = sparkline(series, 50)
    assert line.count("█") == 1
    assert line.index("█") == 33
    assert marks(range(500), 333, 333, 50) == " " * 33 + "^"


def test_marks_span_the_stretch():
    assert marks([1, 2, 3, 4], 2, 3, 4) == " ^^"


@given(values, st.integers(1, 80))
def test_a_line_is_as_long_as_it_may_be_and_of_known_characters(series, width):
    line = sparkline(series, width)
    assert len(line) == min(width, len(series))
    assert set(line) <= {*BLOCKS, GAP, BROKEN}
