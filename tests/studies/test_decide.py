"""Measures and verdicts by hand arithmetic."""

import math

import pytest
from scipy import stats

from trimpot.core.stats import Estimate
from trimpot.studies.decide import equality_p_value, equality_verdict, p_value, smallest_effect, verdict
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
    assert p_value([2.0, 2.0]) == 0.5
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


def test_a_claim_of_equality_is_not_decided_by_a_sign():
    assert verdict(Estimate(1.0, 0.5, 1.5, 3, "t"), 0.001, "equal") == "inconclusive"


@pytest.mark.parametrize(
    ("margin", "word"),
    [
        # Mean 0.2, s = 0.1, s/√3 = 0.05774. t(0.95; 2) = 2.920: [0.0314, 0.3686]. t(0.975; 2) = 4.303: [-0.048, 0.448].
        (0.4, "confirmed"),
        (0.369, "confirmed"),
        (0.368, "inconclusive"),
        (0.01, "inconclusive"),
    ],
)
def test_equality_is_confirmed_when_the_90_percent_interval_lies_within_the_margin(margin, word):
    assert equality_verdict([0.1, 0.2, 0.3], margin) == word
    assert equality_verdict([-0.1, -0.2, -0.3], margin) == word
    # Two one-sided tests at 0.05 say the same as the interval.
    assert (equality_p_value([0.1, 0.2, 0.3], margin) <= 0.05) == (word == "confirmed")


@pytest.mark.parametrize(
    ("margin", "word"),
    [
        # Mean 1.2, s/√3 = 0.05774: 95% [0.9516, 1.4484].
        (0.951, "refuted"),
        (0.952, "inconclusive"),
        (1.3, "inconclusive"),
        (1.4, "confirmed"),
    ],
)
def test_equality_is_refuted_when_the_95_percent_interval_lies_outside_the_margin(margin, word):
    assert equality_verdict([1.1, 1.2, 1.3], margin) == word
    assert equality_verdict([-1.1, -1.2, -1.3], margin) == word


def test_the_p_value_of_equality_is_the_larger_of_two_one_sided_tests():
    values, margin = [0.1, 0.2, 0.3, 0.0], 0.5
    above = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(values, margin, alternative="less").pvalue
    assert equality_p_value(values, margin) == pytest.approx(max(above, below))
    assert equality_p_value([-value for value in values], margin) == pytest.approx(max(above, below))


def test_equality_of_one_value_or_of_equal_values():
    assert equality_verdict([0.0], 1.0) == "inconclusive"
    assert equality_p_value([0.0], 1.0) is None
    assert equality_verdict([0.5, 0.5], 1.0) == "confirmed"
    assert equality_p_value([0.5, 0.5], 1.0) == 0.25
    assert equality_verdict([2.0, 2.0], 1.0) == "refuted"
    assert equality_p_value([2.0, 2.0], 1.0) == 1


def test_arms_are_chosen_by_words_too():
    arms = {"a": {"loss": "sigmoid", "knob": 1.0}, "b": {"loss": "ipo", "knob": 2.0}}
    assert Level("y", "w", where={"loss": "ipo"}).value(arms, {"a": {"y": 1.0}, "b": {"y": 3.0}}) == 3.0
