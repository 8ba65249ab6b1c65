"""TRL 1.16's own divergence of its GKD trainer, on the same logits, against ours: value and gradient."""

from __future__ import annotations

import pytest
import torch

from trimpot.core.tensors import Streams
from trimpot.objectives.distill.gkd import GKD

LENGTHS = [2, 4, 1]
MASK = torch.arange(4) < torch.tensor(LENGTHS)[:, None]
SEQUENCE_N = torch.repeat_interleave(torch.arange(3), torch.tensor(LENGTHS))
WORDS = 9


@pytest.fixture(scope="module")
def their_loss():
    from trl.experimental.gkd.gkd_trainer import GKDTrainer

    return GKDTrainer.generalized_jsd_loss


def logits(seed: int) -> torch.Tensor:
    """[sequences, longest, words], with noise in the padding too."""
    return 2 * torch.randn(3, 4, WORDS, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [1.0, 0.9, 2.0])
@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_gkd(their_loss, beta, temperature):
    student, teacher = logits(0).requires_grad_(), logits(1)
    labels = torch.where(MASK, 0, -100)
    theirs = their_loss(student, teacher, labels=labels, beta=beta, temperature=temperature)
    again = student.detach().clone().requires_grad_()
    gkd = GKD(beta, divergence_temperature=temperature)
    divergence_N = gkd.divergence(again[MASK], teacher[MASK])
    streams = Streams(SEQUENCE_N, 3, logprob_N=torch.zeros(7), divergence_N=divergence_N)
    ours = gkd(streams).loss()
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-12)
    (our_gradient,) = torch.autograd.grad(ours, again)
    (their_gradient,) = torch.autograd.grad(theirs, student)
    assert their_gradient.abs().sum() > 0
    assert torch.allclose(our_gradient, their_gradient, atol=1e-12)
