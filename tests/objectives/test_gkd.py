import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trimpot.core.errors import UsageError
from trimpot.core.settings import check_settings
from trimpot.core.tensors import Streams
from trimpot.objectives.distill.gkd import GKD

STUDENT = torch.tensor([[0.25, 0.75], [0.5, 0.5]], dtype=torch.float64).log()
TEACHER = torch.tensor([[0.5, 0.5], [0.9, 0.1]], dtype=torch.float64).log()


def kl(a: list[float], b: list[float]) -> float:
    return sum(x * math.log(x / y) for x, y in zip(a, b, strict=True))


def logits(seed: int) -> torch.Tensor:
    return torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_ends_are_forward_and_reverse_kl():
    forward = [kl([0.5, 0.5], [0.25, 0.75]), kl([0.9, 0.1], [0.5, 0.5])]
    reverse = [kl([0.25, 0.75], [0.5, 0.5]), kl([0.5, 0.5], [0.9, 0.1])]
    assert GKD(0.0).divergence(STUDENT, TEACHER).tolist() == pytest.approx(forward, abs=1e-14)
    assert GKD(1.0).divergence(STUDENT, TEACHER).tolist() == pytest.approx(reverse, abs=1e-14)


def test_between_the_mixture_has_beta_of_the_teacher():
    beta, p, q = 0.1, [0.5, 0.5], [0.25, 0.75]
    m = [beta * a + (1 - beta) * b for a, b in zip(p, q, strict=True)]
    expected = beta * kl(p, m) + (1 - beta) * kl(q, m)
    assert GKD(beta).divergence(STUDENT, TEACHER)[0].item() == pytest.approx(expected, abs=1e-14)


def test_near_its_ends_it_is_the_kl_times_the_distance():
    small = 1e-6
    forward, reverse = (GKD(beta).divergence(STUDENT, TEACHER) for beta in (0.0, 1.0))
    assert torch.allclose(GKD(small).divergence(STUDENT, TEACHER) / small, forward, rtol=1e-4)
    assert torch.allclose(GKD(1 - small).divergence(STUDENT, TEACHER) / small, reverse, rtol=1e-4)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), beta=st.floats(0.01, 0.99), shift=st.floats(-50, 50))
def test_properties(seed, beta, shift):
    student, teacher = logits(seed), logits(seed + 1)
    value_N = GKD(beta).divergence(student, teacher)
    entropy = -(beta * math.log(beta) + (1 - beta) * math.log(1 - beta))
    assert (value_N >= 0).all()
    assert (value_N <= entropy + 1e-12).all()  # the mutual information of a token and which model gave it
    assert torch.allclose(value_N, GKD(1 - beta).divergence(teacher, student), atol=1e-12)
    assert torch.allclose(value_N, GKD(beta).divergence(student + shift, teacher), atol=1e-9)
    for every in (0.0, beta, 1.0):
        assert GKD(every).divergence(student, student).abs().max() < 1e-12


def test_temperature_divides_both_logits():
    student, teacher = logits(0), logits(1)
    hot = GKD(0.3, divergence_temperature=2.0).divergence(student, teacher)
    assert torch.allclose(hot, GKD(0.3).divergence(student / 2, teacher / 2), atol=1e-15)


@pytest.mark.parametrize("beta", [0.0, 0.2, 0.5, 1.0])
def test_gradient_passes_gradcheck(beta):
    teacher = logits(1)
    gkd = GKD(beta, divergence_temperature=1.5)
    assert torch.autograd.gradcheck(lambda s: gkd.divergence(s, teacher), (logits(0).requires_grad_(),))


def test_gradient_of_forward_kl_is_student_less_teacher():
    student = logits(0).requires_grad_()
    GKD(0.0).divergence(student, logits(1)).sum().backward()
    assert torch.allclose(student.grad, student.detach().softmax(1) - logits(1).softmax(1), atol=1e-14)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_extreme_logits_have_a_finite_value_and_gradient(beta):
    student = torch.tensor([[300.0, -300.0, 0.0]], requires_grad=True)
    value = GKD(beta).divergence(student, torch.tensor([[-300.0, 300.0, 0.0]]))
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(student.grad).all()


def test_loss_is_the_weighted_mean_over_tokens_and_statistics_say_which_divergence():
    divergence_N, weight_N = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([1.0, 1.0, 2.0])
    given = {"logprob_N": torch.tensor([-1.0, -2.0, -6.0]), "divergence_N": divergence_N, "weight_N": weight_N}
    streams = Streams(torch.tensor([0, 0, 1]), 2, **given, entropy_N=torch.tensor([0.5, 1.0, 1.5]))
    out = GKD(0.0)(streams)
    assert out.loss().item() == (1 + 2 + 12) / 4
    assert out.stats["loss"].value == (1 + 2 + 12) / 4
    assert out.stats["divergence/forward_kl"].value == 3.0
    assert (out.stats["nll_loss"].value, out.stats["entropy"].value) == (3.0, 1.0)
    assert "divergence/reverse_kl" in GKD(1.0)(streams).stats
    assert "divergence/jensen_shannon" in GKD(0.5)(streams).stats


@pytest.mark.parametrize("given", [{"beta": -0.1}, {"beta": 1.1}, {"divergence_temperature": 0.0}])
def test_settings_out_of_range_are_refused(given):
    with pytest.raises(UsageError, match=next(iter(given))):
        check_settings(GKD(**given), "distill")
