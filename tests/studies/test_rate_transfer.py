"""The best rate of each width, on curves made by hand, and the smallest run."""

import math

import pytest

from trimpot.studies import rate_transfer
from trimpot.studies.byte_text import model
from trimpot.studies.rate_transfer import BASE, SCALED, STANDARD, hidden_factors, lowest

STUDY = rate_transfer.STUDY
ARMS = STUDY.budgets["full"].arms


def metrics(best):
    """Parabolas in log2 rate with their lowest point at ``best`` (scaling, width)."""
    return {
        name: {"loss": 2.0 + 0.01 * (math.log2(one["rate"]) - best(one["scaling"], one["width"])) ** 2}
        for name, one in ARMS.items()
    }


def test_the_lowest_point_of_a_parabola():
    assert lowest([0, 1, 2], [3, 2, 3]) == 1
    # ½ (3 − 2.5)/(3 − 4 + 2.5) = 1/6
    assert lowest([0, 1, 2], [3, 2, 2.5]) == pytest.approx(1 + 1 / 6)
    assert lowest([0, 1, 2], [1, 2, 3]) is None
    assert lowest([0, 1, 2], [3, 2, 1]) is None
    assert lowest([0, 1, 2, 3], [2, 2, 2, 3]) is None
    assert lowest([0, 1, 2, 3], [3, 2, 2, 3]) == pytest.approx(1.5)


def test_slopes_and_costs_are_those_of_the_curves():
    def best(scaling, width):
        return -7 - (math.log2(width / BASE) if scaling == STANDARD else 0)

    found = metrics(best)
    assert STUDY.tests["standard"].value(ARMS, found) == pytest.approx(-1)
    assert STUDY.tests["scaled"].value(ARMS, found) == pytest.approx(0, abs=1e-9)
    # The widest is 4 x BASE, so its best rate lies two octaves below: 0.01 · 2² less what the grid misses, 0.
    rate = min((abs(math.log2(one["rate"]) + 7), one["rate"]) for one in ARMS.values())[1]
    at = math.log2(rate)
    grid = [math.log2(one["rate"]) for one in ARMS.values()]
    cost = 0.01 * (at + 9) ** 2 - min(0.01 * (x + 9) ** 2 for x in grid)
    assert STUDY.tests["borrowed"].value(ARMS, found) == pytest.approx(cost)
    assert cost > 0.03


def test_a_best_rate_at_the_end_of_the_grid_is_no_number():
    found = metrics(lambda scaling, width: -30)
    assert STUDY.tests["standard"].value(ARMS, found) is None
    missing = metrics(lambda scaling, width: -7)
    missing.pop(next(iter(ARMS)))
    assert all(test.value(ARMS, missing) is None for test in STUDY.tests.values())


def test_hidden_matrices_and_nothing_else_learn_slower():
    factors = hidden_factors(4 * BASE)
    assert set(factors.values()) == {0.25}
    names = model(4 * BASE, 0).trainable()
    slower = {name for name in names if any(name.startswith(prefix) for prefix in factors)}
    assert len(slower) == 2 * 7
    assert all(names[name].ndim == 2 for name in slower)
    assert all("embed" in name or names[name].ndim == 1 for name in names.keys() - slower)


def test_a_run_is_a_function_of_its_arguments_and_scaling_changes_wide_models_only(tmp_path):
    settings = {"batch": 16, "tokens": 4096}
    rate_transfer.prepare(settings, 3, tmp_path)
    losses = {}
    for scaling in (STANDARD, SCALED):
        for width in (BASE, 2 * BASE):
            values = {"scaling": scaling, "width": width, "rate": 8e-3, "order": 0}
            losses[scaling, width] = rate_transfer.run(values, settings, 3, tmp_path)["loss"]
    assert losses[STANDARD, BASE] == losses[SCALED, BASE]
    assert losses[STANDARD, 2 * BASE] != losses[SCALED, 2 * BASE]


def test_budgets_have_the_arms_of_every_test():
    for budget in STUDY.budgets.values():
        assert STUDY.tests_of(budget).keys() == STUDY.tests.keys()
        assert STUDY.control.applies(budget.arms)
        assert budget.seeds >= 5
    assert set(STUDY.claims.values()) <= STUDY.tests.keys()
