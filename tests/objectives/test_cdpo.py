import math

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.settings import check_settings
from trimpot.core.tensors import Objective, Streams
from trimpot.objectives.preference.cdpo import ConservativeDPO
from trimpot.objectives.preference.dpo import DPO

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
    # margins 0.5 · 3 = 1.5 and 0.5 · 1 = 0.5
    losses = [0.8 * -math.log(sigmoid(m)) + 0.2 * -math.log(sigmoid(-m)) for m in (1.5, 0.5)]
    loss = ConservativeDPO(beta=0.5, label_smoothing=0.2)(pairs()).loss().item()
    assert loss == pytest.approx(sum(losses) / 2, abs=1e-15)


def test_gradient_by_hand():
    # dL/dm = −(1 − ε) σ(−m) + ε σ(m) = σ(m) − (1 − ε), times β over the number of pairs
    first, second = (0.5 * (sigmoid(m) - 0.8) / 2 for m in (1.5, 0.5))
    expected = [first, first, -first, second, -second, -second]
    assert gradient(ConservativeDPO(beta=0.5, label_smoothing=0.2)) == pytest.approx(expected, abs=1e-15)


def test_the_margin_stops_where_the_label_is_as_sure_as_it_is_said_to_be():
    margin = math.log(0.8 / 0.2)
    logprob_N = REFERENCE_N + torch.tensor([margin, 0, 0, margin, 0, 0], dtype=torch.float64)
    logprob_N.requires_grad_()
    ConservativeDPO(beta=1.0, label_smoothing=0.2)(pairs(logprob_N)).loss().backward()
    assert logprob_N.grad.abs().max() < 1e-15


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.5])
def test_policy_equal_to_reference_gives_ln_2(label_smoothing):
    loss = ConservativeDPO(label_smoothing=label_smoothing)(pairs(REFERENCE_N)).loss()
    assert loss.item() == pytest.approx(math.log(2), abs=1e-15)


def test_without_smoothing_it_is_dpo():
    assert ConservativeDPO(0.3, label_smoothing=0.0)(pairs()).loss() == DPO(0.3)(pairs()).loss()


@pytest.mark.parametrize(("field", "value"), [("beta", 0.0), ("label_smoothing", 0.6), ("label_smoothing", -0.1)])
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(UsageError, match=rf"preference\.{field}: .* out of range"):
        check_settings(ConservativeDPO(**{field: value}), "preference")
