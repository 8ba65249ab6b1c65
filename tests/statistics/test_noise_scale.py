"""The noise scale on a quadratic whose gradient and covariance are known, and the mistakes that are made with it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimpot.statistics.critical_batch import rate_for_batch
from trimpot.statistics.noise_scale import (
    Moments,
    curvature_noise_scale,
    fieller,
    moments_from_examples,
    moments_from_parts,
    moments_from_ranks,
    moments_from_two_batches,
    noise_scale,
    noise_scale_of_examples,
)

WIDTH = 40
HESSIAN = np.diag(np.linspace(0.5, 1.5, WIDTH))
"""The loss of example x is ½(θ − x)ᵀH(θ − x) with x ~ N(0, I): its gradient H(θ − x) has mean Hθ and covariance H²."""
GRADIENT = HESSIAN @ np.full(WIDTH, 0.11)
COVARIANCE = HESSIAN @ HESSIAN
TRACE, SQUARED = float(np.trace(COVARIANCE)), float(GRADIENT @ GRADIENT)


def gradients(count: int, random: np.random.Generator) -> np.ndarray:
    """Gradients of single examples: [count, WIDTH]."""
    return GRADIENT + random.standard_normal((count, WIDTH)) @ HESSIAN


def norm(vector: np.ndarray) -> float:
    return float(np.linalg.norm(vector))


def two_batches(random: np.random.Generator) -> Moments:
    one = gradients(32, random)
    return moments_from_two_batches(norm(one[:8].mean(0)), norm(one.mean(0)), 8, 32)


def unequal_parts(random: np.random.Generator) -> Moments:
    one, cuts = gradients(32, random), [0, 3, 4, 15, 32]
    parts = [one[first:last].sum(0) / 32 for first, last in pairwise(cuts)]
    return moments_from_parts([norm(part) for part in parts], np.diff(cuts) / 32, norm(one.mean(0)), 32)


def examples(random: np.random.Generator) -> Moments:
    one = gradients(32, random)
    return moments_from_examples(np.linalg.norm(one, axis=1), norm(one.mean(0)))


def ranks(random: np.random.Generator) -> Moments:
    one = gradients(32, random).reshape(4, 8, WIDTH).mean(1)
    return moments_from_ranks(np.linalg.norm(one, axis=1), norm(one.mean(0)), 8)


@pytest.mark.parametrize("estimator", [two_batches, unequal_parts, examples, ranks])
def test_every_estimator_is_unbiased_on_the_quadratic(estimator) -> None:
    random = np.random.default_rng(0)
    looks = [estimator(random) for _ in range(3000)]
    for values, truth in (([one.trace for one in looks], TRACE), ([one.squared_gradient for one in looks], SQUARED)):
        error = np.std(values) / np.sqrt(len(values))
        assert abs(np.mean(values) - truth) < 4 * error
        assert error < 0.05 * truth
    found = noise_scale(looks).simple
    assert found.low < TRACE / SQUARED < found.high
    assert found.value == pytest.approx(TRACE / SQUARED, rel=0.1)


def test_single_examples_give_the_trace_with_far_less_spread_than_batches_do() -> None:
    """Research page: a coefficient of variation of .006 with B_small = 1 against .044 with B_small = 32."""
    random = np.random.default_rng(1)
    single = [examples(random).trace for _ in range(500)]
    batches = [two_batches(random).trace for _ in range(500)]
    assert np.std(single) < 0.25 * np.std(batches)


def test_unequal_parts_counted_as_equal_are_biased() -> None:
    random = np.random.default_rng(2)
    truth, wrong = [], []
    for _ in range(2000):
        one, cuts = gradients(32, random), [0, 1, 2, 3, 32]
        parts = [norm(one[first:last].sum(0) / 32) for first, last in pairwise(cuts)]
        truth.append(moments_from_parts(parts, np.diff(cuts) / 32, norm(one.mean(0)), 32).trace)
        wrong.append(moments_from_parts(parts, [0.25] * 4, norm(one.mean(0)), 32).trace)
    assert np.mean(truth) == pytest.approx(TRACE, rel=0.1)
    assert np.mean(wrong) > 1.2 * TRACE


def test_the_ratio_of_means_is_near_the_truth_of_90_and_the_mean_of_ratios_is_well_above() -> None:
    random, scale = np.random.default_rng(3), np.sqrt(TRACE / 90 / SQUARED)
    looks = []
    for _ in range(8000):
        one = gradients(180, random) + GRADIENT * (scale - 1)
        looks.append(moments_from_examples(np.linalg.norm(one, axis=1), norm(one.mean(0))))
    found = noise_scale(looks).simple
    assert found.value == pytest.approx(90, abs=1.5)
    assert found.low < 90 < found.high
    assert np.mean([one.trace / one.squared_gradient for one in looks]) > 98


def buggy(norm_small: float, norm_big: float, small: int, big: int) -> float:
    """A public copy: the norm of the small batch is not squared."""
    squared = (big * norm_big**2 - small * norm_small) / (big - small)
    return (norm_small - norm_big**2) / (1 / small - 1 / big) / squared


@given(st.floats(0.01, 100))
def test_the_noise_scale_does_not_change_with_the_unit_of_the_loss(unit: float) -> None:
    # |G|² = 4 and S = 8, so B_simple is 2: E|g|² is 4 + 8/2 at B = 2 and 4 + 8/8 at B = 8.
    norm_small, norm_big = np.sqrt(8) * unit, np.sqrt(5) * unit
    one = moments_from_two_batches(norm_small, norm_big, 2, 8)
    assert one.trace / one.squared_gradient == pytest.approx(2.0)


def test_with_the_missing_square_the_unit_changes_the_answer() -> None:
    small, middle, large = (buggy(np.sqrt(8) * unit, np.sqrt(5) * unit, 2, 8) for unit in (0.1, 1.0, 10.0))
    assert min(abs(small - middle), abs(middle - large), abs(small - large)) > 0.2


def test_the_bug_gives_another_answer_at_unit_one_too() -> None:
    assert buggy(np.sqrt(8), np.sqrt(5), 2, 8) == pytest.approx(((8**0.5 - 5) / 0.375) / ((40 - 2 * 8**0.5) / 6))
    assert buggy(np.sqrt(8), np.sqrt(5), 2, 8) < 0


def test_the_interval_covers_as_often_as_it_says() -> None:
    random, hits = np.random.default_rng(4), 0
    for _ in range(400):
        found = noise_scale([examples(random) for _ in range(10)]).simple
        hits += found.low <= TRACE / SQUARED and (found.high is None or found.high >= TRACE / SQUARED)
    assert 0.92 <= hits / 400 <= 0.98


def of_examples(own: np.ndarray, share: np.ndarray):
    parts = own * share[:, None]
    whole = parts.sum(0)
    return noise_scale_of_examples(np.linalg.norm(parts, axis=1), parts @ whole, share, norm(whole))


def test_the_interval_of_one_state_covers_as_often_as_it_says() -> None:
    random, hits, count = np.random.default_rng(5), 0, 64
    for _ in range(400):
        found = of_examples(gradients(count, random), np.full(count, 1 / count)).simple
        hits += found.low <= TRACE / SQUARED and (found.high is None or found.high >= TRACE / SQUARED)
    assert 0.92 <= hits / 400 <= 0.99


def test_the_jackknife_leaves_out_one_example_after_the_other() -> None:
    own = gradients(6, np.random.default_rng(6))
    share = np.array([1, 2, 3, 4, 5, 6]) / 21
    found = of_examples(own, share)

    def direct(keep: list[int]) -> Moments:
        weights = share[keep] / share[keep].sum()
        parts = own[keep] * weights[:, None]
        return moments_from_parts(np.linalg.norm(parts, axis=1), weights, norm(parts.sum(0)), len(keep))

    whole = direct(list(range(6)))
    left = [direct([place for place in range(6) if place != out]) for out in range(6)]
    pseudo = [6 * whole.trace - 5 * one.trace for one in left]
    assert found.trace.value == pytest.approx(whole.trace)
    assert found.squared_gradient.value == pytest.approx(whole.squared_gradient)
    half = 2.5705818 * np.std(pseudo, ddof=1) / np.sqrt(6)  # t, 5 degrees of freedom, 97.5%
    assert found.trace.high - found.trace.value == pytest.approx(half, rel=1e-6)


def test_without_a_signal_there_is_no_upper_limit_and_no_zero() -> None:
    random = np.random.default_rng(7)
    noise = [
        moments_from_examples(np.linalg.norm(one, axis=1), norm(one.mean(0)))
        for one in (random.standard_normal((20, 16, WIDTH)) @ HESSIAN)
    ]
    found = noise_scale(noise)
    assert found.simple.high is None
    assert found.simple.low > 16
    assert found.squared_gradient.low < 0 < found.squared_gradient.high
    below = noise_scale([Moments(-1.0, 5.0), Moments(-2.0, 6.0), Moments(-1.5, 5.5)])
    assert below.simple.value is None


def test_no_look_gives_none_and_one_look_no_interval() -> None:
    assert noise_scale([]).simple.value is None
    one = noise_scale([Moments(2.0, 8.0)]).simple
    assert (one.value, one.low, one.high, one.n) == (4.0, None, None, 1)


def test_fieller_is_the_set_of_ratios_that_the_t_test_does_not_reject() -> None:
    means, covariance, t = (10.0, 4.0), np.array([[1.0, 0.3], [0.3, 0.5]]), 2.0
    low, high = fieller(means, covariance, t)
    for ratio in (low, high):
        spread = covariance[0, 0] - 2 * ratio * covariance[0, 1] + ratio**2 * covariance[1, 1]
        assert (means[0] - ratio * means[1]) ** 2 == pytest.approx(t**2 * spread)
    assert low < 2.5 < high


def test_the_curvature_noise_scale_is_where_a_batch_makes_half_of_the_largest_progress() -> None:
    noise = curvature_noise_scale(HESSIAN, GRADIENT, COVARIANCE)
    along, squared = GRADIENT @ HESSIAN @ GRADIENT, GRADIENT @ GRADIENT
    for batch in (1, 7, 1000):
        # E[L(θ − εg)] − L = −ε|G|² + ½ε²(GᵀHG + tr(HΣ)/B), least at the rate below.
        bend = along + np.trace(HESSIAN @ COVARIANCE) / batch
        rate = squared / bend
        assert rate_for_batch(batch, noise, squared / along) == pytest.approx(rate)
        assert rate * squared - rate**2 * bend / 2 == pytest.approx(squared**2 / along / 2 / (1 + noise / batch))


def test_with_a_round_hessian_both_noise_scales_are_one() -> None:
    assert curvature_noise_scale(3 * np.eye(WIDTH), GRADIENT, COVARIANCE) == pytest.approx(TRACE / SQUARED)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: moments_from_two_batches(1, 1, 8, 8),
        lambda: moments_from_parts([1, 2], [0.5, 0.6], 1, 2),
        lambda: moments_from_parts([1], [1.0], 1, 2),
        lambda: moments_from_examples([1.0], 1.0),
        lambda: moments_from_ranks([1.0], 1.0, 4),
        lambda: noise_scale_of_examples([1, 1], [1, 1], [0.5, 0.5], 1),
        lambda: curvature_noise_scale([[0.0]], [1.0], [[1.0]]),
    ],
)
def test_what_cannot_be_estimated_is_refused(wrong) -> None:
    with pytest.raises(ValueError):
        wrong()
