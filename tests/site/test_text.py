import math

import pytest

from trimpot.core.stats import Estimate
from trimpot.site import text

NOTHING = Estimate(None, None, None, 0, "wilson")


def test_percentages():
    found = Estimate(0.34375, 0.257, 0.4434, 96, "wilson")
    assert text.percent(found.value) == "34.4%"
    assert text.percent_interval(found) == "[25.7, 44.3]"
    assert text.percent(None) == "–"
    assert text.percent_interval(NOTHING) == ""


def test_differences_carry_their_sign():
    found = Estimate(0.05, -0.01, 0.11, 96, "paired t")
    assert text.points(found) == "+5.0"
    assert text.points_interval(found) == "[-1.0, +11.0]"
    assert text.points(NOTHING) == "–"
    assert text.points_interval(NOTHING) == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "–"), (0.04, "0.0 s"), (9.31, "9.3 s"), (59.96, "1 min 0 s"), (141.2, "2 min 21 s"), (7300, "2 h 1 min")],
)
def test_durations(seconds, words):
    assert text.duration(seconds) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "–"), (0, "0"), (25.0, "25"), (38400, "38 400"), (5e-05, "5e-05"), (0.123456, "0.1235"), (math.nan, "nan")],
)
def test_numbers(value, words):
    assert text.number(value) == words


def test_long_text_is_cut_with_a_note():
    assert text.shortened("abcdef", 10) == "abcdef"
    assert text.shortened("abcdef", 4) == "abcd … (2 more characters)"


def test_sizes():
    assert text.gibibytes(24 * 2**30) == "24.0 GiB"
    assert text.gibibytes(None) == "–"
