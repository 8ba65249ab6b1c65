"""chosen_logprob_falling: against the reference, without one, and what is only noise."""

import random

import pytest

from trimpot.detectors.chosen_logprob_falling import ChosenLogprobFalling
from trimpot.detectors.windows import make_window

DETECTOR = ChosenLogprobFalling()


def scan(detector=DETECTOR, **series):
    return detector.scan(make_window(**series))


def test_hand_arithmetic_of_the_fall_in_nats():
    # Reward -0.2 at beta 0.1: 2 nats; more than a quarter of the margin 0.4.
    finding = scan(rewards__chosen=[-0.2] * 10, rewards__margins=[0.4] * 10)
    assert finding.metric == "rewards/chosen"
    assert finding.value == pytest.approx(-0.2)
    assert "2 nats" in finding.message


@pytest.mark.parametrize(
    ("chosen", "margin"),
    [
        (-0.09, 0.3),  # 0.9 nats
        (-0.2, 0.9),  # less than a quarter of the margin
        (-0.2, -0.1),  # no margin: training failed in another way
        (0.2, 0.4),
    ],
)
def test_silent(chosen, margin):
    assert scan(rewards__chosen=[chosen] * 10, rewards__margins=[margin] * 10) is None


def test_beta_turns_rewards_into_nats():
    series = {"rewards__chosen": [-0.2] * 10, "rewards__margins": [0.4] * 10}
    assert scan(ChosenLogprobFalling(beta=0.5), **series) is None  # 0.4 nats
    assert scan(ChosenLogprobFalling(beta=0.01), **series)


def test_logged_nats_need_no_beta():
    series = {"rewards__chosen": [-0.02] * 10, "rewards__margins": [0.04] * 10}  # beta 0.01: 2 nats
    assert scan(**series) is None
    finding = scan(**series, logratio__chosen=[-2.0] * 10)
    assert "2 nats" in finding.message
    assert "beta" not in finding.message
    assert scan(**series, logratio__chosen=[-0.9] * 10) is None


def test_needs_ten_steps():
    assert scan(rewards__chosen=[-5.0] * 9, rewards__margins=[9.0] * 9) is None


def noisy(seed, fall, noise=3.0, steps=30):
    draw = random.Random(seed)
    return [-50.0 - fall * step / steps + draw.gauss(0, noise) for step in range(steps)]


def test_without_a_reference_the_fall_must_stand_out_of_the_noise_between_batches():
    rising = [0.1 * step for step in range(30)]
    caught = sum(scan(logps__chosen=noisy(seed, 15), rewards__margins=rising) is not None for seed in range(100))
    alarms = sum(scan(logps__chosen=noisy(seed, 0), rewards__margins=rising) is not None for seed in range(1000))
    assert caught >= 95
    assert alarms <= 3
    flat = [0.1] * 30
    assert scan(logps__chosen=noisy(0, 15), rewards__margins=flat) is None
    assert scan(logps__chosen=noisy(0, 15)) is None


def test_a_reward_without_a_reference_is_not_read_as_a_fall():
    # TRL's CPO, SimPO and ORPO report beta * logps: always negative, and no fall.
    logps = noisy(3, 0)
    rewards = [0.1 * logp for logp in logps]
    rising = [0.1 * step for step in range(30)]
    assert scan(logps__chosen=logps, rewards__chosen=rewards, rewards__margins=rising) is None
    falling = noisy(3, 30)
    rewards = [0.1 * logp for logp in falling]
    assert scan(logps__chosen=falling, rewards__chosen=rewards, rewards__margins=rising).metric == "logps/chosen"
