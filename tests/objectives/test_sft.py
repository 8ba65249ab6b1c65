import pytest
import torch

from trimpot.core.tensors import Streams
from trimpot.objectives.supervised.sft import SupervisedFineTuning

SEQUENCE_N = torch.tensor([0, 0, 0, 1])
LOGPROB_N = torch.tensor([-0.5, -1.0, -2.0, -4.5], dtype=torch.float64)


def test_the_loss_is_the_mean_over_tokens_not_over_sequences():
    out = SupervisedFineTuning()(Streams(SEQUENCE_N, 2, LOGPROB_N))
    # (0.5 + 1 + 2 + 4.5) / 4 = 2; the mean of sequence means would be (3.5/3 + 4.5) / 2 = 2.83
    assert out.loss().item() == 2.0
    assert out.stats["loss"].value == 2.0
    assert out.terms[0].count == 4.0


def test_weights_enter_the_total_and_the_count():
    weight_N = torch.tensor([2.0, 2.0, 2.0, 1.0], dtype=torch.float64)
    out = SupervisedFineTuning()(Streams(SEQUENCE_N, 2, LOGPROB_N, weight_N=weight_N))
    # (2 · (0.5 + 1 + 2) + 1 · 4.5) / (2 · 3 + 1) = 11.5 / 7
    assert out.loss().item() == pytest.approx(11.5 / 7, abs=1e-15)
    assert out.terms[0].count == 7.0


def test_gradient_is_minus_weight_over_sum_of_weights_and_zero_at_weight_zero():
    logprob_N = LOGPROB_N.clone().requires_grad_()
    weight_N = torch.tensor([1.0, 0.0, 2.0, 1.0], dtype=torch.float64)
    SupervisedFineTuning()(Streams(SEQUENCE_N, 2, logprob_N, weight_N=weight_N)).loss().backward()
    assert logprob_N.grad.tolist() == [-0.25, 0.0, -0.5, -0.25]


def test_loss_of_logits_equals_cross_entropy_and_passes_gradcheck():
    torch.manual_seed(0)
    logits_NV = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    target_N = torch.tensor([0, 4, 2, 2])

    def ours(logits_NV: torch.Tensor) -> torch.Tensor:
        logprob_N = logits_NV.log_softmax(-1)[torch.arange(4), target_N]
        return SupervisedFineTuning()(Streams(SEQUENCE_N, 2, logprob_N)).loss()

    theirs = torch.nn.functional.cross_entropy(logits_NV, target_N)
    assert ours(logits_NV).item() == pytest.approx(theirs.item(), abs=1e-14)
    (ours_grad,) = torch.autograd.grad(ours(logits_NV), logits_NV)
    (their_grad,) = torch.autograd.grad(theirs, logits_NV)
    assert torch.allclose(ours_grad, their_grad, atol=1e-14)
    assert torch.autograd.gradcheck(ours, (logits_NV,))


def test_statistics():
    entropy_N, correct_N = torch.tensor([1.0, 2.0, 3.0, 6.0]), torch.tensor([True, False, False, True])
    stats = SupervisedFineTuning()(Streams(SEQUENCE_N, 2, LOGPROB_N, entropy_N=entropy_N, correct_N=correct_N)).stats
    assert stats["entropy"].value == 3.0
    assert stats["mean_token_accuracy"].value == 0.5
    assert (stats["num_target_tokens"].total, stats["num_target_tokens"].value) == (4.0, 2.0)


def test_statistics_without_their_streams_are_absent():
    assert set(SupervisedFineTuning()(Streams(SEQUENCE_N, 2, LOGPROB_N)).stats) == {"loss", "num_target_tokens"}


def test_nothing_supervised_is_none_and_not_zero():
    out = SupervisedFineTuning()(Streams(torch.tensor([], dtype=torch.long), 2, torch.zeros(0)))
    assert out.stats["loss"].value is None
    assert out.stats["num_target_tokens"].value == 0.0
    assert out.loss().item() == 0.0
