"""Paired differences, flips and verdicts: hand arithmetic, symmetry, agreement with naive code."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trimpot.core.stats import Estimate
from trimpot.statistics.intervals import bootstrap_interval, wilson
from trimpot.statistics.paired import Flips, flips, paired_difference, verdict

SCORES = st.integers(0, 8).map(lambda eighth: eighth / 8)
PAIRS = st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=40)


def split(pairs):
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def test_example_of_the_docstring():
    found = paired_difference([1, 0, 0, 1], [0, 0, 1, 1])
    half = stats.t.ppf(0.975, 3) * math.sqrt(2 / 12)
    assert (found.value, found.n) == (0.0, 4)
    assert found.high == pytest.approx(half)


@given(PAIRS)
def test_swapping_the_models_negates_the_estimate(pairs):
    a, b = split(pairs)
    clusters = [index // 3 for index in range(len(a))]
    for groups in (None, clusters):
        one, other = paired_difference(a, b, groups), paired_difference(b, a, groups)
        assert one.value == -other.value
        if one.low is not None:
            assert one.low == pytest.approx(-other.high, abs=1e-12)


@given(PAIRS)
def test_one_item_per_cluster_is_unclustered(pairs):
    a, b = split(pairs)
    plain, clustered = paired_difference(a, b), paired_difference(a, b, [f"item {i}" for i in range(len(a))])
    assert (plain.value, plain.n) == (clustered.value, clustered.n)
    if plain.low is None:
        assert clustered.low is None
    else:
        assert plain.low == pytest.approx(clustered.low, abs=1e-12)
        assert plain.high == pytest.approx(clustered.high, abs=1e-12)


@given(st.lists(st.tuples(SCORES, SCORES, st.sampled_from("abcd")), min_size=4, max_size=40))
def test_clustered_error_agrees_with_naive_loops(rows):
    a, b, clusters = zip(*rows, strict=True)
    found = paired_difference(a, b, clusters)
    n, count = len(rows), len(set(clusters))
    d = [x - y for x, y in zip(a, b, strict=True)]
    mean = sum(d) / n
    total = 0.0
    for cluster in set(clusters):
        total += sum(d[i] - mean for i in range(n) if clusters[i] == cluster) ** 2
    assert found.value == pytest.approx(mean, abs=1e-12)
    assert found.n == count
    if count == 1:
        assert found.low is None
        return
    half = stats.t.ppf(0.975, count - 1) * math.sqrt(count / (count - 1) * total) / n
    assert found.high - found.low == pytest.approx(2 * half, abs=1e-12)


def test_items_of_one_cluster_that_agree_widen_the_interval():
    a, b = [1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0], [0] * 12
    plain, clustered = paired_difference(a, b), paired_difference(a, b, [i // 3 for i in range(12)])
    assert clustered.high - clustered.low > 1.5 * (plain.high - plain.low)


def test_agrees_with_the_paired_t_test_of_scipy():
    a, b = np.random.default_rng(1).normal(size=(2, 30))
    found = paired_difference(a, b)
    theirs = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))


def test_edges_of_the_paired_difference():
    assert paired_difference([], []).value is None
    assert paired_difference([1.0], [0.0]).low is None
    assert paired_difference([1, 0], [0, 0], ["same", "same"]).low is None
    with pytest.raises(ValueError, match="equal lengths"):
        paired_difference([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="clusters"):
        paired_difference([1.0, 2.0], [1.0, 2.0], ["one"])
    with pytest.raises(ValueError, match="nan"):
        paired_difference([float("nan")], [1.0])


def test_flips_count_and_test_exactly():
    assert flips([1, 1, 1, 0], [0, 0, 0, 0]) == Flips(3, 0, 0.25)
    assert flips([True, False], [True, False]) == Flips(0, 0, 1.0)
    assert flips([], []) == Flips(0, 0, None)
    with pytest.raises(ValueError, match="0 or 1"):
        flips([0.5], [1])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_flips_are_symmetric_and_their_p_value_is_a_sum_of_binomials(pairs):
    a, b = split(pairs)
    found, other = flips(a, b), flips(b, a)
    assert (found.gained, found.lost) == (other.lost, other.gained)
    assert found.p_value == pytest.approx(other.p_value)
    m, least = found.gained + found.lost, min(found.gained, found.lost)
    tail = sum(math.comb(m, k) for k in range(least + 1)) / 2**m
    assert found.p_value == pytest.approx(min(1.0, 2 * tail))


def interval(value, half, n=1000):
    return Estimate(value, value - half, value + half, n, "paired t")


@pytest.mark.parametrize(
    ("estimate", "margin", "said"),
    [
        (interval(0.10, 0.05), 0.02, "better"),
        (interval(-0.10, 0.05), 0.02, "worse"),
        (interval(0.00, 0.01), 0.02, "equivalent"),
        (interval(0.01, 0.005), 0.02, "equivalent"),
        (interval(0.01, 0.05), 0.02, "underpowered"),
        (interval(0.00, 0.01), 0.0, "underpowered"),
        # The 95% interval reaches the margin, the 90% interval (0.84 as wide) does not: TOST at 5%.
        (interval(0.00, 0.021), 0.02, "equivalent"),
        (interval(0.00, 0.025), 0.02, "underpowered"),
        (Estimate(None, None, None, 0, "paired t"), 0.02, "underpowered"),
        (Estimate(0.5, None, None, 1, "paired t"), 0.02, "underpowered"),
    ],
)
def test_verdicts(estimate, margin, said):
    assert verdict(estimate, margin) == said


def test_a_small_sample_without_spread_is_not_equivalent():
    assert verdict(paired_difference([1, 0, 1], [1, 0, 1]), 0.05) == "underpowered"
    assert verdict(paired_difference([1.0] * 60, [1.0] * 60), 0.05) == "equivalent"


def test_the_90_percent_interval_is_the_one_a_direct_computation_gives():
    a, b = np.random.default_rng(5).normal(size=(2, 12)) * 0.1
    narrow = paired_difference(a, b, level=0.90)
    edge = max(abs(narrow.low), abs(narrow.high))
    assert verdict(paired_difference(a, b), edge * 1.0001) == "equivalent"
    assert verdict(paired_difference(a, b), edge * 0.9999) != "equivalent"


def test_verdict_takes_other_intervals_and_refuses_a_negative_margin():
    assert verdict(bootstrap_interval([0.1, 0.2, 0.3, 0.2] * 10, np.mean, 0, 200), 0.01) == "better"
    with pytest.raises(ValueError, match="margin"):
        verdict(wilson(1, 2), -0.1)
    with pytest.raises(ValueError, match="margin"):
        verdict(wilson(1, 2), float("nan"))
