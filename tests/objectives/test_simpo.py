import math

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.settings import check_settings
from trimpot.core.tensors import Objective, Streams
from trimpot.objectives.preference.simpo import PRESETS, SimPO

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
    # log-probs per token −1.5, −4, −1, −3; rewards −3, −8, −2, −6; arguments 5 − 1 and 4 − 1
    expected = (-math.log(sigmoid(4.0)) - math.log(sigmoid(3.0))) / 2
    assert SimPO(beta=2.0, gamma=1.0)(pairs()).loss().item() == pytest.approx(expected, abs=1e-15)


def test_gradient_by_hand():
    # ∓β σ(−argument) / pairs, divided by the answer's length
    first, second = (2 * sigmoid(-argument) / 2 for argument in (4.0, 3.0))
    expected = [-first / 2, -first / 2, first, -second, second / 2, second / 2]
    assert gradient(SimPO(beta=2.0, gamma=1.0)) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 3.0])
def test_answers_equally_likely_per_token_give_the_softplus_of_gamma(gamma):
    streams = Streams(torch.tensor([0, 0, 0, 1]), 2, torch.full((4,), -0.7, dtype=torch.float64))
    assert SimPO(gamma=gamma)(streams).loss().item() == pytest.approx(math.log(1 + math.exp(gamma)), abs=1e-14)


def test_statistics_are_per_token_and_without_reference():
    stats = SimPO(beta=2.0)(pairs()).stats
    assert stats["logps/chosen"].value == (-1.5 - 1) / 2
    assert stats["rewards/margins"].value == (5 + 4) / 2
    assert not any(name.startswith("logratio/") for name in stats)
    assert SimPO.needs == ("logprob_N",)


def test_presets_are_in_range():
    for preset in PRESETS.values():
        check_settings(SimPO(**preset))


@pytest.mark.parametrize(("field", "value"), [("beta", 0.0), ("gamma", -0.5)])
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(UsageError, match=rf"preference\.{field}: .* out of range"):
        check_settings(SimPO(**{field: value}), "preference")
