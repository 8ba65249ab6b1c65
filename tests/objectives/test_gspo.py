import math

import pytest
import torch

from trimpot.core.settings import check_settings
from trimpot.core.tensors import Streams
from trimpot.objectives.policy_gradient.gspo import GSPO, PRESETS

SEQUENCE_N = torch.tensor([0, 0, 1, 2, 2, 2])
SAMPLER_N = torch.tensor([-1.0, -2.0, -3.0, -0.5, -1.5, -1.0], dtype=torch.float64)
ADVANTAGE_N = torch.tensor([2.0, 2.0, -1.0, 0.5, 0.5, 0.5], dtype=torch.float64)
# s: √(1.1 · 1.1) = 1.1; 0.5; ∛(2 · 0.5 · 1) = 1
RATIO_N = torch.tensor([1.1, 1.1, 0.5, 2.0, 0.5, 1.0], dtype=torch.float64)


def streams(logprob_N: torch.Tensor, **given: torch.Tensor) -> Streams:
    return Streams(SEQUENCE_N, 3, logprob_N, sampler_logprob_N=SAMPLER_N, advantage_N=ADVANTAGE_N, **given)


def test_loss_gradient_and_statistics_by_hand():
    logprob_N = (SAMPLER_N + RATIO_N.log()).requires_grad_()
    out = GSPO(clip_low=0.2, clip_high=0.2)(streams(logprob_N))
    # 1.1 · 2; 0.5 at A < 0 is cut to 0.8; 1 · 0.5; the mean over three completions
    assert out.loss().item() == pytest.approx(-(2.2 - 0.8 + 0.5) / 3, abs=1e-15)
    out.loss().backward()
    # eq. 10: −1/3 · s A / |y| on every token; none where clipped
    expected = [-2.2 / 3 / 2] * 2 + [0.0] + [-0.5 / 3 / 3] * 3
    assert logprob_N.grad.tolist() == pytest.approx(expected, abs=1e-15)
    assert out.stats["clip_ratio/low_mean"].value == pytest.approx(1 / 3)
    assert out.stats["clip_ratio/high_mean"].value == 0
    assert out.stats["sampling/ratio_mean"].value == pytest.approx((1.1 + 0.5 + 1) / 3)


def test_the_papers_clip_is_the_default():
    out = GSPO()(streams(SAMPLER_N + RATIO_N.log()))
    assert out.loss().item() == pytest.approx(-((1 + 4e-4) * 2 - (1 - 3e-4) + 0.5) / 3, abs=1e-15)


def test_importance_correction_multiplies_the_mean_weight_of_a_completion():
    logprob_N = SAMPLER_N + RATIO_N.log()
    old_N = SAMPLER_N + torch.tensor([1.0, 5.0, 1.0, 1.0, 1.0, 0.4], dtype=torch.float64).log()
    given = streams(logprob_N + (old_N - SAMPLER_N), old_logprob_N=old_N)
    out = GSPO(clip_low=0.2, clip_high=0.2, importance="truncate", importance_cap=3.0)(given)
    # the same s; weights (1 + 3) / 2, 1, (1 + 1 + 0.4) / 3
    assert out.loss().item() == pytest.approx(-(2 * 2.2 - 0.8 + 0.8 * 0.5) / 3, abs=1e-14)


def test_a_completion_without_targets_counts():
    empty = Streams(SEQUENCE_N, 4, SAMPLER_N, sampler_logprob_N=SAMPLER_N, advantage_N=ADVANTAGE_N)
    assert GSPO()(empty).loss().item() == pytest.approx(-(2 - 1 + 0.5) / 4, abs=1e-15)


def test_extreme_log_ratios_stay_finite():
    logprob_N = (SAMPLER_N + 500 * torch.tensor([1, 1, -1, 1, 1, 1])).requires_grad_()
    loss = GSPO()(streams(logprob_N)).loss()
    loss.backward()
    assert math.isfinite(loss.item())
    assert torch.isfinite(logprob_N.grad).all()


def test_presets_fit():
    for preset in PRESETS.values():
        check_settings(GSPO(**preset))
    assert GSPO() == GSPO(**PRESETS["paper"])
