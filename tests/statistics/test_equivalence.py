"""Equivalence and non-inferiority: statsmodels' TOST, the duality with intervals, and the error at the margin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from tests.statistics.levels import margin_passes
from trimpot.statistics.clustered import MeanDifference, cluster_degrees, cluster_variance, clustered_difference
from trimpot.statistics.equivalence import equivalence, non_inferiority


def many(value, error):
    return MeanDifference(value, value, ((error**2, 1e9),), 1000, 1000, "made")


def test_examples_of_the_docstrings():
    assert equivalence(many(0.0, 0.01), 0.02).p_value == pytest.approx(stats.norm.sf(2), rel=1e-4)
    assert non_inferiority(many(-0.01, 0.01), 0.03).p_value == pytest.approx(stats.norm.sf(2), rel=1e-4)


def test_agrees_with_the_tost_of_statsmodels():
    a, b = np.random.default_rng(0).normal(size=(2, 25)) * 0.1
    theirs, lower, _ = ttost_paired(a, b, -0.06, 0.06)
    found = clustered_difference(a - b)
    assert equivalence(found, 0.06).p_value == pytest.approx(float(theirs))
    assert non_inferiority(found, 0.06).p_value == pytest.approx(float(lower[1]))


@given(st.floats(-0.1, 0.1), st.floats(0.001, 0.1), st.floats(0.001, 0.1))
def test_a_p_value_below_5_percent_is_a_90_percent_interval_inside_the_margins(value, error, margin):
    found = equivalence(many(value, error), margin)
    if abs(found.p_value - 0.05) > 1e-9:
        assert (found.p_value < 0.05) == (-margin < found.low and found.high < margin)
    one_sided = non_inferiority(many(value, error), margin)
    if abs(one_sided.p_value - 0.05) > 1e-9:
        assert (one_sided.p_value < 0.05) == (one_sided.low > -margin)


def test_the_error_at_the_margin_is_5_percent_over_10000_clustered_comparisons():
    """True difference −0.1 = −margin, 30 clusters of unequal size: equivalent or not inferior 5 times in 100."""
    generator = np.random.default_rng(0)
    sizes = generator.integers(5, 20, size=30).astype(float)
    shared = 0.1 * generator.standard_normal((10_000, 30))
    own = 0.2 * generator.standard_normal((10_000, 30)) * np.sqrt(sizes)
    sums = (shared - 0.1) * sizes + own
    means, errors = sums.sum(axis=1) / sizes.sum(), np.sqrt(cluster_variance(sums, sizes))
    half = stats.t.ppf(0.95, cluster_degrees(sizes)) * errors
    not_inferior = means - half > -0.1
    same = not_inferior & (means + half < 0.1)
    assert 0.04 <= not_inferior.mean() <= 0.06
    assert 0.04 <= same.mean() <= 0.06
    # The vectorised arithmetic is that of the functions.
    one = MeanDifference(means[0], means[0], ((errors[0] ** 2, cluster_degrees(sizes)),), 1, 30, "made")
    assert equivalence(one, 0.1).low == pytest.approx(means[0] - half[0])


@pytest.mark.parametrize(
    ("n", "gained", "margin"), [(400, 0.0, 0.02), (200, 0.0, 0.05), (400, 0.005, 0.02), (300, 0.05, 0.05)]
)
def test_answers_that_got_worse_by_the_margin_pass_at_most_5_or_6_times_in_100(n, gained, margin):
    """Rare losses, where plain t claims too much: 10,000 comparisons, the true difference is −margin."""
    ours, plain = margin_passes(n, gained, margin)
    assert ours <= 0.06
    if not gained:
        assert plain > 0.07


def test_edges():
    assert equivalence(clustered_difference([]), 0.1).p_value is None
    assert equivalence(many(0.0, 0.1), 0.0).p_value >= 0.5
    for bad in ((-0.1, 0.95), (float("nan"), 0.95), (0.1, 0.5), (0.1, 1.0)):
        with pytest.raises(ValueError):
            equivalence(many(0.0, 0.1), *bad)
        with pytest.raises(ValueError):
            non_inferiority(many(0.0, 0.1), *bad)
