"""Benjamini and Hochberg, and what both corrections promise over a family."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from trimpot.statistics.multiple import benjamini_hochberg, holm

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def test_example_of_the_docstring():
    assert benjamini_hochberg([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])
    assert benjamini_hochberg([]) == []


@given(P_VALUES)
def test_agrees_with_scipy(values):
    assert benjamini_hochberg(values) == pytest.approx(stats.false_discovery_control(values), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_statsmodels(seed):
    values = np.random.default_rng(seed).random(12) ** 3
    assert benjamini_hochberg(values) == pytest.approx(multipletests(values, method="fdr_bh")[1], abs=1e-12)
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1], abs=1e-12)


@given(P_VALUES)
def test_it_never_corrects_more_than_holm(values):
    assert all(soft <= hard + 1e-12 for soft, hard in zip(benjamini_hochberg(values), holm(values), strict=True))


def test_refuses_what_is_no_p_value():
    for bad in ([1.1], [-0.1], [float("nan")]):
        with pytest.raises(ValueError):
            benjamini_hochberg(bad)


def test_family_errors_over_10000_simulated_families():
    """10 slices: none real, then 5 real ones. Any false alarm at most 5% (Holm), share of false ones 5% (BH)."""
    generator = np.random.default_rng(0)
    z = generator.standard_normal((10_000, 10))
    none = 2 * stats.norm.sf(np.abs(z))
    real = 2 * stats.norm.sf(np.abs(z + 4 * (np.arange(10) < 5)))
    any_false = np.mean([min(holm(row)) <= 0.05 for row in none])
    assert 0.04 <= any_false <= 0.06
    false_beside_real, shares = [], []
    for row in real:
        false_beside_real.append(min(holm(row)[5:]) <= 0.05)
        rejected = np.asarray(benjamini_hochberg(row)) <= 0.05
        shares.append(rejected[5:].sum() / max(rejected.sum(), 1))
    assert np.mean(false_beside_real) <= 0.06
    # BH's expected share is 5% times the share of true nulls: 2.5%.
    assert 0.02 <= np.mean(shares) <= 0.03
