import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trimpot.core.errors import UsageError
from trimpot.core.settings import check_settings
from trimpot.core.tensors import Objective, Streams
from trimpot.objectives.preference.dpo import DPO
from trimpot.objectives.preference.robust_dpo import PRESETS, RobustDPO

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


def swapped(logprob_N: torch.Tensor = LOGPROB_N) -> Streams:
    """The same two pairs, every label flipped."""
    order = [2, 0, 1, 4, 5, 3]
    return Streams(torch.tensor([0, 1, 1, 2, 2, 3]), 4, logprob_N[order], REFERENCE_N[order])


def test_loss_by_hand():
    losses = [(0.8 * -math.log(sigmoid(m)) - 0.2 * -math.log(sigmoid(-m))) / 0.6 for m in (1.5, 0.5)]
    loss = RobustDPO(beta=0.5, label_smoothing=0.2)(pairs()).loss().item()
    assert loss == pytest.approx(sum(losses) / 2, abs=1e-15)


def test_gradient_by_hand():
    # dL/dm = −[(1 − ε) σ(−m) + ε σ(m)] / (1 − 2ε), times β over the number of pairs
    first, second = (-0.5 * (0.8 * sigmoid(-m) + 0.2 * sigmoid(m)) / 0.6 / 2 for m in (1.5, 0.5))
    expected = [first, first, -first, second, -second, -second]
    assert gradient(RobustDPO(beta=0.5, label_smoothing=0.2)) == pytest.approx(expected, abs=1e-15)


@given(st.floats(0, 0.49), st.floats(0.01, 3), st.lists(st.floats(-5, 0), min_size=6, max_size=6))
def test_its_mean_over_flipped_labels_is_the_loss_of_dpo_under_the_true_ones(epsilon, beta, values):
    logprob_N = torch.tensor(values, dtype=torch.float64)
    robust = RobustDPO(beta, epsilon)
    mean = (1 - epsilon) * robust(pairs(logprob_N)).loss() + epsilon * robust(swapped(logprob_N)).loss()
    # The division by 1 − 2ε makes the rounding errors up to 50 times larger.
    assert mean.item() == pytest.approx(DPO(beta)(pairs(logprob_N)).loss().item(), abs=1e-12)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.49])
def test_policy_equal_to_reference_gives_ln_2(label_smoothing):
    loss = RobustDPO(label_smoothing=label_smoothing)(pairs(REFERENCE_N)).loss()
    assert loss.item() == pytest.approx(math.log(2), abs=1e-14)


def test_the_preset_trl_is_dpo():
    assert RobustDPO(**PRESETS["trl"])(pairs()).loss() == DPO()(pairs()).loss()
    assert RobustDPO(**PRESETS["paper"]) == RobustDPO()


@pytest.mark.parametrize(("field", "value"), [("beta", -1.0), ("label_smoothing", 0.5)])
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(UsageError, match=rf"preference\.{field}: .* out of range"):
        check_settings(RobustDPO(**{field: value}), "preference")
