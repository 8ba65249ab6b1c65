"""The hyperbola of steps and examples: recovered, covered, refused; learning rates by batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimpot.statistics.critical_batch import (
    SweepRun,
    best_runs,
    fit_critical_batch,
    rate_after,
    rate_for_batch,
    trade,
)

BATCHES = np.array([4, 8, 16, 32, 64, 128, 256])
above_0 = st.floats(1e-3, 1e6)


@given(above_0, above_0)
def test_steps_and_examples_lie_on_the_hyperbola(batch: float, noise: float) -> None:
    one = trade(batch, noise)
    assert one.steps > 1
    assert one.examples > 1 or one.examples == pytest.approx(1)
    assert (noise / batch) * (batch / noise) == pytest.approx(1)
    assert one.steps - 1 == pytest.approx(noise / batch, rel=1e-6, abs=1e-9)
    assert one.examples - 1 == pytest.approx(batch / noise, rel=1e-6, abs=1e-9)


@given(above_0, above_0, above_0, st.floats(0.5, 1))
def test_a_rate_carried_to_another_batch_and_back_is_the_rate(first: float, second: float, noise: float, power) -> None:
    there = rate_after(0.01, first, second, noise, power)
    assert rate_after(there, second, first, noise, power) == pytest.approx(0.01)
    assert (there >= 0.01) == (second >= first) or there == pytest.approx(0.01)


def test_far_below_the_noise_scale_the_rate_is_linear_or_by_the_root_and_far_above_it_stays() -> None:
    assert rate_after(1e-3, 1, 4, 1e9) == pytest.approx(4e-3)
    assert rate_after(1e-3, 1, 4, 1e9, exponent=0.5) == pytest.approx(2e-3)
    assert rate_after(1e-3, 1e9, 4e9, 1) == pytest.approx(1e-3)


def test_a_hyperbola_without_error_is_recovered() -> None:
    found = fit_critical_batch(BATCHES, 250 * (1 + 30 / BATCHES))
    assert found.fewest_steps.value == pytest.approx(250)
    assert found.fewest_examples.value == pytest.approx(7500)
    assert found.critical_batch.value == pytest.approx(30)
    assert found.error == pytest.approx(0, abs=1e-6)
    assert found.warning == ""


def test_the_intervals_cover_as_often_as_they_say() -> None:
    random, hits = np.random.default_rng(0), np.zeros(3)
    for _ in range(300):
        batch = np.repeat(BATCHES, 2)
        steps = 100 * (1 + 30 / batch) * np.exp(0.1 * random.standard_normal(len(batch)))
        found = fit_critical_batch(batch, steps)
        parts = (found.fewest_steps, found.fewest_examples, found.critical_batch)
        hits += [one.low <= truth <= one.high for one, truth in zip(parts, (100, 3000, 30), strict=True)]
    assert (hits / 300 >= 0.915).all()
    assert (hits / 300 <= 0.985).all()


def test_batches_that_are_all_small_do_not_tell_the_fewest_steps() -> None:
    random = np.random.default_rng(1)
    steps = 1e5 / BATCHES * np.exp(0.1 * random.standard_normal(len(BATCHES)))
    found = fit_critical_batch(BATCHES, steps)
    assert "larger ones would tell" in found.warning
    assert found.fewest_steps.low is None
    assert found.fewest_examples.value == pytest.approx(1e5, rel=0.15)


def test_batches_that_are_all_large_do_not_tell_the_fewest_examples() -> None:
    found = fit_critical_batch([512, 1024, 2048], [100.0, 101.0, 99.0])
    assert "smaller ones would tell" in found.warning


@pytest.mark.parametrize(
    ("batches", "steps", "said"),
    [
        ([4, 8], [10, 9], "2 batch sizes"),
        ([4, 4, 8, 8], [10, 9, 8, 8], "2 batch sizes"),
        ([4, 8, 16], [10, 9], "one of each"),
        ([4, 8, 16], [10, 9, 0], "above 0"),
        ([4, 8, 16], [10, 9, float("nan")], "finite"),
    ],
)
def test_what_cannot_be_fitted_is_refused(batches, steps, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fit_critical_batch(batches, steps)


def test_the_best_rate_is_the_one_whose_runs_reached_the_goal_soonest() -> None:
    runs = [
        SweepRun(8, 50, True, 0.1, 0),
        SweepRun(8, 60, True, 0.1, 1),
        SweepRun(8, 20, True, 0.3, 0),  # fast, but one of its seeds never got there
        SweepRun(8, 500, False, 0.3, 1),
        SweepRun(64, 500, False, 0.1),
    ]
    kept, missed = best_runs(runs)
    assert [(one.batch, one.steps) for one in kept] == [(8, 50), (8, 60)]
    assert missed == [64]


def test_a_larger_noise_scale_asks_for_a_smaller_rate() -> None:
    rates = [rate_for_batch(16, noise, 1.0) for noise in (1, 16, 256)]
    assert rates == sorted(rates, reverse=True)
    with pytest.raises(ValueError, match=r"0\.5"):
        rate_for_batch(16, 16, 1.0, exponent=0.4)
    with pytest.raises(ValueError, match="above 0"):
        trade(0, 4)
