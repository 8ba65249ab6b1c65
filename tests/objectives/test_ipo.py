import math

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.settings import check_settings
from trimpot.core.tensors import Objective, Streams
from trimpot.objectives.preference.ipo import IPO, PRESETS

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


def test_loss_by_hand_with_sums():
    # gaps 2 − −1 = 3 and 1 − 0 = 1; target 1 / (2 · 0.5) = 1
    assert IPO(beta=0.5)(pairs()).loss().item() == pytest.approx(((3 - 1) ** 2 + (1 - 1) ** 2) / 2, abs=1e-15)


def test_loss_by_hand_with_means():
    # log ratios per token 2/2, −1/1, 1/1, 0/2: gaps 2 and 1
    loss = IPO(beta=0.5, normalisation="mean")(pairs()).loss()
    assert loss.item() == pytest.approx(((2 - 1) ** 2 + (1 - 1) ** 2) / 2, abs=1e-15)


def test_gradient_by_hand():
    # dL/dh = 2 (h − target) / pairs: 2 for the first pair, 0 for the second, which is on target
    assert gradient(IPO(beta=0.5)) == pytest.approx([2, 2, -2, 0, 0, 0], abs=1e-15)
    # per token of an answer of 2 tokens: 2 · (2 − 1) / 2 / 2
    assert gradient(IPO(beta=0.5, normalisation="mean")) == pytest.approx([0.5, 0.5, -1, 0, 0, 0], abs=1e-15)


@pytest.mark.parametrize("beta", [0.01, 0.1, 5.0])
@pytest.mark.parametrize("normalisation", ["sum", "mean"])
def test_policy_equal_to_reference_gives_the_square_of_the_target(beta, normalisation):
    loss = IPO(beta, normalisation)(pairs(REFERENCE_N)).loss().item()
    assert loss == pytest.approx(1 / (4 * beta**2), rel=1e-14)


def test_a_gap_beyond_the_target_is_pulled_back():
    assert gradient(IPO(beta=5.0))[0] > 0  # target 0.1, gap 3: the chosen answer is pushed down


def test_presets_name_the_two_normalisations():
    assert IPO(**PRESETS["paper"]).normalisation == "sum"
    assert IPO(**PRESETS["trl"]).normalisation == "mean"


@pytest.mark.parametrize("beta", [0.0, -0.1, math.nan])
def test_beta_must_be_above_zero(beta):
    with pytest.raises(UsageError, match=r"preference\.beta: .* (above 0|finite number)"):
        check_settings(IPO(beta=beta), "preference")
