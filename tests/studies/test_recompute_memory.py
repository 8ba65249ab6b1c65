"""Memory of segments at its smallest, and the exponent by hand."""

import math

import pytest

from trimpot.studies import recompute_memory
from trimpot.studies.measures import Slope
from trimpot.studies.recompute_memory import STUDY, Exponent

SMALL = {"repeats": 1}
QUICK = STUDY.budgets["quick"].arms


def measured(tmp_path, *names: str) -> list[dict[str, float]]:
    return [recompute_memory.run(QUICK[name], SMALL, 3, tmp_path) for name in names]


def test_a_run_is_a_function_of_its_arguments_but_for_the_time(tmp_path):
    recompute_memory.prepare(SMALL, 3, tmp_path)
    first, second = measured(tmp_path, "root, 4", "root, 4")
    assert first.pop("seconds") > 0
    assert second.pop("seconds") > 0
    assert first == second


def test_every_way_costs_what_it_should(tmp_path):
    none, full, lost = measured(tmp_path, "none, 16", "full, 16", "random state lost")
    assert none["difference"] == full["difference"] == 0.0
    assert lost["difference"] > 0.01
    assert full["peak"] < none["peak"] / 3
    assert full["operations"] - none["operations"] == pytest.approx(math.log(4 / 3), abs=0.02)


def test_the_root_of_the_depth_by_seed(tmp_path):
    names = ("root, 4", "root, 16", "root, 64")
    metrics = dict(zip(names, measured(tmp_path, *names), strict=True))
    found = STUDY.tests["root"].value({name: QUICK[name] for name in names}, metrics)
    assert found == pytest.approx(0, abs=0.1)


def test_the_exponent_is_the_slope_of_logarithms_less_the_expectation():
    arms = {f"{n}": {"blocks": n} for n in (1, 4, 16)}
    metrics = {"1": {"peak": 3.0}, "4": {"peak": 6.0}, "16": {"peak": 12.0}}
    one = Exponent(Slope("peak", "blocks", "words", log=True), 0.5)
    assert one.value(arms, metrics) == pytest.approx(0.0)
    assert Exponent(one.slope, 1.0).value(arms, metrics) == pytest.approx(-0.5)
    assert one.value(arms, {**metrics, "4": {}}) is None
    assert one.words == "words"
    assert one.describe()["kind"] == "exponent"
    assert not one.applies({"1": {"blocks": 1}})


def test_budgets_have_seeds_a_control_and_the_arms_of_every_claim():
    for budget in STUDY.budgets.values():
        assert budget.seeds >= 5
        assert STUDY.control.applies(budget.arms)
        assert STUDY.tests_of(budget).keys() == STUDY.tests.keys()
    assert set(STUDY.claims.values()) == STUDY.tests.keys()
    assert QUICK.items() <= STUDY.budgets["full"].arms.items()
