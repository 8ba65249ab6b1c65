"""Sequential looks: published boundaries, a simulation, and an independent integral."""

import math

import numpy as np
import pytest
from scipy import stats

from trimpot.statistics.sequential import boundaries, crossing_probabilities, spent

FIVE = (0.2, 0.4, 0.6, 0.8, 1.0)


@pytest.mark.parametrize(
    ("spending", "published"),
    [
        # Five looks, two-sided 5%: ldbounds 2.0 (Casper and Perez), as in Reboussin, DeMets, Kim and Lan 2000.
        ("obrien_fleming", (4.8769, 3.3569, 2.6803, 2.2898, 2.0310)),
        ("pocock", (2.4380, 2.4268, 2.4101, 2.3966, 2.3859)),
    ],
)
def test_boundaries_are_the_published_ones(spending, published):
    found = boundaries(FIVE, spending=spending)
    assert [one.boundary for one in found] == pytest.approx(published, abs=2e-4)
    assert found[-1].spent == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("looks", "pocock", "obrien_fleming"), [(2, 2.178, 1.977), (3, 2.289, 2.004), (5, 2.413, 2.040), (10, 2.555, 2.087)]
)
def test_the_classical_constants_spend_5_percent(looks, pocock, obrien_fleming):
    """Jennison and Turnbull 2000, tables 2.1 and 2.3."""
    fractions = [number / looks for number in range(1, looks + 1)]
    assert sum(crossing_probabilities([pocock] * looks, fractions)) == pytest.approx(0.05, abs=1.5e-4)
    falling = [obrien_fleming / math.sqrt(fraction) for fraction in fractions]
    assert sum(crossing_probabilities(falling, fractions)) == pytest.approx(0.05, abs=1.5e-4)


def test_unequal_looks_agree_with_the_multivariate_normal():
    t = np.array([0.3, 0.45, 0.9])
    found = boundaries(t.tolist())
    bounds = [one.boundary for one in found]
    covariance = np.sqrt(np.minimum.outer(t, t) / np.maximum.outer(t, t))
    inside = stats.multivariate_normal(cov=covariance).cdf(bounds, lower_limit=[-one for one in bounds])
    assert 1 - inside == pytest.approx(spent(0.9), abs=1e-4)


@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock"])
def test_five_looks_alarm_falsely_5_times_in_100_over_10000_comparisons(spending):
    bounds = [one.boundary for one in boundaries(FIVE, spending=spending)]
    steps = np.random.default_rng(0).standard_normal((10_000, 5))
    z = np.abs(steps.cumsum(axis=1)) / np.sqrt(np.arange(1, 6))
    assert 0.04 <= (z >= bounds).any(axis=1).mean() <= 0.06
    # Looking five times at 1.96 does not.
    assert (z >= 1.96).any(axis=1).mean() > 0.12


def test_drift_gives_power():
    """Expected z of 3.24 at the end is 90% power for one look (1.96 + 1.282); looks cost a little of it."""
    assert sum(crossing_probabilities([1.96], [1.0], 3.2415)) == pytest.approx(0.90, abs=1e-3)
    bounds = [one.boundary for one in boundaries(FIVE)]
    steps = np.random.default_rng(1).standard_normal((20_000, 5)) + 3.2415 / math.sqrt(5)
    z = np.abs(steps.cumsum(axis=1)) / np.sqrt(np.arange(1, 6))
    simulated = (z >= bounds).any(axis=1).mean()
    assert sum(crossing_probabilities(bounds, FIVE, 3.2415)) == pytest.approx(simulated, abs=0.008)


def test_spending_starts_at_0_and_ends_at_the_level():
    assert spent(0.0) == 0
    assert spent(1.0, 0.99, "pocock") == pytest.approx(0.01)
    assert spent(0.5) == pytest.approx(0.00305, abs=1e-5)
    assert spent(0.5, spending="pocock") == pytest.approx(0.0310, abs=1e-4)
    assert boundaries([1.0])[0].boundary == pytest.approx(1.959964, abs=1e-5)


def test_edges():
    for bad in ((), (0.5, 0.4), (0.0, 1.0), (0.5, 1.2)):
        with pytest.raises(ValueError):
            boundaries(bad)
    with pytest.raises(ValueError):
        boundaries([1.0], spending="none")
    with pytest.raises(ValueError):
        spent(1.5)
    with pytest.raises(ValueError):
        crossing_probabilities([2.0], [0.5, 1.0])
    assert boundaries([0.01, 1.0])[0].boundary == 8.5
