import doctest
import math

import pytest
import torch

from trimpot.core.stats import add_stats
from trimpot.core.tensors import Streams
from trimpot.objectives.policy_gradient import importance as module
from trimpot.objectives.policy_gradient.dapo import DAPO
from trimpot.objectives.policy_gradient.grpo import GRPO
from trimpot.objectives.policy_gradient.importance import importance_weights, sampler_difference

SAMPLER_N = torch.tensor([-1.0, -2.0, -3.0, -0.5], dtype=torch.float64)
RATIO_N = torch.tensor([1.0, 5.0, 0.1, 2.0], dtype=torch.float64)
OLD_N = SAMPLER_N + RATIO_N.log()


def test_truncated_weights():
    weight_N, changed_N = importance_weights(OLD_N, SAMPLER_N, "truncate", 3.0)
    assert weight_N.tolist() == pytest.approx([1.0, 3.0, 0.1, 2.0])
    assert changed_N.tolist() == [False, True, False, False]


def test_masked_weights():
    weight_N, changed_N = importance_weights(OLD_N, SAMPLER_N, "mask", 3.0)
    assert weight_N.tolist() == pytest.approx([1.0, 0.0, 0.0, 2.0])
    assert changed_N.tolist() == [False, True, True, False]


def test_weights_have_no_gradient():
    old_N = OLD_N.clone().requires_grad_()
    assert not importance_weights(old_N, SAMPLER_N, "truncate", 3.0)[0].requires_grad


def test_full_weights_undo_a_wrong_sampler_over_all_tokens():
    """Σ_y π_sampler(y) w(y) A(y) ∇log π(y) = Σ_y π(y) A(y) ∇log π(y) where no weight meets the cap."""
    logits_V = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64, requires_grad=True)
    logprob_V = torch.log_softmax(logits_V, 0)
    sampler_V = torch.log_softmax(torch.tensor([0.0, 0.4, 0.1], dtype=torch.float64), 0)
    advantage_V = torch.tensor([1.0, -0.5, 0.2], dtype=torch.float64)

    def gradient(importance: str) -> torch.Tensor:
        streams = Streams(
            torch.arange(3), 3, logprob_V, sampler_logprob_N=sampler_V, old_logprob_N=logprob_V.detach(),
            advantage_N=advantage_V * sampler_V.exp(),
        )  # fmt: skip
        loss = GRPO(importance=importance, importance_cap=10.0)(streams).loss()
        return torch.autograd.grad(3 * loss, logits_V, retain_graph=True)[0]

    (true,) = torch.autograd.grad(-(logprob_V.exp() * advantage_V).sum(), logits_V, retain_graph=True)
    assert torch.allclose(gradient("truncate"), true, atol=1e-14)
    assert torch.allclose(gradient("mask"), true, atol=1e-14)


@pytest.mark.parametrize(("importance", "masked"), [("truncate", 1 / 4), ("mask", 2 / 4)])
def test_bug_06_sampler_mismatch_is_reported(importance, masked):
    """A wrong sampler shows in the difference and in the share of tokens that the correction cuts."""
    streams = Streams(
        torch.tensor([0, 0, 1, 1]), 2, OLD_N, sampler_logprob_N=SAMPLER_N, old_logprob_N=OLD_N,
        advantage_N=torch.tensor([1.0, 1.0, -1.0, -1.0]).double(),
    )  # fmt: skip
    stats = DAPO(importance=importance, importance_cap=3.0)(streams).stats
    difference = (0 + math.log(5) + math.log(10) + math.log(2)) / 4
    assert stats["sampling/sampling_logp_difference/mean"].value == pytest.approx(difference)
    assert stats["sampling/importance_masked"].value == masked
    # The ratio is π/π_old = 1: without its own statistic the mismatch would be invisible.
    assert stats["sampling/ratio_mean"].value == 1.0
    # Uncorrected, it is reported as well.
    assert DAPO()(streams).stats["sampling/sampling_logp_difference/mean"].value == pytest.approx(difference)
    agreed = Streams(streams.sequence_N, 2, OLD_N, sampler_logprob_N=OLD_N, advantage_N=streams.advantage_N)
    assert DAPO()(agreed).stats["sampling/sampling_logp_difference/mean"].value == 0.0


def test_later_updates_do_not_count_as_mismatch_where_the_old_log_probs_are_known():
    moved_N = OLD_N + 0.3
    streams = Streams(
        torch.arange(4), 4, moved_N, sampler_logprob_N=OLD_N, old_logprob_N=OLD_N, advantage_N=torch.ones(4).double()
    )
    assert GRPO()(streams).stats["sampling/sampling_logp_difference/mean"].value == 0.0


def test_difference_of_a_draw():
    stats = sampler_difference(OLD_N, SAMPLER_N)
    assert stats["sampling/sampling_logp_difference/max"].value == pytest.approx(math.log(10))
    assert stats["sampling/sampling_logp_difference/mean"].value == pytest.approx(
        (math.log(5) + math.log(10) + math.log(2)) / 4
    )
    assert all(stat.value is None for stat in sampler_difference(OLD_N[:0], SAMPLER_N[:0]).values())


def test_bug_14_logged_entropy_is_the_entropy():
    """Over micro-batches of unequal length too: the mean over tokens of −Σ p log p, not a mean of means."""
    logprob_NV = torch.log_softmax(torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).double(), 1)
    entropy_N = -(logprob_NV.exp() * logprob_NV).sum(1)
    zeros = torch.zeros(5).double()

    def stats(tokens: slice):
        size = len(entropy_N[tokens])
        given = {name: zeros[tokens] for name in ("logprob_N", "sampler_logprob_N", "advantage_N")}
        return GRPO()(Streams(torch.zeros(size).long(), 1, entropy_N=entropy_N[tokens], **given)).stats

    together = add_stats([stats(slice(0, 1)), stats(slice(1, 5))])
    assert together["entropy"].value == pytest.approx(float(entropy_N.sum()) / 5, abs=1e-14)


def test_the_examples_of_the_docstrings():
    result = doctest.testmod(module)
    assert (result.failed, result.attempted) == (0, 5)
