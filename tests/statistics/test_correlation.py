"""Correlations: hand arithmetic, agreement with scipy, coverage, edge cases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trimpot.statistics.correlation import pearson, spearman

POINTS = st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=4, max_size=30)


def test_examples_of_the_docstrings():
    assert pearson([1, 2, 3], [1, 3, 2]).value == pytest.approx(0.5)
    assert spearman([1, 2, 9], [1, 30, 2]).value == pytest.approx(0.5)


@given(POINTS)
def test_agree_with_scipy_and_are_symmetric(points):
    x, y = zip(*points, strict=True)
    for ours, theirs in ((pearson, stats.pearsonr), (spearman, stats.spearmanr)):
        found = ours(x, y)
        if len(set(x)) == 1 or len(set(y)) == 1:
            assert found.value is None
            continue
        assert found.value == pytest.approx(theirs(x, y)[0], abs=1e-9)
        assert found.value == pytest.approx(ours(y, x).value, abs=1e-12)
        if found.low is not None:
            assert -1 <= found.low <= found.value <= found.high <= 1


def test_pearson_interval_is_the_one_of_scipy():
    x, y = np.random.default_rng(0).normal(size=(2, 40))
    found, theirs = pearson(x, y), stats.pearsonr(x, y).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))
    assert spearman(x, y).high - spearman(x, y).low > 0


@pytest.mark.parametrize("correlation", [pearson, spearman])
def test_covers_the_truth_about_95_times_in_100(correlation):
    generator = np.random.default_rng(1)
    truth = 0.6 if correlation is pearson else 6 / np.pi * np.arcsin(0.3)
    covered = 0
    for _ in range(500):
        x, noise = generator.normal(size=(2, 50))
        found = correlation(x, 0.6 * x + 0.8 * noise)
        covered += found.low <= truth <= found.high
    assert 0.91 <= covered / 500 <= 0.985


@pytest.mark.parametrize("correlation", [pearson, spearman])
def test_edges(correlation):
    assert correlation([], []).value is None
    assert correlation([1, 2], [1, 2]).value is None
    assert correlation([5, 5, 5, 5], [1, 2, 3, 4]).value is None
    assert correlation([0.1 + 0.2, 0.3, 0.3], [1, 2, 3]).n == 3
    assert (correlation([1, 2, 3], [1, 3, 2]).low, correlation([1, 2, 3, 4], [2, 4, 6, 8]).low) == (None, None)
    with pytest.raises(ValueError, match="equal lengths"):
        correlation([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="nan"):
        correlation([1, 2, float("nan")], [1, 2, 3])


def test_tiny_and_huge_values_neither_vanish_nor_overflow():
    assert pearson([1e-200, 2e-200, 4e-200], [1e200, 2e200, 4e200]).value == pytest.approx(1.0)
