import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.settings import check_settings
from trimpot.core.tensors import Objective, Streams
from trimpot.objectives.preference.hinge import HingeDPO

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


def test_loss_by_hand():
    # margins 1.5 and 0.5: the first pair is done
    assert HingeDPO(beta=0.5)(pairs()).loss().item() == pytest.approx((0 + (1 - 0.5)) / 2, abs=1e-15)


def test_gradient_by_hand():
    # dL/dm = −1 below the margin and 0 above, times β over the number of pairs
    assert gradient(HingeDPO(beta=0.5)) == pytest.approx([0, 0, 0, -0.25, 0.25, 0.25], abs=1e-15)


@pytest.mark.parametrize("beta", [0.01, 0.1, 5.0])
def test_policy_equal_to_reference_gives_1(beta):
    assert HingeDPO(beta)(pairs(REFERENCE_N)).loss().item() == 1.0


def test_pairs_that_all_win_by_the_margin_have_no_gradient():
    assert gradient(HingeDPO(beta=2.0)) == [0.0] * 6


def test_beta_must_be_above_zero():
    with pytest.raises(UsageError, match=r"preference\.beta: .* above 0"):
        check_settings(HingeDPO(beta=0.0), "preference")
