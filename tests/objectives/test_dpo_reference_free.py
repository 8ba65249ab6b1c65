import math

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.settings import check_settings
from trimpot.core.tensors import Objective, Streams
from trimpot.objectives.preference.dpo import DPO
from trimpot.objectives.preference.dpo_reference_free import ReferenceFreeDPO

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
    # log-probs −3, −4, −1, −6 at β = 0.5: margins 0.5 and 2.5
    expected = (-math.log(sigmoid(0.5)) - math.log(sigmoid(2.5))) / 2
    assert ReferenceFreeDPO(beta=0.5)(pairs()).loss().item() == pytest.approx(expected, abs=1e-15)


def test_gradient_by_hand():
    first, second = (0.5 * sigmoid(-m) / 2 for m in (0.5, 2.5))
    expected = [-first, -first, first, -second, second, second]
    assert gradient(ReferenceFreeDPO(beta=0.5)) == pytest.approx(expected, abs=1e-15)


def test_it_is_dpo_with_reference_log_probs_of_0():
    streams = Streams(SEQUENCE_N, 4, LOGPROB_N, torch.zeros_like(LOGPROB_N))
    assert ReferenceFreeDPO(0.3)(pairs()).loss() == DPO(0.3)(streams).loss()


def test_equally_likely_answers_give_ln_2_and_no_reference_is_asked_for():
    streams = Streams(torch.tensor([0, 1]), 2, torch.tensor([-0.7, -0.7], dtype=torch.float64))
    out = ReferenceFreeDPO()(streams)
    assert out.loss().item() == pytest.approx(math.log(2), abs=1e-15)
    assert not any(name.startswith("logratio/") for name in out.stats)
    assert ReferenceFreeDPO.needs == ("logprob_N",)


def test_beta_must_be_above_zero():
    with pytest.raises(UsageError, match=r"preference\.beta: .* above 0"):
        check_settings(ReferenceFreeDPO(beta=0.0), "preference")
