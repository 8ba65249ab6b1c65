"""Training seeds as a source of error beside items: hand arithmetic, and the level over simulated comparisons."""

import math

import numpy as np
import pytest
from scipy import stats

from tests.statistics.levels import seed_alarms
from trimpot.statistics.clustered import clustered_difference
from trimpot.statistics.seeds import seed_spread, seeded_difference


def test_one_seed_each_is_the_clustered_difference():
    a, b = np.array([[0.0, 0.5, 1.0]]), np.array([[1.0, 0.5, 0.75]])
    assert seeded_difference(a, b).interval() == clustered_difference([1, 0, -0.25]).interval()


def test_paired_seeds_by_hand():
    """Differences of 3 seeds on 2 items that shift as a whole: 0.1, 0.2, 0.6. No item behaves differently by seed."""
    base = np.array([[0.2, 0.4]] * 3)
    b = base + np.array([[0.1], [0.2], [0.6]])
    found = seeded_difference(base, b)
    shifts = np.array([0.1, 0.2, 0.6])
    assert found.value == pytest.approx(0.3)
    (items, seeds) = found.components
    assert items == (pytest.approx(0.0), 1)
    assert seeds == (pytest.approx(shifts.var(ddof=1) / 3), 2)
    half = stats.t.ppf(0.975, 2) * math.sqrt(shifts.var(ddof=1) / 3)
    assert found.interval().high == pytest.approx(0.3 + half)
    assert "3 seeds paired" in found.method


def test_other_numbers_of_seeds_are_not_paired():
    a = np.array([[0.1, 0.1], [0.3, 0.3], [0.5, 0.5]])
    b = np.array([[0.4, 0.4], [0.6, 0.6]])
    found = seeded_difference(a, b)
    assert found.value == pytest.approx(0.2)
    first, second = 0.04 / 3, 0.02 / 2
    welch = (first + second) ** 2 / (first**2 / 2 + second**2 / 1)
    assert found.components[1:] == ((pytest.approx(first + second), pytest.approx(welch)),)
    single = seeded_difference(a, b[:1])
    assert single.components[1:] == ((pytest.approx(0.04 / 3 + 0.04), 2),)
    assert "Welch" in single.method


def test_noise_of_single_items_is_not_taken_for_noise_of_seeds():
    """Every seed flips items of its own; means over many items hardly move, and V_S − V_IS is about 0."""
    generator = np.random.default_rng(0)
    d = generator.standard_normal((6, 4000))
    found = seeded_difference(np.zeros_like(d), d)
    plain = clustered_difference(d.mean(axis=0))
    assert found.standard_error == pytest.approx(plain.standard_error, rel=0.35)


@pytest.mark.parametrize(("seeds", "seed_sd"), [((3, 3), 0.0), ((3, 3), 0.1), ((5, 5), 0.05), ((3, 6), 0.05)])
def test_the_level_holds_with_seeds(seeds, seed_sd):
    # 1,500 comparisons: a standard deviation of 0.6 points about 5%.
    assert 0.02 <= seed_alarms(seeds, seed_sd, 1500) <= 0.07


def test_leaving_seeds_out_would_not_hold_it():
    generator = np.random.default_rng(1)
    alarms = 0
    for _ in range(300):
        shift = 0.1 * generator.standard_normal((2, 1))
        d = 0.4 * generator.standard_normal((2, 120)) + shift
        alarms += clustered_difference(d.mean(axis=0)).interval().excludes(0.0)
    assert alarms / 300 > 0.3


@pytest.mark.parametrize("seeds", [(2, 2), (2, 4), (1, 4)])
def test_few_seeds_are_cautious(seeds):
    assert seed_alarms(seeds, 0.1, 800) <= 0.07


def test_edges():
    assert seed_spread(np.zeros((1, 4))) is None
    assert seed_spread(np.array([[0.5, 0.5], [0.6, 0.6]])) == pytest.approx(0.0707107)
    for a, b in (((2, 3), (2, 4)), ((0, 3), (1, 3))):
        with pytest.raises(ValueError):
            seeded_difference(np.zeros(a), np.zeros(b))
    assert seeded_difference(np.zeros((3, 1)), np.ones((3, 1))).components == ()
