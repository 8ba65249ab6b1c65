"""Measures and verdicts by hand arithmetic."""

import math

import pytest
from scipy import stats

from trimpot.core.stats import Estimate
from trimpot.studies.decide import p_value, smallest_effect, verdict
from trimpot.studies.measures import Difference, Level, Slope

ARMS = {name: {"knob": math.exp(power)} for power, name in enumerate(("a", "b", "c"))}


def metrics(*values):
    return {name: {"y": value} for name, value in zip(ARMS, values, strict=True)}


def test_slope_of_a_straight_line():
    assert Slope("y", "knob", "w").value(ARMS, metrics(3.0, 2.0, 1.0)) == pytest.approx(-1)


def test_slope_of_a_logarithm():
    values = metrics(math.exp(1), math.exp(3), math.exp(5))
    assert Slope("y", "knob", "w", log=True).value(ARMS, values) == pytest.approx(2)


def test_a_logarithm_of_what_is_not_positive_is_no_value():
    assert Slope("y", "knob", "w", log=True).value(ARMS, metrics(1.0, 0.0, 1.0)) is None
    assert Difference("y", "a", "b", "w", log=True).value(ARMS, metrics(1.0, -1.0, 1.0)) is None


def test_a_missing_arm_is_no_value():
    partial = {"a": {"y": 1.0}}
    for measure in (Slope("y", "knob", "w"), Level("y", "w"), Difference("y", "a", "b", "w")):
        assert measure.value(ARMS, partial) is None


def test_only_arms_as_asked_for_count():
    arms = {"a": {"knob": 1.0, "order": 0}, "b": {"knob": 2.0, "order": 1}, "c": {"knob": 3.0, "order": 0}}
    level = Level("y", "w", where={"order": 0})
    assert level.value(arms, {"a": {"y": 1.0}, "b": {"y": 100.0}, "c": {"y": 3.0}}) == 2.0
    assert not Slope("y", "knob", "w", where={"order": 1}).applies(arms)


def test_p_value_is_that_of_a_t_test():
    values = [0.3, 0.1, 0.5, 0.2]
    assert p_value(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert p_value([1.0]) is None
    assert p_value([2.0, 2.0]) == 0
    assert p_value([0.0, 0.0]) == 1


def test_smallest_effect_is_found_in_four_of_five_studies():
    """At the smallest effect the exact power (noncentral t) is about 0.8."""
    values = [-1.0, 0.0, 1.0, 2.0, -2.0]
    delta = smallest_effect(values)
    error = math.sqrt(2.5 / 5)
    critical = stats.t.ppf(0.975, 4)
    assert stats.nct.sf(critical, 4, delta / error) == pytest.approx(0.8, abs=0.03)
    assert smallest_effect([1.0]) is None


@pytest.mark.parametrize(
    ("value", "p", "direction", "word"),
    [
        (1.0, 0.05, "up", "confirmed"),
        (-1.0, 0.01, "up", "refuted"),
        (-1.0, 0.01, "down", "confirmed"),
        (1.0, 0.01, "down", "refuted"),
        (1.0, 0.051, "up", "inconclusive"),
        (1.0, None, "up", "inconclusive"),
        (None, None, "up", "inconclusive"),
    ],
)
def test_verdict_by_sign_and_p(value, p, direction, word):
    assert verdict(Estimate(value, None, None, 3, "t"), p, direction) == word
