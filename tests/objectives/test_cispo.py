import pytest
import torch

from trimpot.core.tensors import Streams
from trimpot.objectives.policy_gradient.cispo import CISPO

SEQUENCE_N = torch.tensor([0, 0, 1])
LOGPROB_N = torch.tensor([-1.0, -2.0, -3.0], dtype=torch.float64)
ADVANTAGE_N = torch.tensor([2.0, 2.0, -1.0], dtype=torch.float64)


def streams(logprob_N: torch.Tensor, *ratios: float) -> Streams:
    sampler_N = LOGPROB_N - torch.tensor(ratios, dtype=torch.float64).log()
    return Streams(SEQUENCE_N, 2, logprob_N, sampler_logprob_N=sampler_N, advantage_N=ADVANTAGE_N)


def test_loss_and_gradient_by_hand():
    logprob_N = LOGPROB_N.clone().requires_grad_()
    out = CISPO()(streams(logprob_N, 1.5, 7.0, 0.01))
    # weights 1.5, 5 (cut), 0.01 (no lower bound): weight · A · log π
    assert out.loss().item() == pytest.approx(-(1.5 * 2 * -1 + 5 * 2 * -2 + 0.01 * -1 * -3) / 3, abs=1e-14)
    out.loss().backward()
    # −weight · A / 3: the cut token keeps its gradient, which PPO's clip would have taken
    assert logprob_N.grad.tolist() == pytest.approx([-3 / 3, -10 / 3, 0.01 / 3], abs=1e-14)
    assert out.stats["cispo_clip_ratio"].value == pytest.approx(1 / 3)
    assert out.stats["sampling/ratio_mean"].value == pytest.approx((1.5 + 7 + 0.01) / 3)


def test_a_lower_bound_can_be_set():
    out = CISPO(clip_low=0.5, clip_high=1.0)(streams(LOGPROB_N, 1.5, 7.0, 0.01))
    assert out.loss().item() == pytest.approx(-(1.5 * 2 * -1 + 2 * 2 * -2 + 0.5 * -1 * -3) / 3, abs=1e-14)
