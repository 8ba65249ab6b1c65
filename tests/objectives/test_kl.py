import doctest
import math

import pytest
import torch
from torch import Tensor

from trimpot.objectives.policy_gradient import kl as module
from trimpot.objectives.policy_gradient.kl import KL_ESTIMATORS, adapted_coefficient, kl_estimate, kl_penalty
from trimpot.objectives.policy_gradient.rollouts import Rollouts

LOGITS_V = torch.tensor([0.3, -1.2, 0.8, 0.1, -0.4], dtype=torch.float64)
REFERENCE_V = torch.log_softmax(torch.tensor([1.0, 0.2, -0.7, 0.4, 0.0], dtype=torch.float64), 0)


def expected_gradient(estimator: str) -> Tensor:
    """Σ_y π(y) ∇k(y): the mean gradient of the estimate as a loss, over all tokens that π can draw."""
    logits_V = LOGITS_V.clone().requires_grad_()
    logprob_V = torch.log_softmax(logits_V, 0)
    loss = (logprob_V.detach().exp() * kl_estimate(logprob_V, REFERENCE_V, estimator)).sum()
    (gradient,) = torch.autograd.grad(loss, logits_V)
    return gradient


def true_gradients() -> tuple[Tensor, Tensor]:
    """Of KL(π‖π_ref) and of KL(π_ref‖π)."""
    logits_V = LOGITS_V.clone().requires_grad_()
    logprob_V = torch.log_softmax(logits_V, 0)
    reverse = (logprob_V.exp() * (logprob_V - REFERENCE_V)).sum()
    forward = (REFERENCE_V.exp() * (REFERENCE_V - logprob_V)).sum()
    return tuple(torch.autograd.grad(one, logits_V, retain_graph=True)[0] for one in (reverse, forward))


def test_values_by_hand():
    # d = log π − log π_ref = ln 2
    logprob_N, reference_N = torch.tensor([math.log(2)], dtype=torch.float64), torch.zeros(1).double()
    values = {name: kl_estimate(logprob_N, reference_N, name).item() for name in KL_ESTIMATORS}
    expected = {"k1": math.log(2), "k2": math.log(2) ** 2 / 2, "k3": 0.5 + math.log(2) - 1}
    assert values == pytest.approx(expected, abs=1e-15)


def test_k1_and_k3_are_unbiased_values_and_k2_is_not():
    logprob_V = torch.log_softmax(LOGITS_V, 0)
    weights_V = logprob_V.exp()
    true = float((weights_V * (logprob_V - REFERENCE_V)).sum())
    means = {name: float((weights_V * kl_estimate(logprob_V, REFERENCE_V, name)).sum()) for name in KL_ESTIMATORS}
    assert means["k1"] == pytest.approx(true, abs=1e-15)
    assert means["k3"] == pytest.approx(true, abs=1e-15)
    assert abs(means["k2"] - true) > 0.01


def test_the_gradient_of_k1_as_a_loss_is_zero_on_average():
    assert torch.allclose(expected_gradient("k1"), torch.zeros(5).double(), atol=1e-15)


def test_the_gradient_of_k2_as_a_loss_is_that_of_the_reverse_kl():
    reverse, _ = true_gradients()
    assert reverse.abs().max() > 0.1
    assert torch.allclose(expected_gradient("k2"), reverse, atol=1e-15)


def test_the_gradient_of_k3_as_a_loss_is_that_of_the_forward_kl():
    reverse, forward = true_gradients()
    assert torch.allclose(expected_gradient("k3"), forward, atol=1e-15)
    assert not torch.allclose(expected_gradient("k3"), reverse, atol=0.01)


def test_k1_as_a_penalty_in_the_reward_has_the_gradient_of_the_reverse_kl():
    logits_V = LOGITS_V.clone().requires_grad_()
    logprob_V = torch.log_softmax(logits_V, 0)
    weights_V, penalty_V = logprob_V.detach().exp(), kl_estimate(logprob_V.detach(), REFERENCE_V, "k1")
    (gradient,) = torch.autograd.grad((weights_V * penalty_V * logprob_V).sum(), logits_V)
    assert torch.allclose(gradient, true_gradients()[0], atol=1e-15)


@pytest.mark.parametrize("estimator", KL_ESTIMATORS)
@pytest.mark.parametrize("size", [200.0, -200.0])
def test_extreme_differences_stay_finite(estimator, size):
    logprob_N = torch.tensor([size], requires_grad=True)
    value = kl_estimate(logprob_N, torch.zeros(1), estimator).sum()
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logprob_N.grad).all()


def rollouts(**given: Tensor) -> Rollouts:
    return Rollouts(
        sequence_N=torch.tensor([0, 0]),
        groups=(1,),
        reward_S=torch.zeros(1).double(),
        finished_S=torch.ones(1).bool(),
        sampler_logprob_N=torch.tensor([-1.0, -2.0]),
        **given,
    )


def test_penalty_reads_the_trainers_log_probs_where_there_are_any():
    reference_N = torch.tensor([-1.5, -1.0])
    assert kl_penalty(rollouts(reference_logprob_N=reference_N), 0.1, "k1").tolist() == pytest.approx([0.05, -0.1])
    old_N = torch.tensor([-1.5, -3.0])
    given = rollouts(reference_logprob_N=reference_N, old_logprob_N=old_N)
    assert kl_penalty(given, 0.1, "k1").tolist() == pytest.approx([0.0, -0.2])


def test_penalty_needs_a_reference_unless_it_is_zero():
    assert kl_penalty(rollouts(), 0.0, "k1").tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="reference_logprob_N"):
        kl_penalty(rollouts(), 0.1, "k1")


@pytest.mark.parametrize(
    ("kl", "factor"),
    # errors: 0.1; −0.1; +9 cut to 0.2; −1 cut to −0.2; a negative estimate is cut as well
    [(0.11, 1.01), (0.09, 0.99), (1.0, 1.02), (0.0, 0.98), (-0.5, 0.98), (0.1, 1.0)],
)
def test_controller_by_hand(kl, factor):
    assert adapted_coefficient(0.2, kl, target=0.1) == pytest.approx(0.2 * factor, abs=1e-15)


def test_the_examples_of_the_docstrings():
    result = doctest.testmod(module)
    assert (result.failed, result.attempted) == (0, 3)
