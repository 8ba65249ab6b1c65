import dataclasses
import math

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.settings import check_settings
from trimpot.core.tensors import Carries, Streams
from trimpot.objectives.policy_gradient.ppo import PPO, PRESETS
from trimpot.objectives.policy_gradient.rollouts import Rollouts

SEQUENCE_N = torch.tensor([0, 0, 1])


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


SAMPLER_N, REFERENCE_N = tensor(-1, -2, -3), tensor(-2, -4, -3)
VALUE_N = tensor(0.5, 0.6, 0.2)


def rollouts(*rewards: float, **given: object) -> Rollouts:
    return Rollouts(
        SEQUENCE_N, (1, 1), tensor(*rewards), torch.ones(2).bool(), SAMPLER_N, reference_logprob_N=REFERENCE_N,
        value_N=VALUE_N, **given,
    )  # fmt: skip


def streams(logprob_N: torch.Tensor, value_N: torch.Tensor, **given: object) -> Streams:
    return Streams(
        SEQUENCE_N, 2, logprob_N, sampler_logprob_N=SAMPLER_N, advantage_N=tensor(2, 2, -1), value_N=value_N,
        old_value_N=VALUE_N, return_N=tensor(1, 0.5, 0), **given,
    )  # fmt: skip


def test_loss_gradients_and_statistics_by_hand():
    logprob_N = (SAMPLER_N + tensor(1.1, 1.5, 0.9).log()).requires_grad_()
    value_N = tensor(0.9, 0.55, -0.3).requires_grad_()
    out = PPO(kl=0.0, value_coefficient=0.4)(streams(logprob_N, value_N))
    policy = -(1.1 * 2 + 1.2 * 2 - 0.9) / 3
    # cut to within 0.2 of 0.5, 0.6, 0.2: 0.7, 0.55, 0.0; the larger square of 0.9 − 1 and 0.7 − 1; 0.05; −0.3 and 0
    value = 0.5 * (0.3**2 + 0.05**2 + 0.3**2) / 3
    assert out.loss().item() == pytest.approx(policy + 0.4 * value, abs=1e-15)
    assert out.stats["value/loss"].value == pytest.approx(value, abs=1e-15)
    assert out.stats["value/clipfrac"].value == pytest.approx(1 / 3)
    out.loss().backward()
    assert logprob_N.grad.tolist() == pytest.approx([-2.2 / 3, 0, 0.9 / 3], abs=1e-15)
    # the first is cut, so it has no gradient; then 0.4 · (V − R) / 3
    assert value_N.grad.tolist() == pytest.approx([0, 0.4 * 0.05 / 3, 0.4 * -0.3 / 3], abs=1e-15)


def test_without_value_clip_the_loss_is_half_the_squared_error():
    value_N = tensor(0.9, 0.55, -0.3)
    stats = PPO(kl=0.0, value_clip=None)(streams(SAMPLER_N, value_N)).stats
    assert stats["value/loss"].value == pytest.approx(0.5 * (0.01 + 0.0025 + 0.09) / 3)
    assert stats["value/clipfrac"].value == 0


def test_advantages_by_hand():
    objective = PPO(kl=0.1, discount=0.9, gae_lambda=0.5, whiten_advantages=False)
    found = objective.advantages(rollouts(1, -2))
    # log π/π_ref 1, 2, 0: rewards −0.1, 1 − 0.2, −2
    second, third = 0.8 - 0.6, -2 - 0.2
    first = (-0.1 + 0.9 * 0.6 - 0.5) + 0.45 * second
    assert found["advantage_N"].tolist() == pytest.approx([first, second, third], abs=1e-14)
    assert found["return_N"].tolist() == pytest.approx([first + 0.5, 0.8, -2.0], abs=1e-14)
    assert found["old_value_N"].tolist() == VALUE_N.tolist()


def test_whitening_leaves_the_returns_alone():
    plain = PPO(whiten_advantages=False).advantages(rollouts(1, -2))
    white = PPO().advantages(rollouts(1, -2))
    mean, std = plain["advantage_N"].mean(), (plain["advantage_N"].var(correction=0) + 1e-8).sqrt()
    assert torch.allclose(white["advantage_N"], (plain["advantage_N"] - mean) / std, atol=1e-14)
    assert torch.equal(white["return_N"], plain["return_N"])


def test_an_unscored_completion_moves_nothing():
    found = PPO().advantages(rollouts(math.nan, -2))
    assert found["advantage_N"][:2].tolist() == [0, 0]
    assert found["return_N"][:2].tolist() == VALUE_N[:2].tolist()


def test_kl_in_the_loss():
    objective = PPO(kl=0.1, kl_in="loss", kl_estimator="k2")
    out = objective(streams(SAMPLER_N, VALUE_N, reference_logprob_N=REFERENCE_N))
    # (1 + 4 + 0) / 2 / 3
    assert out.stats["kl"].value == pytest.approx(5 / 6)
    assert [(term.name, term.weight) for term in out.terms] == [("policy", 1.0), ("value", 0.1), ("kl", 0.1)]
    plain = PPO(kl=0.0, gae_lambda=1.0, whiten_advantages=False).advantages(rollouts(1, -2))
    same = dataclasses.replace(objective, gae_lambda=1.0, whiten_advantages=False).advantages(rollouts(1, -2))
    assert torch.equal(plain["advantage_N"], same["advantage_N"])


def test_adaptive_coefficient_lives_from_step_to_step_and_is_used():
    objective = PPO(kl=0.1, target_kl=0.5)
    assert isinstance(objective, Carries)
    first = objective.initial()
    assert first == {"kl_coefficient": 0.1}
    # twice the target: error 1, cut to 0.2
    second = objective.carry(first, {"kl": 1.0})
    assert second == {"kl_coefficient": pytest.approx(0.1 * 1.02)}
    assert objective.carry(first, {"kl": None}) == first
    carried = {"kl_coefficient": 0.3}
    there = objective.advantages(rollouts(1, -2, carried=carried))["return_N"]
    assert torch.equal(there, PPO(kl=0.3).advantages(rollouts(1, -2))["return_N"])
    in_loss = PPO(kl=0.1, kl_in="loss", kl_estimator="k2", target_kl=0.5)
    out = in_loss(streams(SAMPLER_N, VALUE_N, reference_logprob_N=REFERENCE_N, step=carried))
    assert {term.name: term.weight for term in out.terms}["kl"] == 0.3


def test_a_fixed_coefficient_carries_nothing():
    assert PPO().initial() == {}
    assert PPO().carry({}, {"kl": 3.0}) == {}


def test_what_must_be_scored():
    assert PPO().rollout_needs == ("value_N", "reference_logprob_N")
    assert PPO(kl=0.0).rollout_needs == ("value_N",)
    in_loss = PPO(kl_in="loss", kl_estimator="k3")
    assert in_loss.rollout_needs == ("value_N",)
    assert "reference_logprob_N" in in_loss.needs
    assert "reference_logprob_N" not in PPO().needs
    # the controller must not starve where the rollouts do not hand their reference on
    assert "reference_logprob_N" in PPO(target_kl=0.1).needs
    assert not PPO().skips_idle
    assert PPO().smallest_group == 1
    with pytest.raises(ValueError, match="value_N"):
        PPO().advantages(dataclasses.replace(rollouts(1, -2), value_N=None))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"target_kl": 0.1, "kl": 0.0}, "target_kl"),
        ({"kl_in": "loss"}, "kl_estimator"),
        ({"kl": -0.1}, "kl"),
        ({"target_kl": 0.0}, "target_kl"),
        ({"gae_lambda": 1.1}, "gae_lambda"),
        ({"discount": 0.0}, "discount"),
        ({"value_clip": 0.0}, "value_clip"),
        ({"kl_in": "both"}, "kl_in"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, field):
    with pytest.raises(UsageError, match=field):
        check_settings(PPO(**settings))


def test_presets_fit():
    for preset in PRESETS.values():
        check_settings(PPO(**preset))
