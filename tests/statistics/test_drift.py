"""Length, calibration and noise: hand arithmetic and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimpot.statistics.drift import calibration_drift, equal_mass_error, noise_floor, ratio_of_means

UNIT = st.integers(0, 20).map(lambda value: value / 20)


def test_examples_of_the_docstrings():
    found = ratio_of_means([10, 20], [20, 40])
    assert (found.value, found.low, found.high) == (2, pytest.approx(2), pytest.approx(2))
    assert equal_mass_error([0.2, 0.8], [0, 1], bins=2) == pytest.approx(0.2)
    quiet = noise_floor([1.0] * 100, [1.0] * 100)
    assert (quiet.floor, quiet.changed.value) == (0.0, 0.0)
    assert noise_floor([0.0] * 100, [1.0] + [0.0] * 99).floor == pytest.approx(0.01 * 1.98422, rel=1e-4)


@given(st.lists(st.tuples(UNIT, st.booleans()), min_size=1, max_size=60), st.integers(1, 12), st.randoms())
def test_the_calibration_error_is_that_of_loops_in_any_order(rows, bins, random):
    rows = [(p, float(y)) for p, y in rows]
    ordered = sorted(rows)
    mean = {p: np.mean([y for q, y in rows if q == p]) for p, _ in rows}
    n, total = len(rows), 0.0
    for number in range(bins):
        gaps = [mean[p] - p for i, (p, _) in enumerate(ordered) if i * bins // n == number]
        total += abs(sum(gaps))
    random.shuffle(rows)
    assert equal_mass_error(*zip(*rows, strict=True), bins) == pytest.approx(total / n, abs=1e-9)


def test_the_interval_of_a_ratio_covers_it_95_times_in_100():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        common = generator.gamma(4, 10, 80)
        a, b = common * generator.lognormal(0, 0.2, 80), 1.3 * common * generator.lognormal(0, 0.2, 80)
        found = ratio_of_means(a, b)
        covered += found.low <= 1.3 <= found.high
    assert 0.93 <= covered / 1000 <= 0.97


def test_an_equally_calibrated_model_shows_no_drift():
    generator = np.random.default_rng(0)
    covered = 0
    draws = 100
    for number in range(draws):
        p = generator.random((2, 400))
        y = generator.random((2, 400)) < p
        found = calibration_drift((p[0], y[0]), (p[1], y[1]), seed=number, draws=60)
        covered += not found.excludes(0.0)
    assert covered / draws >= 0.9


def test_overconfidence_is_seen():
    generator = np.random.default_rng(1)
    p = generator.random(1000)
    y = generator.random(1000) < p
    sharper = np.clip(p + 0.3 * np.sign(p - 0.5), 0, 1)
    found = calibration_drift((p, y), (sharper, y), seed=0, clusters=[i // 2 for i in range(1000)])
    assert found.n == 500
    assert found.low > 0.05
    assert found.value == equal_mass_error(sharper, y) - equal_mass_error(p, y)


def test_a_shift_of_all_items_is_in_the_floor():
    found = noise_floor([0.5] * 50, [0.52] * 50)
    assert found.floor == pytest.approx(0.02)
    assert found.changed.value == 1.0


def test_edges():
    assert ratio_of_means([], []).value is None
    assert ratio_of_means([0.0], [1.0]).value is None
    assert ratio_of_means([1.0], [2.0]).low is None
    assert equal_mass_error([], []) is None
    assert calibration_drift(([], []), ([], []), 0).value is None
    assert calibration_drift(([0.5], [1]), ([0.75], [1]), 0).value == pytest.approx(-0.25)
    assert noise_floor([], []).floor is None
    assert noise_floor([0.0, 0.0], [1.0, 1.0], ["x", "x"]).floor == 1.0
    for bad in (
        lambda: ratio_of_means([-1.0], [1.0]), lambda: equal_mass_error([1.5], [1]),
        lambda: equal_mass_error([0.5], [1], 0), lambda: calibration_drift(([0.5], [1]), ([0.5], [1]), 0, draws=1),
        lambda: noise_floor([math.nan], [0.0]),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            bad()
