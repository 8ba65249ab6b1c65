"""The measures of the DPO studies by hand arithmetic."""

import pytest

from trimpot.studies.measures import Clearance, Growth, Matched

ARMS = {
    "dpo, 0": {"loss": "dpo", "wrong": 0.0, "order": 0},
    "dpo, 2": {"loss": "dpo", "wrong": 0.2, "order": 0},
    "dpo, 4": {"loss": "dpo", "wrong": 0.4, "order": 0},
    "dpo, 4, again": {"loss": "dpo", "wrong": 0.4, "order": 1},
    "ipo, 0": {"loss": "ipo", "wrong": 0.0, "order": 0},
    "ipo, 2": {"loss": "ipo", "wrong": 0.2, "order": 0},
    "ipo, 4": {"loss": "ipo", "wrong": 0.4, "order": 0},
}
METRICS = {
    "dpo, 0": {"y": 0.9}, "dpo, 2": {"y": 0.4}, "dpo, 4": {"y": 0.4}, "dpo, 4, again": {"y": 100.0},
    "ipo, 0": {"y": 0.6}, "ipo, 2": {"y": 0.7}, "ipo, 4": {"y": 0.5},
}  # fmt: skip


def test_growth_is_the_mean_of_the_arms_own_differences():
    metrics = {
        "dpo, 0": {"y@1": 0.4, "y@4": 0.7},
        "dpo, 2": {"y@1": 0.4, "y@4": 0.5},
        "ipo, 0": {"y@1": 9.0, "y@4": 0.0},
    }
    arms = {name: ARMS[name] for name in metrics}
    growth = Growth("y@4", "y@1", "w", where={"loss": "dpo"})
    assert growth.value(arms, metrics) == pytest.approx(0.2)
    assert Growth("y@1", "y@4", "w", where={"loss": "dpo"}).value(arms, metrics) == pytest.approx(-0.2)
    assert not Growth("y@4", "y@1", "w", where={"loss": "kto"}).applies(arms)


def test_growth_without_one_of_its_points_is_no_value():
    growth = Growth("y@4", "y@1", "w")
    assert growth.value({"a": {}}, {"a": {"y@4": 1.0}}) is None
    assert growth.value({"a": {}}, {"a": {"y@1": 1.0}}) is None


def test_matched_takes_twins_that_differ_in_the_knob_alone():
    matched = Matched("y", "loss", "ipo", "dpo", "w")
    assert matched.twins(ARMS) == [("ipo, 0", "dpo, 0"), ("ipo, 2", "dpo, 2"), ("ipo, 4", "dpo, 4")]
    # (0.6 − 0.9 + 0.7 − 0.4 + 0.5 − 0.4) / 3; the arm of another order is no twin of any.
    assert matched.value(ARMS, METRICS) == pytest.approx(0.1 / 3)
    assert Matched("y", "loss", "dpo", "ipo", "w").value(ARMS, METRICS) == pytest.approx(-0.1 / 3)


def test_matched_leaves_arms_out_as_asked():
    noisy = Matched("y", "loss", "ipo", "dpo", "w", without={"wrong": 0.0})
    assert noisy.value(ARMS, METRICS) == pytest.approx(0.2)
    one = Matched("y", "loss", "ipo", "dpo", "w", where={"wrong": 0.0})
    assert one.value(ARMS, METRICS) == pytest.approx(-0.3)
    assert not Matched("y", "loss", "kto", "dpo", "w").applies(ARMS)
    assert not Matched("y", "loss", "ipo", "dpo", "w").applies({"ipo, 0": ARMS["ipo, 0"]})


def test_matched_without_a_twin_that_ran_is_no_value():
    assert Matched("y", "loss", "ipo", "dpo", "w").value(ARMS, {**METRICS, "ipo, 4": {}}) is None


def test_clearance_is_what_a_difference_has_above_its_bound():
    arms = {"new": {}, "old": {}}
    clearance = Clearance("error", "new", "old", -0.8, "w")
    assert clearance.value(arms, {"new": {"error": 4.9}, "old": {"error": 5.0}}) == pytest.approx(0.7)
    assert clearance.value(arms, {"new": {"error": 4.0}, "old": {"error": 5.0}}) == pytest.approx(-0.2)
    assert clearance.value(arms, {"new": {}, "old": {"error": 5.0}}) is None
    assert not clearance.applies({"new": {}})
