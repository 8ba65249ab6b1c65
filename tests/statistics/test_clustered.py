"""Clustered differences: hand arithmetic, an oracle with full matrices, and the level that they hold in simulation."""

import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg, stats

from tests.statistics.levels import DRAWS, EQUAL, HALF_IN_ONE, LOGNORMAL, binary_coverage, clustered_alarms
from trimpot.statistics.clustered import (
    MeanDifference,
    cluster_degrees,
    cluster_variance,
    clustered_difference,
    design_effect,
    flip_size,
    icc,
)
from trimpot.statistics.paired import paired_difference


def by_matrices(d, clusters):
    """CR2 and Bell and McCaffrey's degrees of freedom as they are defined, for a regression on a constant."""
    n, names = len(d), sorted(set(clusters))
    x = np.ones((n, 1))
    hat = np.eye(n) - x @ x.T / n
    residual = hat @ np.asarray(d)
    variance, columns = 0.0, []
    for name in names:
        here = np.flatnonzero(np.asarray(clusters) == name)
        block = hat[np.ix_(here, here)]
        root = np.real(linalg.fractional_matrix_power(block, -0.5))
        variance += float(np.ones(here.size) @ root @ residual[here]) ** 2 / n**2
        columns.append(hat[:, here] @ root @ np.ones(here.size) / n)
    g = np.stack(columns, axis=1)
    product = g.T @ g
    return variance, float(np.trace(product) ** 2 / (product**2).sum())


def test_examples_of_the_docstrings():
    assert cluster_variance(np.array([2.0, 0.0]), np.array([2.0, 2.0])) == pytest.approx(0.25)
    assert cluster_degrees(np.full(3, 2.0)) == pytest.approx(2)
    found = clustered_difference([1, 0, -1, 0], flip=1.0)
    assert (found.value, found.centre, found.degrees) == (0.0, 0.0, pytest.approx(3))
    assert found.standard_error == pytest.approx(math.sqrt(4 / (5 / 6) / 36))
    assert flip_size([0, 0.5, 1, 1], [0, 1, 1, 1]) == 0.5
    assert design_effect([1, 1, 0, 0], "aabb") == pytest.approx(3)
    assert icc([1, 1, 0, 0], "aabb") == 1


@given(st.lists(st.tuples(st.integers(-4, 4), st.sampled_from("abcde")), min_size=3, max_size=25))
def test_the_closed_forms_are_the_matrix_definitions(rows):
    d, clusters = [value / 4 for value, _ in rows], [name for _, name in rows]
    found = clustered_difference(d, clusters)
    if len(set(clusters)) < 2:
        assert found.components == ()
        assert found.interval().low is None
        return
    variance, degrees = by_matrices(d, clusters)
    assert found.components[0] == (pytest.approx(variance, abs=1e-12), pytest.approx(degrees))


@given(st.lists(st.integers(-4, 4), min_size=6, max_size=30))
def test_equal_clusters_give_what_the_plain_formula_gives(values):
    d = [value / 4 for value in values[: len(values) // 3 * 3]]
    clusters = [i // 3 for i in range(len(d))]
    found, plain = clustered_difference(d, clusters).interval(), paired_difference(d, [0.0] * len(d), clusters)
    assert (found.value, found.n) == (plain.value, plain.n)
    assert (found.low, found.high) == (pytest.approx(plain.low, abs=1e-9), pytest.approx(plain.high, abs=1e-9))


def test_equal_clusters_give_what_statsmodels_gives():
    d = np.random.default_rng(0).normal(0.2, 1, size=60)
    clusters = np.repeat(np.arange(12), 5)
    theirs = sm.OLS(d, np.ones(60)).fit(cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True)
    found = clustered_difference(d, clusters)
    assert found.standard_error == pytest.approx(float(theirs.bse[0]))
    assert found.p_value() == pytest.approx(float(theirs.pvalues[0]))


def test_items_alone_give_the_t_test_of_scipy():
    d = np.random.default_rng(1).normal(0.3, 1, size=30)
    theirs = stats.ttest_1samp(d, 0.1)
    found = clustered_difference(d)
    assert found.p_value(0.1) == pytest.approx(theirs.pvalue)
    assert found.p_above(0.1) == pytest.approx(stats.ttest_1samp(d, 0.1, alternative="greater").pvalue)
    assert found.p_below(0.1) == pytest.approx(stats.ttest_1samp(d, 0.1, alternative="less").pvalue)


@given(st.floats(0.5, 0.999), st.floats(0.001, 3), st.floats(0.001, 3), st.floats(1, 40), st.floats(1, 40))
def test_the_p_value_is_where_the_interval_ends(level, first, second, df_first, df_second):
    found = MeanDifference(0.0, 0.0, ((first, df_first), (second, df_second)), 10, 10, "made")
    assert found.p_value(found.half(level)) == pytest.approx(1 - level, rel=1e-5)


def test_two_flips_are_bonett_and_prices():
    gained, lost, n = 9, 4, 80
    found = clustered_difference([1] * gained + [-1] * lost + [0] * (n - gained - lost), flip=1.0)
    p12, p21 = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    error = math.sqrt((p12 + p21 - (p12 - p21) ** 2) / (n + 2))
    assert found.centre == pytest.approx(p12 - p21)
    # Theirs divides by n + 2, ours by n + 1, as a sample variance does.
    assert found.standard_error == pytest.approx(error * math.sqrt((n + 2) / (n + 1)))


@given(st.integers(0, 20), st.integers(0, 20), st.floats(0.6, 0.99), st.sampled_from([1, 5]))
def test_rare_changes_keep_the_p_value_where_the_interval_ends(gained, lost, level, size):
    d = [1.0] * gained + [-1.0] * lost + [0.0] * (200 - gained - lost)
    found = clustered_difference(d, [i // size for i in range(200)], flip=1.0)
    interval = found.interval(level)
    assert found.p_value(interval.low) == pytest.approx(1 - level, rel=1e-6)
    assert found.p_value(interval.high) == pytest.approx(1 - level, rel=1e-6)
    assert interval.high - interval.low >= 2 * found.half(level) - 1e-12


def test_losses_alone_have_the_score_interval_of_tango():
    """8 lost of 400, none gained: Tango 1998's bound solves (d + δ)² = z²·(δ − δ²)/n, here with t and two flips."""
    found = clustered_difference([-1.0] * 8 + [0.0] * 392, flip=1.0)
    low = found.interval(0.9).low
    t = stats.t.ppf(0.95, 399)
    assert (found.centre - low) ** 2 == pytest.approx(t**2 * (-low - low**2) / 400)


def test_without_any_flip_the_interval_has_a_width_that_shrinks_with_items():
    wide, narrow = (clustered_difference([0.0] * n, flip=1.0).interval() for n in (20, 2000))
    assert wide.low < -0.1 < 0.1 < wide.high
    assert -0.002 < narrow.low < 0 < narrow.high < 0.002


def test_which_scores_get_flips():
    assert flip_size([0, 1], [1, 1]) == 1
    assert flip_size([0.5, 0.25], [0.75, 0.5]) is None
    assert flip_size([0.5, 0.25], [0.5, 0.25]) == 1
    assert flip_size([3.0, 5.0], [3.0, 5.0]) == 1.0  # the scores' own standard deviation
    assert flip_size([3.0, 3.0], [3.0, 3.0]) is None
    assert flip_size([], []) is None


@pytest.mark.parametrize("correlation", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("count", [5, 20])
def test_equal_clusters_alarm_falsely_5_times_in_100(count, correlation):
    ours, _ = clustered_alarms(EQUAL[count], correlation)
    assert 0.04 <= ours <= 0.06


@pytest.mark.parametrize("correlation", [0.1, 0.5, 1.0])
def test_one_cluster_with_half_of_the_items_keeps_the_level_where_plain_t_loses_it(correlation):
    ours, plain = clustered_alarms(HALF_IN_ONE[20], correlation)
    assert 0.035 <= ours <= 0.06
    assert plain > 0.15


@pytest.mark.parametrize("correlation", [0.0, 0.1, 0.5, 1.0])
def test_clusters_of_log_normal_size_stay_below_7_in_100(correlation):
    ours, plain = clustered_alarms(LOGNORMAL[20], correlation)
    assert 0.04 <= ours <= 0.07
    assert correlation == 0 or plain > 0.08


@pytest.mark.parametrize(("n", "changed"), [(100, 0.3), (300, 0.2)])
def test_right_and_wrong_answers_alarm_falsely_5_times_in_100(n, changed):
    ours, _ = binary_coverage(n, changed / 2, changed / 2)
    assert 0.94 <= ours <= 0.96


@pytest.mark.parametrize(("n", "gain", "loss"), [(200, 0.1, 0.05), (300, 0.3, 0.05)])
def test_intervals_of_real_differences_cover_them_95_times_in_100(n, gain, loss):
    ours, _ = binary_coverage(n, gain, loss)
    assert 0.94 <= ours <= 0.96


@pytest.mark.parametrize(("n", "gain", "loss"), [(200, 0.01, 0.0), (100, 0.02, 0.01)])
def test_rare_changes_are_covered_where_plain_t_fails(n, gain, loss):
    ours, plain = binary_coverage(n, gain, loss)
    assert ours >= 0.95
    assert plain < 0.93


def test_clustered_right_and_wrong_answers_alarm_falsely_5_times_in_100():
    # 40 templates of 10 items; with probability 1/4 an item goes with its template, which gains or loses as a whole.
    generator = np.random.default_rng(3)
    shape = (DRAWS // 2, 40, 10)
    template = generator.integers(-1, 2, size=shape[:2], dtype=np.int8)[..., None]
    own = generator.integers(-1, 2, size=shape, dtype=np.int8)
    d = np.where(generator.random(shape, dtype=np.float32) < 0.25, template, own)
    sums = np.concatenate([d.sum(axis=2, dtype=float), np.tile([1.0, -1.0], (shape[0], 1))], axis=1)
    sizes = np.r_[np.full(40, 10.0), 1.0, 1.0]
    t = np.abs(sums.sum(axis=1) / sizes.sum()) / np.sqrt(cluster_variance(sums, sizes))
    assert 0.04 <= (t > stats.t.ppf(0.975, 39)).mean() <= 0.06


def test_edges():
    assert clustered_difference([]).interval().value is None
    one = clustered_difference([1.0, 0.0], ["x", "x"])
    assert (one.value, one.p_value(), one.degrees, one.standard_error) == (0.5, None, None, None)
    flat = clustered_difference([0.5, 0.5, 0.5])
    assert (flat.p_value(0.5), flat.p_value(0.0), flat.degrees) == (1.0, None, pytest.approx(2))
    assert design_effect([1.0], ["x"]) is None
    assert icc([1, 2], "ab") is None
    assert icc([1, 1, 1], "aab") is None
    for bad in (
        lambda: clustered_difference([1.0, 2.0], ["a"]),
        lambda: clustered_difference([1.0], flip=0.0),
        lambda: clustered_difference([float("nan")]),
    ):
        with pytest.raises(ValueError):
            bad()


@pytest.mark.parametrize("centre", [0.7, 1e-3, 1e-7])
def test_a_p_value_of_several_components_is_found_up_to_one(centre):
    found = MeanDifference(centre, centre, ((0.03, 4.0), (0.03, 4.0)), 10, 10, "by hand")
    p = found.p_value()
    assert 0 < p <= 1
    if p < 1:
        assert found.half(1 - p) == pytest.approx(centre, rel=1e-3)
