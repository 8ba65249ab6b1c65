"""Plans: the published figure, the inverse of each other, and power by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trimpot.statistics.clustered import MeanDifference, clustered_difference
from trimpot.statistics.equivalence import equivalence
from trimpot.statistics.planning import Plan, clusters_to_decide, detectable_effect


def many(value, error, clusters=100):
    return MeanDifference(value, value, ((error**2, 1e9),), clusters, clusters, "made")


def test_three_points_need_969_questions():
    assert Plan(1 / 3).items(0.03) == 969
    assert Plan(1 / 3).items(-0.03) == 969
    assert Plan(1 / 3).detectable(969) == pytest.approx(0.03, rel=1e-3)


def test_examples_of_the_docstrings():
    assert detectable_effect(many(0.0, 0.01)) == pytest.approx(0.0280, abs=5e-5)
    assert clusters_to_decide(many(0.02, 0.01), 0.0) == 197
    assert Plan(1 / 3, seed_sd=0.01).seeds_needed(0.03) == 4


@given(st.floats(0.05, 1), st.floats(0.01, 0.3), st.floats(0, 0.3), st.sampled_from([None, 10, 200]))
def test_the_items_of_a_plan_are_the_fewest_that_find_the_effect(sd, effect, icc, clusters):
    plan = Plan(sd, icc if clusters else 0.0, clusters)
    items = plan.items(effect)
    if items is None:
        assert plan.detectable(10**9) > effect
        return
    assert plan.detectable(items) <= effect * (1 + 1e-9)
    assert items == 1 or plan.detectable(items - 1) > effect * (1 - 1e-9)


def test_clusters_set_a_floor_that_no_number_of_items_gets_below():
    plan = Plan(1 / 3, icc=0.1, clusters=20)
    floor = (stats.t.ppf(0.975, 19) + stats.t.ppf(0.8, 19)) * math.sqrt(0.1 / 9 / 20)
    assert plan.detectable(10**9) == pytest.approx(floor, rel=1e-4)
    assert plan.items(0.95 * floor) is None
    assert plan.items(1.2 * floor) is not None


def test_items_planned_for_clusters_have_the_power_that_they_promise():
    """25 clusters, a quarter of the variance between them: the planned items find 0.3 about 80 times in 100."""
    plan = Plan(1.0, icc=0.05, clusters=25)
    items = plan.items(0.3)
    per = math.ceil(items / 25)
    generator = np.random.default_rng(0)
    sums = per * math.sqrt(0.05) * generator.standard_normal((10_000, 25))
    sums += math.sqrt(0.95 * per) * generator.standard_normal((10_000, 25)) + 0.3 * per
    means = sums / per
    t = means.mean(axis=1) / (means.std(axis=1, ddof=1) / 5)
    assert 0.78 <= (t > stats.t.ppf(0.975, 24)).mean() <= 0.86


def test_seeds_needed_have_the_power_that_they_promise():
    seeds = Plan(1.0, seed_sd=0.02).seeds_needed(0.03)
    generator = np.random.default_rng(0)

    def found(count):
        a, b = generator.normal(0, 0.02, (10_000, count)), generator.normal(0.03, 0.02, (10_000, count))
        return (stats.ttest_ind(a, b, axis=1).pvalue < 0.05).mean()

    assert found(seeds) >= 0.78
    assert found(seeds - 2) < 0.78


def test_the_detectable_effect_is_found_80_times_in_100_with_few_clusters():
    generator = np.random.default_rng(0)
    d = generator.standard_normal((10_000, 8))
    effect = np.mean([detectable_effect(clustered_difference(row)) for row in d[:2000]])
    t = (d + effect).mean(axis=1) / (d.std(axis=1, ddof=1) / math.sqrt(8))
    assert 0.76 <= (t > stats.t.ppf(0.975, 7)).mean() <= 0.84


def test_as_many_items_as_it_says_decide():
    generator = np.random.default_rng(0)
    d = generator.normal(0.05, 0.5, 100)
    found = clustered_difference(d)
    needed = clusters_to_decide(found, 0.0)
    scaled = MeanDifference(
        found.value, found.value, ((found.components[0][0] * 100 / needed, 1e9),), 1, needed, "made"
    )
    assert detectable_effect(scaled) == pytest.approx(abs(found.value), rel=0.02)


def test_a_small_difference_is_decided_by_equivalence():
    near = many(0.001, 0.02)
    needed = clusters_to_decide(near, 0.02)
    # (z_.95 + z_.8)·0.02/(0.02 − 0.001): squared, times 100.
    assert needed == math.ceil(100 * ((1.644854 + 0.841621) * 0.02 / 0.019) ** 2)
    with_these = many(0.001, 0.02 * math.sqrt(100 / needed), needed)
    assert equivalence(with_these, 0.02).p_value < 0.05
    exact = clusters_to_decide(many(0.0, 0.02), 0.02)
    assert exact == math.ceil(100 * ((1.644854 + 1.281552) * 0.02 / 0.02) ** 2)


def test_seeds_that_differ_too_much_are_not_mended_by_items():
    found = MeanDifference(0.02, 0.02, ((0.0001, 99), (0.001, 2)), 100, 100, "made")
    assert clusters_to_decide(found, 0.0) is None
    assert clusters_to_decide(clustered_difference([]), 0.1) is None
    assert detectable_effect(clustered_difference([1.0])) is None
    assert clusters_to_decide(many(0.0, 0.1), 0.0) is None


def test_refuses_what_is_no_plan():
    for bad in (
        lambda: Plan(0.0), lambda: Plan(1.0, icc=2.0), lambda: Plan(1.0, clusters=1), lambda: Plan(1.0, seeds=0),
        lambda: Plan(1.0, level=1.0), lambda: Plan(1.0).items(0.0), lambda: clusters_to_decide(many(0, 1), -1.0),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            bad()
