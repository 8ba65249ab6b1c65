"""Power: the published example, a simulation, the inverse."""

import numpy as np
import pytest

from trimpot.statistics.paired import paired_difference
from trimpot.statistics.power import items_needed, smallest_detectable_effect


def test_three_points_need_969_questions():
    assert items_needed(0.03, 1 / 9) == 969
    assert items_needed(0.03, 1 / 9) == items_needed(-0.03, 1 / 9)


def test_resampling_an_item_lowers_the_noise():
    once = items_needed(0.05, 0.1, within_variances=(0.2, 0.2))
    often = items_needed(0.05, 0.1, within_variances=(0.2, 0.2), samples_per_item=(10, 10))
    assert once == pytest.approx(5 * items_needed(0.05, 0.1), abs=5)
    assert often == pytest.approx(1.4 * items_needed(0.05, 0.1), abs=5)


def test_smallest_effect_and_items_needed_are_inverse():
    effect = smallest_detectable_effect(0.5, 400)
    assert effect == pytest.approx(2.80159 * 0.5 / 20, rel=1e-5)
    assert items_needed(effect, 0.25) in (400, 401)


def test_an_effect_of_that_size_is_found_about_80_times_in_100():
    generator = np.random.default_rng(0)
    effect = smallest_detectable_effect(1.0, 100)
    found = [paired_difference(generator.normal(effect, 1, size=100), np.zeros(100)).excludes(0.0) for _ in range(600)]
    assert 0.74 <= np.mean(found) <= 0.86


def test_values_give_their_own_standard_deviation():
    values = [0.0, 1.0, -1.0, 2.0]
    assert smallest_detectable_effect(values) == smallest_detectable_effect(np.std(values, ddof=1), 4)
    assert smallest_detectable_effect(values, 16) == pytest.approx(smallest_detectable_effect(values) / 2)


def test_edges():
    assert smallest_detectable_effect([1.0]) is None
    assert smallest_detectable_effect([]) is None
    assert smallest_detectable_effect(0.5, 0) is None
    for bad in (lambda: smallest_detectable_effect(0.5), lambda: smallest_detectable_effect(float("nan"), 3)):
        with pytest.raises(ValueError):
            bad()
    for arguments in [(0.0, 0.1), (float("nan"), 0.1), (0.1, -0.1), (0.1, 0.1, (0, 0), (0, 1))]:
        with pytest.raises(ValueError):
            items_needed(*arguments)
    with pytest.raises(ValueError, match="power"):
        items_needed(0.1, 0.1, power=1.0)
