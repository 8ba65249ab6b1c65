"""Intervals: hand arithmetic, agreement with scipy, coverage by simulation, edge cases."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trimpot.statistics.intervals import bootstrap_interval, mean_interval, wilson

FLOATS = st.floats(-1e3, 1e3, allow_nan=False)


def test_wilson_example_of_the_docstring():
    found = wilson(8, 10)
    assert found.value == 0.8
    assert found.low == pytest.approx(0.4902, abs=1e-4)
    assert found.high == pytest.approx(0.9433, abs=1e-4)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_agrees_with_scipy_and_holds_the_value(case, level):
    successes, n = case
    found = wilson(successes, n, level)
    theirs = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    assert found.low == pytest.approx(theirs.low, abs=1e-9)
    assert found.high == pytest.approx(theirs.high, abs=1e-9)
    assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("n", [20, 96])
def test_wilson_covers_the_truth_about_95_times_in_100(p, n):
    counts = np.random.default_rng(0).binomial(n, p, size=2000)
    table = {int(count): wilson(int(count), n) for count in np.unique(counts)}
    covered = np.mean([table[int(count)].low <= p <= table[int(count)].high for count in counts])
    assert 0.91 <= covered <= 0.99


def test_wilson_edges():
    assert (wilson(0, 0).value, wilson(0, 0).low, wilson(0, 0).n) == (None, None, 0)
    assert wilson(0, 7).low == 0.0
    assert wilson(7, 7).high == 1.0
    for successes, n in [(8, 7), (-1, 7), (float("nan"), 7)]:
        with pytest.raises(ValueError, match="between 0 and n"):
            wilson(successes, n)
    with pytest.raises(ValueError, match="level"):
        wilson(1, 2, level=95)


def test_mean_interval_example_of_the_docstring():
    found = mean_interval([1, 2, 3])
    assert (found.value, found.n) == (2.0, 3)
    assert found.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-5)
    assert found.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-5)


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=30).filter(lambda v: len(set(v)) > 1))
def test_mean_interval_agrees_with_scipy(values):
    found = mean_interval(values, 0.9)
    low, high = stats.t.interval(0.9, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert found.low == pytest.approx(low, rel=1e-9, abs=1e-9)
    assert found.high == pytest.approx(high, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("interval", [mean_interval, lambda values: bootstrap_interval(values, np.mean, 0, 50)])
def test_edges_of_mean_and_bootstrap(interval):
    assert (interval([]).value, interval([]).low, interval([]).n) == (None, None, 0)
    assert (interval([3.0]).value, interval([3.0]).low, interval([3.0]).high) == (3.0, None, None)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"values\[1\]"):
            interval([1.0, bad])


def test_bootstrap_is_about_the_t_interval_for_a_mean_and_repeats_with_its_seed():
    values = np.random.default_rng(3).normal(size=200)
    found, again = (bootstrap_interval(values, np.mean, seed=1) for _ in range(2))
    exact = mean_interval(values)
    assert found == again
    assert found != bootstrap_interval(values, np.mean, seed=2)
    assert found.high - found.low == pytest.approx(exact.high - exact.low, rel=0.1)


def test_bootstrap_refuses_a_statistic_that_is_nan():
    with pytest.raises(ValueError, match="statistic"):
        bootstrap_interval([1.0, 2.0], lambda values: float("nan"), seed=0, draws=5)
    with pytest.raises(ValueError, match="draws"):
        bootstrap_interval([1.0, 2.0], np.mean, seed=0, draws=0)
