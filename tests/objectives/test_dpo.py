import math

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.settings import check_settings
from trimpot.core.tensors import Streams
from trimpot.objectives.preference.dpo import DPO

# Two pairs. Sums per answer: policy −3, −4, −1, −6; reference −5, −3, −2, −6; log ratios 2, −1, 1, 0.
SEQUENCE_N = torch.tensor([0, 0, 1, 2, 3, 3])
LOGPROB_N = torch.tensor([-1.0, -2.0, -4.0, -1.0, -2.0, -4.0], dtype=torch.float64)
REFERENCE_N = torch.tensor([-2.0, -3.0, -3.0, -2.0, -3.0, -3.0], dtype=torch.float64)


def pairs(logprob_N: torch.Tensor = LOGPROB_N, **given: torch.Tensor) -> Streams:
    return Streams(SEQUENCE_N, 4, logprob_N, REFERENCE_N, **given)


def minus_log_sigmoid(x: float) -> float:
    return math.log(1 + math.exp(-x))


def test_loss_by_hand():
    # margins β · (2 − −1) = 1.5 and β · (1 − 0) = 0.5 at β = 0.5
    expected = (minus_log_sigmoid(1.5) + minus_log_sigmoid(0.5)) / 2
    assert DPO(beta=0.5)(pairs()).loss().item() == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("beta", [0.01, 0.1, 5.0])
def test_policy_equal_to_reference_gives_ln_2_and_no_margin(beta):
    out = DPO(beta=beta)(pairs(REFERENCE_N))
    assert out.loss().item() == pytest.approx(math.log(2), abs=1e-15)
    assert out.stats["rewards/margins"].value == 0.0
    assert out.stats["logratio/chosen"].value == 0.0


def test_gradient_by_hand():
    logprob_N = LOGPROB_N.clone().requires_grad_()
    DPO(beta=0.5)(pairs(logprob_N)).loss().backward()
    # dL/dlogπ = ∓β σ(−margin) / pairs, the same for every token of an answer
    first, second = 0.5 / (1 + math.exp(1.5)) / 2, 0.5 / (1 + math.exp(0.5)) / 2
    assert logprob_N.grad.tolist() == pytest.approx([-first, -first, first, -second, second, second], abs=1e-15)


def test_gradient_equals_the_naive_formula_and_passes_gradcheck():
    torch.manual_seed(2)
    logprob_N = (-torch.rand(6, dtype=torch.float64) * 3).requires_grad_()

    def naive(logprob_N: torch.Tensor) -> torch.Tensor:
        spans = [(0, 2), (2, 3), (3, 4), (4, 6)]
        policy = [logprob_N[start:stop].sum() for start, stop in spans]
        reference = [REFERENCE_N[start:stop].sum() for start, stop in spans]
        losses = []
        for chosen, rejected in ((0, 1), (2, 3)):
            margin = 0.3 * ((policy[chosen] - policy[rejected]) - (reference[chosen] - reference[rejected]))
            losses.append(-torch.log(1 / (1 + torch.exp(-margin))))
        return (losses[0] + losses[1]) / 2

    def ours(logprob_N: torch.Tensor) -> torch.Tensor:
        return DPO(beta=0.3)(pairs(logprob_N)).loss()

    (ours_grad,) = torch.autograd.grad(ours(logprob_N), logprob_N)
    (naive_grad,) = torch.autograd.grad(naive(logprob_N), logprob_N)
    assert torch.allclose(ours_grad, naive_grad, atol=1e-14)
    assert torch.autograd.gradcheck(ours, (logprob_N,))


def test_statistics_by_hand():
    values = {name: stat.value for name, stat in DPO(beta=0.5)(pairs(entropy_N=torch.full((6,), 1.5))).stats.items()}
    assert values.pop("loss") == pytest.approx((minus_log_sigmoid(1.5) + minus_log_sigmoid(0.5)) / 2)
    assert values == {
        "rewards/chosen": 0.5 * (2 + 1) / 2,
        "rewards/rejected": 0.5 * (-1 + 0) / 2,
        "rewards/margins": (1.5 + 0.5) / 2,
        "rewards/accuracies": 1.0,
        "logps/chosen": (-3 - 1) / 2,
        "logps/rejected": (-4 - 6) / 2,
        "logratio/chosen": (2 + 1) / 2,
        "logratio/rejected": (-1 + 0) / 2,
        "length_gap": ((2 - 1) + (1 - 2)) / 2,
        "entropy": 1.5,
    }


def test_a_wrong_margin_and_a_tie_both_count_as_wrong():
    logprob_N = REFERENCE_N + torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    assert DPO()(pairs(logprob_N)).stats["rewards/accuracies"].value == 0.0


def test_no_pair_has_no_statistics():
    empty = Streams(SEQUENCE_N[:0], 0, LOGPROB_N[:0], REFERENCE_N[:0])
    assert all(stat.value is None for stat in DPO()(empty).stats.values())


@pytest.mark.parametrize("beta", [0.0, -0.1, math.nan])
def test_beta_must_be_above_zero(beta):
    with pytest.raises(UsageError, match=r"preference\.beta: .* (above 0|finite number)"):
        check_settings(DPO(beta=beta), "preference")
