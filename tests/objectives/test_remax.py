import math

import pytest
import torch

from trimpot.core.tensors import Streams
from trimpot.objectives.policy_gradient.remax import ReMax
from trimpot.objectives.policy_gradient.rollouts import Rollouts

SEQUENCE_N = torch.tensor([0, 0, 1, 2])
SAMPLER_N = torch.tensor([-1.0, -2.0, -3.0, -1.0], dtype=torch.float64)


def rollouts(greedy: list[float], *rewards: float, **given: torch.Tensor) -> Rollouts:
    return Rollouts(
        SEQUENCE_N,
        (2, 1),
        torch.tensor(rewards, dtype=torch.float64),
        torch.ones(3).bool(),
        SAMPLER_N,
        greedy_reward_P=torch.tensor(greedy, dtype=torch.float64),
        **given,
    )


def test_advantages_by_hand():
    assert ReMax().advantages(rollouts([0.5, 2], 1, 0, 4))["advantage_N"].tolist() == [0.5, 0.5, -0.5, 2]


def test_a_token_pays_the_kl_from_itself_on():
    reference_N = SAMPLER_N - torch.tensor([1.0, 2.0, 0.0, -1.0], dtype=torch.float64)
    found = ReMax(kl=0.1).advantages(rollouts([0.5, 2], 1, 0, 4, reference_logprob_N=reference_N))["advantage_N"]
    # 0.5 − 0.1 · (1 + 2); 0.5 − 0.1 · 2; −0.5; 2 + 0.1
    assert found.tolist() == pytest.approx([0.2, 0.3, -0.5, 2.1], abs=1e-14)


def test_no_score_no_advantage():
    reference_N = SAMPLER_N - 1
    found = ReMax(kl=0.1).advantages(rollouts([0.5, math.nan], math.nan, 0, 4, reference_logprob_N=reference_N))
    assert found["advantage_N"].tolist() == pytest.approx([0, 0, -0.6, 0], abs=1e-14)


def test_loss_and_gradient_by_hand():
    ratio_N = torch.tensor([1.1, 1.5, 0.5, 1.0], dtype=torch.float64)
    logprob_N = (SAMPLER_N + ratio_N.log()).requires_grad_()
    advantage_N = torch.tensor([0.5, 0.5, -0.5, 2.0], dtype=torch.float64)
    out = ReMax()(Streams(SEQUENCE_N, 3, logprob_N, sampler_logprob_N=SAMPLER_N, advantage_N=advantage_N))
    # 1.1 · 0.5; 1.2 · 0.5; 0.8 · −0.5; 2: the sum over tokens, over 3 completions
    assert out.loss().item() == pytest.approx(-(0.55 + 0.6 - 0.4 + 2) / 3, abs=1e-15)
    out.loss().backward()
    assert logprob_N.grad.tolist() == pytest.approx([-0.55 / 3, 0, 0, -2 / 3], abs=1e-15)


def test_what_must_be_scored():
    assert ReMax().rollout_needs == ("greedy_reward_P",)
    assert ReMax(kl=0.1).rollout_needs == ("greedy_reward_P", "reference_logprob_N")
    assert ReMax().smallest_group == 1
    without = Rollouts(SEQUENCE_N, (3,), torch.zeros(3), torch.ones(3).bool(), SAMPLER_N)
    with pytest.raises(ValueError, match="greedy_reward_P"):
        ReMax().advantages(without)
