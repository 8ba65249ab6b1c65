import math

import pytest
import torch

from trimpot.core.settings import check_settings
from trimpot.core.tensors import Streams
from trimpot.objectives.policy_gradient.rloo import PRESETS, RLOO
from trimpot.objectives.policy_gradient.rollouts import Rollouts

SEQUENCE_N = torch.tensor([0, 0, 1, 2])
SAMPLER_N = torch.tensor([-1.0, -2.0, -3.0, -1.0], dtype=torch.float64)


def rollouts(*rewards: float, **given: torch.Tensor) -> Rollouts:
    return Rollouts(
        SEQUENCE_N, (3,), torch.tensor(rewards, dtype=torch.float64), torch.ones(3).bool(), SAMPLER_N, **given
    )


def test_loss_gradient_and_statistics_by_hand():
    ratio_N = torch.tensor([1.1, 1.0, 1.5, 0.5], dtype=torch.float64)
    advantage_N = torch.tensor([2.0, 2.0, 1.0, 0.5], dtype=torch.float64)
    logprob_N = (SAMPLER_N + ratio_N.log()).requires_grad_()
    given = Streams(SEQUENCE_N, 3, logprob_N, sampler_logprob_N=SAMPLER_N, advantage_N=advantage_N)
    out = RLOO()(given)
    # ρ of completions: 1.1 · 1.0; 1.5, cut to 1.2; 0.5 at A > 0 is not cut
    assert out.loss().item() == pytest.approx(-(1.1 * 2 + 1.2 * 1 + 0.5 * 0.5) / 3, abs=1e-15)
    out.loss().backward()
    # −ρ A / 3 on every token: a long completion is not weakened by its length
    assert logprob_N.grad.tolist() == pytest.approx([-2.2 / 3, -2.2 / 3, 0, -0.25 / 3], abs=1e-15)
    assert out.stats["clip_ratio/high_mean"].value == pytest.approx(1 / 3)
    assert "kl" not in out.stats


def test_advantages_by_hand():
    # rewards 1, 0, 4: 1 − 2, 0 − 2.5, 4 − 0.5
    assert RLOO(kl=0.0).advantages(rollouts(1, 0, 4))["advantage_N"].tolist() == [-1, -1, -2.5, 3.5]


def test_the_kl_of_a_completion_lowers_its_reward():
    reference_N = SAMPLER_N - torch.tensor([1.0, 2.0, 0.0, -1.0], dtype=torch.float64)
    # log π/π_ref of the completions: 3, 0, −1; rewards 1 − 0.3, 0, 4 + 0.1
    advantages = RLOO(kl=0.1).advantages(rollouts(1, 0, 4, reference_logprob_N=reference_N))["advantage_N"]
    expected = [0.7 - 4.1 / 2, 0.7 - 4.1 / 2, 0 - 4.8 / 2, 4.1 - 0.7 / 2]
    assert advantages.tolist() == pytest.approx(expected, abs=1e-14)


def test_an_unscored_completion_has_no_advantage_and_is_no_baseline():
    reference_N = SAMPLER_N - 1
    found = RLOO(kl=0.1).advantages(rollouts(1, math.nan, 4, reference_logprob_N=reference_N))["advantage_N"]
    assert found.tolist() == pytest.approx([0.8 - 3.9, 0.8 - 3.9, 0, 3.9 - 0.8], abs=1e-14)


def test_the_kl_is_reported_where_the_batch_brings_the_reference():
    given = Streams(
        SEQUENCE_N, 3, SAMPLER_N, SAMPLER_N - torch.tensor([1.0, 2.0, 0.0, -1.0]).double(), SAMPLER_N,
        advantage_N=torch.ones(4).double(),
    )  # fmt: skip
    assert RLOO()(given).stats["kl"].value == pytest.approx(2 / 4)
    assert "kl" not in RLOO(kl=0.0)(given).stats


def test_what_must_be_scored():
    assert RLOO().rollout_needs == ("reference_logprob_N",)
    assert RLOO(kl=0.0).rollout_needs == ()
    assert "reference_logprob_N" not in RLOO().needs


def test_presets_fit():
    assert PRESETS["paper"].keys() == PRESETS["trl"].keys()
    for preset in PRESETS.values():
        check_settings(RLOO(kl=preset["kl"]))
