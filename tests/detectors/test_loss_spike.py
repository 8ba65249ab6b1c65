"""loss_spike: the jump, the baseline that alarms do not shift, NaN."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimpot.detectors.loss_spike import LossSpike
from trimpot.detectors.windows import make_window

SPIKE = LossSpike()
CALM = [2.0, 2.1, 1.9, 2.0, 2.2, 1.8, 2.0, 2.1, 1.9, 2.0]


def scan(losses, **others):
    return SPIKE.scan(make_window(loss=losses, **others))


def flagged(losses):
    return [index for index in range(len(losses)) if scan(losses[: index + 1])]


def test_hand_arithmetic():
    # Median 2, deviations sorted 0 0 0 0 .1 .1 .1 .1 .2 .2: MAD .1, z = (6 - 2)/.14826 = 26.98.
    finding = scan([*CALM, 6.0])
    assert finding.value == 6.0
    assert "3.0 times the median 2 " in finding.message
    assert "z = 27.0" in finding.message


@pytest.mark.parametrize("metric", ["loss", "grad_norm"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_not_a_number_fires_at_the_first_step(metric, value):
    finding = SPIKE.scan(make_window(**{metric: [value]}))
    assert (finding.metric, finding.value, finding.step) == (metric, None, 1)


def test_needs_both_the_z_and_the_factor_and_looks_upward_only():
    assert scan([*CALM, 3.9]) is None  # z = 12.8 but below twice the median
    assert scan([1.0, 3.0, 1.0, 3.0, 1.0, 3.0, 1.0, 3.0, 2.0, 4.5]) is None  # twice the median but z = 1.7
    assert scan([*CALM, 0.01]) is None
    assert scan([2.0] * 7 + [9.0]) is None  # only 7 steps before
    assert scan([2.0] * 8 + [9.0])


def test_its_own_alarm_does_not_shift_its_baseline():
    losses = CALM + [9.0] * 60 + [2.0] * 3 + [9.0]
    assert flagged(losses) == [*range(10, 70), 73]


def test_nan_steps_do_not_enter_the_baseline():
    assert scan([float("nan"), *CALM, float("nan"), float("inf"), 9.0]).value == 9.0
    assert scan([*CALM, float("nan"), 2.0]) is None


def test_a_policy_gradient_loss_has_no_level():
    losses = [1e-3] * 20 + [5.0]
    assert scan(losses, reward=[0.5] * 21) is None
    assert scan([*losses, float("nan")], reward=[0.5] * 22)
    assert scan([-0.1, 0.0] * 10 + [5.0]) is None  # median 0: no level to double


@given(st.integers(0, 10_000))
def test_silent_on_a_noisy_falling_loss(seed):
    noise = random.Random(seed)
    losses = [0.5 + 2.5 * 0.97**step + noise.gauss(0, 0.08) for step in range(120)]
    assert flagged(losses) == []
    assert scan([*losses, 3 * losses[-1] + 1])


def test_an_online_preference_loss_has_a_level_although_there_is_a_reward():
    losses = [0.69, 0.66, 0.68, 0.64, 0.66, 0.63, 0.65, 0.62, 0.64, 5.0]
    assert scan(losses, reward=[0.4] * 10) is None
    assert scan(losses, reward=[0.4] * 10, rewards__margins=[0.1] * 10).value == 5.0


@pytest.mark.parametrize("margin", ["rewards/margins", "margin"])
def test_a_pair_loss_near_0_spikes_only_when_it_comes_back_to_half_of_its_start(margin):
    losses = [0.69] * 8 + [0.02] * 50
    assert scan([*losses, 0.3])
    assert scan([*losses, 0.3], **{margin.replace("/", "__"): [1.0] * 59}) is None
    assert scan([*losses, 0.4], **{margin.replace("/", "__"): [1.0] * 59})
