import math

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.settings import check_settings
from trimpot.core.tensors import Objective, Streams
from trimpot.objectives.preference.dpo import DPO
from trimpot.objectives.preference.dpo_length_normalised import PRESETS, LengthNormalisedDPO

# Two pairs. Sums per answer: policy −3, −4, −1, −6; reference −5, −3, −2, −6; log ratios 2, −1, 1, 0.
SEQUENCE_N = torch.tensor([0, 0, 1, 2, 3, 3])
LOGPROB_N = torch.tensor([-1.0, -2.0, -4.0, -1.0, -2.0, -4.0], dtype=torch.float64)
REFERENCE_N = torch.tensor([-2.0, -3.0, -3.0, -2.0, -3.0, -3.0], dtype=torch.float64)


def pairs(logprob_N: torch.Tensor = LOGPROB_N) -> Streams:
    return Streams(SEQUENCE_N, 4, logprob_N, REFERENCE_N)


def gradient(objective: Objective) -> list[float]:
    logprob_N = LOGPROB_N.clone().requires_grad_()
    objective(pairs(logprob_N)).loss().backward()
    return logprob_N.grad.tolist()


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_loss_by_hand():
    # log ratios per token 2/2, −1/1, 1/1, 0/2: margins 0.5 · 2 and 0.5 · 1
    expected = (-math.log(sigmoid(1.0)) - math.log(sigmoid(0.5))) / 2
    assert LengthNormalisedDPO(beta=0.5)(pairs()).loss().item() == pytest.approx(expected, abs=1e-15)


def test_gradient_by_hand():
    # ∓β σ(−margin) / pairs, divided by the answer's length
    first, second = (0.5 * sigmoid(-m) / 2 for m in (1.0, 0.5))
    expected = [-first / 2, -first / 2, first, -second, second / 2, second / 2]
    assert gradient(LengthNormalisedDPO(beta=0.5)) == pytest.approx(expected, abs=1e-15)


def test_rewards_are_sums_as_in_trl_and_margins_per_token_are_what_is_trained():
    stats = LengthNormalisedDPO(beta=0.5)(pairs()).stats
    assert stats["rewards/margins"].value == 0.5 * (3 + 1) / 2
    assert stats["rewards/margins_per_token"].value == 0.5 * (2 + 1) / 2
    # Chosen: 2 tokens up by 0.6 in sum; rejected: 1 token up by 0.5. More in sum, less per token.
    logprob_N = torch.tensor([0.3, 0.3, 0.5], dtype=torch.float64)
    streams = Streams(torch.tensor([0, 0, 1]), 2, logprob_N, torch.zeros(3, dtype=torch.float64))
    stats = LengthNormalisedDPO()(streams).stats
    assert stats["rewards/accuracies"].value == 1.0
    assert stats["rewards/accuracies_per_token"].value == 0.0


@pytest.mark.parametrize("preset", ["paper", "trl"])
def test_policy_equal_to_reference_gives_ln_2(preset):
    loss = LengthNormalisedDPO(**PRESETS[preset])(pairs(REFERENCE_N)).loss()
    assert loss.item() == pytest.approx(math.log(2), abs=1e-15)


def test_answers_of_one_token_give_dpo():
    streams = Streams(torch.arange(6), 6, LOGPROB_N, REFERENCE_N)
    assert LengthNormalisedDPO(0.3)(streams).loss() == DPO(0.3)(streams).loss()


def test_beta_must_be_above_zero():
    with pytest.raises(UsageError, match=r"preference\.beta: .* above 0"):
        check_settings(LengthNormalisedDPO(beta=0.0), "preference")
