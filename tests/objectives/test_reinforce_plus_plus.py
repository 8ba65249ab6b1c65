import math

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.tensors import Streams
from trimpot.objectives.policy_gradient.reinforce_plus_plus import ReinforcePlusPlus
from trimpot.objectives.policy_gradient.rollouts import Rollouts

SEQUENCE_N = torch.tensor([0, 0, 1, 2])
SAMPLER_N = torch.tensor([-1.0, -2.0, -3.0, -1.0], dtype=torch.float64)
REFERENCE_N = SAMPLER_N - torch.tensor([1.0, 2.0, 0.0, -1.0], dtype=torch.float64)


def rollouts(*rewards: float, groups: tuple[int, ...] = (1, 1, 1)) -> Rollouts:
    return Rollouts(
        SEQUENCE_N, groups, torch.tensor(rewards, dtype=torch.float64), torch.ones(3).bool(), SAMPLER_N,
        reference_logprob_N=REFERENCE_N,
    )  # fmt: skip


def whitened(*returns: float) -> list[float]:
    mean = sum(returns) / len(returns)
    variance = sum((one - mean) ** 2 for one in returns) / len(returns)
    return [(one - mean) / math.sqrt(variance + 1e-8) for one in returns]


def test_advantages_by_hand():
    # penalties 0.1, 0.2, 0, −0.1; returns 1 − 0.1 − 0.2, 1 − 0.2, 0, 4 + 0.1; whitened over the four tokens
    found = ReinforcePlusPlus(kl=0.1).advantages(rollouts(1, 0, 4))["advantage_N"]
    assert found.tolist() == pytest.approx(whitened(0.7, 0.8, 0, 4.1), abs=1e-13)


def test_discount():
    found = ReinforcePlusPlus(kl=0.1, discount=0.5).advantages(rollouts(1, 0, 4))["advantage_N"]
    assert found.tolist() == pytest.approx(whitened(-0.1 + 0.5 * 0.8, 0.8, 0, 4.1), abs=1e-13)


def test_the_baseline_variant_takes_the_groups_mean_first():
    objective = ReinforcePlusPlus(kl=0.1, baseline="group")
    # rewards 1, 0, 4 of one prompt: −2/3, −5/3, 7/3
    found = objective.advantages(rollouts(1, 0, 4, groups=(3,)))["advantage_N"]
    expected = whitened(-2 / 3 - 0.3, -2 / 3 - 0.2, -5 / 3, 7 / 3 + 0.1)
    assert found.tolist() == pytest.approx(expected, abs=1e-13)
    assert (objective.smallest_group, ReinforcePlusPlus().smallest_group) == (2, 1)
    with pytest.raises(UsageError, match="group 0 has 1 completion"):
        objective.advantages(rollouts(1, 0, 4))


def test_an_unscored_completion_has_no_part():
    found = ReinforcePlusPlus(kl=0.1).advantages(rollouts(math.nan, 0, 4))["advantage_N"]
    assert found.tolist() == pytest.approx([0, 0, *whitened(0, 4.1)], abs=1e-13)


def test_equal_rewards_without_kl_teach_nothing():
    assert ReinforcePlusPlus(kl=0.0).advantages(rollouts(1, 1, 1))["advantage_N"].tolist() == [0, 0, 0, 0]


def test_an_infinite_reward_is_named():
    with pytest.raises(UsageError, match=r"rewards\[1\]"):
        ReinforcePlusPlus().advantages(rollouts(1, math.inf, 4))


def test_loss_and_gradient_by_hand():
    ratio_N = torch.tensor([1.1, 1.5, 0.5, 1.0], dtype=torch.float64)
    logprob_N = (SAMPLER_N + ratio_N.log()).requires_grad_()
    advantage_N = torch.tensor([0.5, 1.0, -0.5, 2.0], dtype=torch.float64)
    given = Streams(
        SEQUENCE_N, 3, logprob_N, sampler_logprob_N=SAMPLER_N, reference_logprob_N=REFERENCE_N, advantage_N=advantage_N
    )
    out = ReinforcePlusPlus()(given)
    # 1.1 · 0.5; 1.2 · 1; 0.8 · −0.5; 2: the mean over tokens
    assert out.loss().item() == pytest.approx(-(0.55 + 1.2 - 0.4 + 2) / 4, abs=1e-15)
    out.loss().backward()
    assert logprob_N.grad.tolist() == pytest.approx([-0.55 / 4, 0, 0, -2 / 4], abs=1e-15)
    # the KL is reported, and adds nothing to the loss
    k1 = (1 + math.log(1.1) + 2 + math.log(1.5) + 0 + math.log(0.5) - 1) / 4
    assert out.stats["kl"].value == pytest.approx(k1)
    assert [term.name for term in out.terms] == ["policy"]


def test_what_must_be_scored():
    assert ReinforcePlusPlus().rollout_needs == ("reference_logprob_N",)
    assert ReinforcePlusPlus(kl=0.0, importance="mask").rollout_needs == ("old_logprob_N",)
