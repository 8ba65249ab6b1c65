import math

import pytest
import torch

from trimpot.core.settings import check_settings
from trimpot.core.tensors import Streams
from trimpot.objectives.policy_gradient.dr_grpo import PRESETS, DrGRPO
from trimpot.objectives.policy_gradient.grpo import GRPO
from trimpot.objectives.policy_gradient.rollouts import Rollouts

SEQUENCE_N = torch.tensor([0, 0, 1])
SAMPLER_N = torch.tensor([-1.0, -2.0, -3.0], dtype=torch.float64)
ADVANTAGE_N = torch.tensor([2.0, 2.0, -1.0], dtype=torch.float64)
LOGPROB_N = SAMPLER_N + torch.tensor([1.1, 1.5, 0.9], dtype=torch.float64).log()


def streams(logprob_N: torch.Tensor) -> Streams:
    return Streams(SEQUENCE_N, 2, logprob_N, sampler_logprob_N=SAMPLER_N, advantage_N=ADVANTAGE_N)


def test_loss_and_gradient_by_hand():
    logprob_N = LOGPROB_N.clone().requires_grad_()
    loss = DrGRPO(completion_limit=10)(streams(logprob_N)).loss()
    # 1.1 · 2; min(1.5, 1.2) · 2; 0.9 · −1; over 2 completions of at most 10 tokens
    assert loss.item() == pytest.approx(-(2.2 + 2.4 - 0.9) / 20, abs=1e-15)
    loss.backward()
    assert logprob_N.grad.tolist() == pytest.approx([-2.2 / 20, 0, 0.9 / 20], abs=1e-15)


def test_it_is_grpo_with_fixed_normalisation():
    twin = GRPO(normalisation="fixed", completion_limit=10, scale_rewards="none")
    assert DrGRPO(completion_limit=10)(streams(LOGPROB_N)).loss() == twin(streams(LOGPROB_N)).loss()


def test_advantages_are_centred_and_not_scaled():
    rollouts = Rollouts(
        SEQUENCE_N, (2,), torch.tensor([3.0, 0.0], dtype=torch.float64), torch.ones(2).bool(), SAMPLER_N
    )
    assert DrGRPO().advantages(rollouts)["advantage_N"].tolist() == [1.5, 1.5, -1.5]


def test_a_long_wrong_completion_is_not_favoured():
    """Every token of it is pushed down as much as one of a short wrong completion; GRPO's "sequence" pushes less."""
    logprob_N = torch.zeros(5, dtype=torch.float64)
    sequence_N = torch.tensor([0, 1, 1, 1, 1])

    def push(objective) -> list[float]:
        leaf = logprob_N.clone().requires_grad_()
        given = Streams(sequence_N, 2, leaf, sampler_logprob_N=logprob_N, advantage_N=-torch.ones(5).double())
        objective(given).loss().backward()
        return leaf.grad.tolist()

    assert len(set(push(DrGRPO()))) == 1
    long_and_short = push(GRPO(normalisation="sequence"))
    assert long_and_short[0] == pytest.approx(4 * long_and_short[1])
    assert math.isclose(long_and_short[0], 0.5)


def test_presets_fit():
    assert PRESETS["paper"].keys() == PRESETS["trl"].keys()
    check_settings(DrGRPO())
