import math

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.settings import check_settings
from trimpot.core.tensors import Streams
from trimpot.objectives.policy_gradient.grpo import GRPO, PRESETS
from trimpot.objectives.policy_gradient.rollouts import Rollouts

# Completion 0 has two tokens and advantage 2; completion 1 has one token and advantage −1.
SEQUENCE_N = torch.tensor([0, 0, 1])
ADVANTAGE_S = torch.tensor([2.0, -1.0], dtype=torch.float64)
SAMPLER_N = torch.tensor([-1.0, -2.0, -3.0], dtype=torch.float64)
NORMALISATIONS = [("sequence", None), ("token", None), ("fixed", 10)]


def log(*ratios: float) -> torch.Tensor:
    return torch.tensor([math.log(ratio) for ratio in ratios], dtype=torch.float64)


def streams(logprob_N: torch.Tensor, **given: torch.Tensor) -> Streams:
    return Streams(SEQUENCE_N, 2, logprob_N, sampler_logprob_N=SAMPLER_N, advantage_N=ADVANTAGE_S[SEQUENCE_N], **given)


@pytest.mark.parametrize(
    ("normalisation", "limit", "expected"),
    [
        # ratios 1.1, 1.5, 0.9: terms 1.1 · 2 = 2.2; min(1.5, 1.2) · 2 = 2.4; 0.9 · −1 = −0.9
        ("sequence", None, -((2.2 + 2.4) / 2 + -0.9 / 1) / 2),
        ("token", None, -(2.2 + 2.4 - 0.9) / 3),
        ("fixed", 10, -(2.2 + 2.4 - 0.9) / (2 * 10)),
    ],
)
def test_loss_by_hand(normalisation, limit, expected):
    objective = GRPO(normalisation=normalisation, completion_limit=limit)
    out = objective(streams(SAMPLER_N + log(1.1, 1.5, 0.9)))
    assert out.loss().item() == pytest.approx(expected, abs=1e-14)
    assert out.stats["loss"].value == pytest.approx(expected, abs=1e-14)


def test_clipping_stops_the_gradient_only_where_it_would_go_further():
    logprob_N = (SAMPLER_N + log(1.5, 0.5, 0.5)).requires_grad_()
    GRPO()(streams(logprob_N)).loss().backward()
    # 0: above 1.2 at A > 0, stopped; 1: below 0.8 at A > 0, −ρA/3; 2: below 0.8 at A < 0, stopped
    assert logprob_N.grad.tolist() == pytest.approx([0.0, -0.5 * 2 / 3, 0.0], abs=1e-15)


def test_low_and_high_clip_are_separate():
    objective = GRPO(clip_low=0.1, clip_high=0.3)
    out = objective(streams(SAMPLER_N + log(1.25, 1.5, 0.85)))
    # min(1.25, 1.3) · 2; 1.3 · 2; clipped from 0.85 to 0.9 · −1
    assert out.loss().item() == pytest.approx(-(2.5 + 2.6 - 0.9) / 3, abs=1e-14)
    assert out.stats["clip_ratio/low_mean"].value == pytest.approx(1 / 3)
    assert out.stats["clip_ratio/high_mean"].value == pytest.approx(1 / 3)
    assert out.stats["clip_ratio/region_mean"].value == pytest.approx(2 / 3)


def test_kl_is_k3_and_its_own_term():
    logprob_N = SAMPLER_N.clone()
    reference_N = logprob_N + log(2.0, 1.0, 0.5)
    out = GRPO(kl=0.1)(streams(logprob_N, reference_logprob_N=reference_N))
    # k3 at π_ref/π = 2, 1, 1/2: 2 − ln 2 − 1, 0, 0.5 + ln 2 − 1: sum 0.5
    assert {term.name: term.weight for term in out.terms} == {"policy": 1.0, "kl": 0.1}
    assert out.stats["kl"].value == pytest.approx(0.5 / 3, abs=1e-14)
    assert out.loss().item() == pytest.approx(-(2 + 2 - 1) / 3 + 0.1 * 0.5 / 3, abs=1e-14)


def test_an_estimator_without_a_pull_is_refused():
    with pytest.raises(UsageError, match="k1 in the loss has no pull"):
        GRPO(kl=0.1, kl_estimator="k1")
    assert GRPO(kl=0.0, kl_estimator="k1").kl == 0.0


@pytest.mark.parametrize(
    ("estimator", "kl", "pull"),
    [
        # d = log π − log π_ref = −ln 2, 0, ln 2; pulls: k2: d; k3: 1 − exp(−d) = −1, 0, 1/2
        ("k2", math.log(2) ** 2 / 3, [-math.log(2), 0, math.log(2)]),
        ("k3", 0.5 / 3, [-1, 0, 0.5]),
    ],
)
def test_every_kl_estimator_with_its_gradient(estimator, kl, pull):
    logprob_N = SAMPLER_N.clone().requires_grad_()
    given = streams(logprob_N, reference_logprob_N=SAMPLER_N + log(2.0, 1.0, 0.5))
    out = GRPO(kl=0.1, kl_estimator=estimator)(given)
    assert out.stats["kl"].value == pytest.approx(kl, abs=1e-14)
    out.loss().backward()
    # −A/3 of the policy, and 0.1 · pull / 3
    expected = [(-2 + 0.1 * pull[0]) / 3, (-2 + 0.1 * pull[1]) / 3, (1 + 0.1 * pull[2]) / 3]
    assert logprob_N.grad.tolist() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize(
    ("importance", "weights", "masked"),
    # π_old/π_sampler = 4, 0.2, 1 with C = 3
    [("truncate", (3.0, 0.2, 1.0), 1 / 3), ("mask", (0.0, 0.0, 1.0), 2 / 3)],
)
def test_importance_correction_by_hand(importance, weights, masked):
    old_N = SAMPLER_N + log(4.0, 0.2, 1.0)
    logprob_N = (old_N + log(1.1, 1.5, 0.9)).requires_grad_()
    out = GRPO(importance=importance, importance_cap=3.0)(streams(logprob_N, old_logprob_N=old_N))
    # π/π_old 1.1, 1.5 (clipped to 1.2), 0.9 with advantages 2, 2, −1
    gains = [weights[0] * 1.1 * 2, weights[1] * 1.2 * 2, weights[2] * 0.9 * -1]
    assert out.loss().item() == pytest.approx(-sum(gains) / 3, abs=1e-14)
    assert out.stats["sampling/importance_masked"].value == pytest.approx(masked)
    assert out.stats["sampling/importance_sampling_ratio/mean"].value == pytest.approx(sum(weights) / 3)
    out.loss().backward()
    assert logprob_N.grad.tolist() == pytest.approx([-gains[0] / 3, 0, -gains[2] / 3], abs=1e-14)


def test_what_must_be_scored_depends_on_the_settings():
    assert (GRPO().rollout_needs, GRPO().skips_idle, GRPO().smallest_group) == ((), True, 2)
    assert GRPO(kl=0.1).rollout_needs == ()
    assert not GRPO(kl=0.1).skips_idle
    corrected = GRPO(importance="truncate")
    assert corrected.rollout_needs == ("old_logprob_N",)
    assert "old_logprob_N" in corrected.needs
    assert "old_logprob_N" not in GRPO().needs


def test_advantages_of_a_draw():
    rollouts = Rollouts(
        sequence_N=torch.tensor([0, 0, 1, 2, 3, 3]),
        groups=(2, 2),
        reward_S=torch.tensor([1.0, 0.0, 0.5, math.nan], dtype=torch.float64),
        finished_S=torch.ones(4, dtype=torch.bool),
        sampler_logprob_N=torch.zeros(6),
    )
    # deviations ±0.5, std √(0.25 + 0.25) = √0.5; the second group has one score only
    expected = 0.5 / (math.sqrt(0.5) + 1e-4)
    advantages = GRPO().advantages(rollouts)
    assert list(advantages) == ["advantage_N"]
    assert advantages["advantage_N"].tolist() == pytest.approx([expected, expected, -expected, 0, 0, 0], abs=1e-14)
    assert GRPO(scale_rewards="none").advantages(rollouts)["advantage_N"].tolist() == [0.5, 0.5, -0.5, 0, 0, 0]


def test_reference_is_needed_only_with_kl():
    assert "reference_logprob_N" not in GRPO().needs
    assert "reference_logprob_N" in GRPO(kl=0.04).needs
    with pytest.raises(ValueError, match="reference_logprob_N"):
        GRPO(kl=0.04)(streams(SAMPLER_N))


@pytest.mark.parametrize(("normalisation", "limit"), NORMALISATIONS)
def test_on_policy_gradient_is_the_policy_gradient(normalisation, limit):
    """At π = π_sampler the gradient is −A · norm, clipping or not."""
    logprob_N = SAMPLER_N.clone().requires_grad_()
    GRPO(normalisation=normalisation, completion_limit=limit)(streams(logprob_N)).loss().backward()
    expected = {
        "sequence": [-2 / 2 / 2, -2 / 2 / 2, 1 / 2],
        "token": [-2 / 3, -2 / 3, 1 / 3],
        "fixed": [-0.1, -0.1, 0.05],
    }
    assert logprob_N.grad.tolist() == pytest.approx(expected[normalisation], abs=1e-15)


@pytest.mark.parametrize(("normalisation", "limit"), NORMALISATIONS)
def test_gradient_equals_the_naive_formula_and_passes_gradcheck(normalisation, limit):
    torch.manual_seed(3)
    lengths, advantages = [1, 3, 2, 4], [1.5, -0.5, 0.7, -2.0]
    sequence_N = torch.repeat_interleave(torch.arange(4), torch.tensor(lengths))
    advantage_S = torch.tensor(advantages, dtype=torch.float64)
    sampler_N, reference_N = -torch.rand(10, dtype=torch.float64), -torch.rand(10, dtype=torch.float64)
    logprob_N = (sampler_N + 0.4 * torch.randn(10, dtype=torch.float64)).requires_grad_()

    def naive(logprob_N: torch.Tensor) -> torch.Tensor:
        losses, token = [], 0
        for length, advantage in zip(lengths, advantages, strict=True):
            mine = []
            for _ in range(length):
                ratio = torch.exp(logprob_N[token]) / torch.exp(sampler_N[token])
                reference = torch.exp(reference_N[token]) / torch.exp(logprob_N[token])
                surrogate = min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage)
                mine.append(-surrogate + 0.04 * (reference - torch.log(reference) - 1))
                token += 1
            losses.append(sum(mine) / length if normalisation == "sequence" else sum(mine))
        return sum(losses) / {"sequence": 4, "token": 10, "fixed": 4 * 10}[normalisation]

    def ours(logprob_N: torch.Tensor) -> torch.Tensor:
        given = Streams(sequence_N, 4, logprob_N, reference_N, sampler_N, advantage_N=advantage_S[sequence_N])
        return GRPO(kl=0.04, normalisation=normalisation, completion_limit=limit)(given).loss()

    assert ours(logprob_N).item() == pytest.approx(naive(logprob_N).item(), abs=1e-14)
    (ours_grad,) = torch.autograd.grad(ours(logprob_N), logprob_N)
    (naive_grad,) = torch.autograd.grad(naive(logprob_N), logprob_N)
    assert torch.allclose(ours_grad, naive_grad, atol=1e-14)
    assert torch.autograd.gradcheck(ours, (logprob_N,))


def test_advantage_zero_has_no_gradient():
    logprob_N = (SAMPLER_N + 0.1).requires_grad_()
    given = Streams(SEQUENCE_N, 2, logprob_N, sampler_logprob_N=SAMPLER_N, advantage_N=torch.zeros(3).double())
    GRPO()(given).loss().backward()
    assert logprob_N.grad.tolist() == [0.0, 0.0, 0.0]


def test_kl_pulls_the_policy_to_a_reference_it_left_far_behind():
    logprob_N = torch.tensor([0.0, 0.0, 0.0], dtype=torch.float64, requires_grad=True)
    out = GRPO(kl=1.0)(
        Streams(
            SEQUENCE_N,
            2,
            logprob_N,
            torch.full((3,), -50.0).double(),
            torch.zeros(3).double(),
            advantage_N=torch.zeros(3).double(),
        )
    )
    out.loss().backward()
    assert logprob_N.grad.tolist() == pytest.approx([1 / 3] * 3)
    assert out.stats["kl"].value == pytest.approx(50 - 1)


def test_sampling_statistics():
    stats = GRPO()(streams(SAMPLER_N + log(2.0, 0.5, 1.0), entropy_N=torch.tensor([1.0, 2.0, 6.0]))).stats
    assert stats["sampling/ratio_mean"].value == pytest.approx((2 + 0.5 + 1) / 3)
    assert stats["sampling/sampling_logp_difference/mean"].value == pytest.approx(2 * math.log(2) / 3)
    assert stats["entropy"].value == 3.0
    assert "kl" not in stats


def test_a_completion_without_targets_counts_as_a_sequence():
    advantage_N = ADVANTAGE_S[SEQUENCE_N]
    given = Streams(SEQUENCE_N, 3, SAMPLER_N, sampler_logprob_N=SAMPLER_N, advantage_N=advantage_N)
    assert GRPO(normalisation="sequence")(given).loss().item() == pytest.approx(-(2 - 1 + 0) / 3)


def test_no_completion_has_no_statistics():
    empty = torch.zeros(0)
    given = Streams(SEQUENCE_N[:0], 0, empty, sampler_logprob_N=empty, advantage_N=empty)
    assert all(stat.value is None for stat in GRPO()(given).stats.values())


def test_fixed_normalisation_needs_the_completion_limit():
    with pytest.raises(UsageError, match=r"grpo\.completion_limit"):
        GRPO(normalisation="fixed")


@pytest.mark.parametrize(
    "settings",
    [
        {"clip_low": 0.0},
        {"clip_low": 1.5},
        {"clip_high": -1.0},
        {"kl": -0.1},
        {"normalisation": "tokens"},
        {"importance": "cut"},
        {"importance_cap": 0.5},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(UsageError, match=next(iter(settings))):
        check_settings(GRPO(**settings))


def test_presets_differ_where_the_paper_and_trl_differ_and_fit_the_objective():
    paper, trl = PRESETS["paper"], PRESETS["trl"]
    assert (paper["kl"], paper["group"], paper["normalisation"]) == (0.04, 64, "sequence")
    assert (trl["kl"], trl["group"], trl["normalisation"]) == (0.0, 8, "token")
    assert paper.keys() == trl.keys()
    for preset in PRESETS.values():
        fields = {key: value for key, value in preset.items() if key in GRPO.__dataclass_fields__}
        check_settings(GRPO(**fields))
