"""TRL 1.16's own policy-gradient losses, called on the same numbers without a trainer, against ours.

TRL pads, ours packs. The methods run on a stand-in `self`; what stands inside methods too large to call is quoted.
"""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer
from trl.trainer.utils import nanstd

from trimpot.core.tensors import LossOut, Streams
from trimpot.objectives.policy_gradient.advantages import group_advantages
from trimpot.objectives.policy_gradient.cispo import CISPO
from trimpot.objectives.policy_gradient.dapo import DAPO
from trimpot.objectives.policy_gradient.dr_grpo import DrGRPO
from trimpot.objectives.policy_gradient.grpo import GRPO
from trimpot.objectives.policy_gradient.gspo import GSPO
from trimpot.objectives.policy_gradient.rloo import RLOO
from trimpot.objectives.policy_gradient.rollouts import Rollouts

LENGTHS = [2, 4, 1, 3]
SEQUENCE_N = torch.repeat_interleave(torch.arange(4), torch.tensor(LENGTHS))
MASK = torch.arange(4) < torch.tensor(LENGTHS)[:, None]
ADVANTAGE_S = torch.tensor([1.0, -1.0, 0.5, -0.2], dtype=torch.float64)
# Clipped: 0 and 6 above at A > 0, 2 and 9 below at A < 0; the others are inside or clipped without effect.
LOG_RATIO_N = torch.tensor([0.5, -0.5, -0.5, 0.1, 0.4, -0.1, 0.3, 0.5, 0.2, -0.3], dtype=torch.float64)
# Above 3 and below 1/3 at two places each.
MISMATCH_N = torch.tensor([1.0, 4.0, 0.2, 1.1, 0.9, 3.5, 1.0, 0.5, 0.3, 2.0], dtype=torch.float64).log()


def random_N(seed: int) -> Tensor:
    return -torch.rand(10, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 3


def padded(values_N: Tensor) -> Tensor:
    """[N] -> [S, longest], zeros on the right; differentiable."""
    return values_N.new_zeros(4, 4).masked_scatter(MASK, values_N)


def gather(value: Tensor) -> Tensor:
    return value


def stand_in(**given: object) -> SimpleNamespace:
    accelerator = SimpleNamespace(
        device="cpu", num_processes=1, gather=gather, gather_for_metrics=gather, reduce=lambda value, reduction: value
    )
    return SimpleNamespace(
        model=SimpleNamespace(training=False),
        accelerator=accelerator,
        aux_loss_enabled=False,
        _metrics={"eval": defaultdict(list)},
        **given,
    )


def record_parity(loss: float, gradient: Tensor | float) -> None:
    """Replaced by conftest: a row of `make parity-objectives`."""


def check(ours: LossOut, theirs: Tensor, leaf: Tensor, metrics: dict[str, list[float]], *expected: str) -> None:
    assert ours.loss().item() == pytest.approx(theirs.item(), abs=1e-12)
    (our_gradient,) = torch.autograd.grad(ours.loss(), leaf)
    (their_gradient,) = torch.autograd.grad(theirs, leaf)
    assert our_gradient.abs().sum() > 0
    record_parity(abs(ours.loss().item() - theirs.item()), (our_gradient - their_gradient).abs().max())
    assert torch.allclose(our_gradient, their_gradient, atol=1e-12)
    shared = set(metrics) & set(ours.stats)
    assert set(expected) <= shared
    for name in shared:
        assert metrics[name] == [pytest.approx(ours.stats[name].value, abs=1e-6)], name


def trl_grpo(
    streams: Streams, loss_type: str, importance: tuple[str, float] | None = None, **given: object
) -> tuple[Tensor, dict[str, list[float]]]:
    """``GRPOTrainer._compute_loss``; ``importance`` is (mode, cap) of its correction for vLLM."""
    logprob_N, entropy_N = streams.logprob_N, streams.entropy_N
    settings = {
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "importance_sampling_level": "token",
        "beta": 0.0,
        "loss_type": loss_type,
        "epsilon_low": 0.2,
        "epsilon_high": 0.2,
        "args": SimpleNamespace(delta=None, use_bias_correction_kl=False),
        "use_vllm": importance is not None,
        "vllm_importance_sampling_correction": importance is not None,
        "max_completion_length": 16,
        "_entropy_bonus_enabled": False,
    }
    fake = stand_in(
        **{**settings, **given},
        _get_per_token_logps_and_entropies=lambda *_, **__: (padded(logprob_N), padded(entropy_N), None),
    )
    old_N = streams.sampler_logprob_N if importance is None else streams.old_logprob_N
    inputs = {
        "prompt_ids": torch.zeros(4, 1, dtype=torch.long),
        "prompt_mask": torch.ones(4, 1),
        "completion_ids": torch.zeros(4, 4, dtype=torch.long),
        "completion_mask": MASK.long(),
        "advantages": ADVANTAGE_S,
        "old_per_token_logps": padded(old_N),
        "num_items_in_batch": MASK.sum(),
    }
    if streams.reference_logprob_N is not None:
        inputs["ref_per_token_logps"] = padded(streams.reference_logprob_N)
    if importance is not None:
        weights = quoted_importance_weights(padded(old_N), padded(streams.sampler_logprob_N), *importance)
        inputs["importance_sampling_ratio"] = weights
    return GRPOTrainer._compute_loss(fake, None, inputs), fake._metrics["eval"]


def quoted_importance_weights(old: Tensor, sampling: Tensor, mode: str, cap: float) -> Tensor:
    """TRL 1.16 grpo_trainer.py lines 2661-2703; for the mask with clip_min = 1/cap."""
    per_token_logps_diff = (old - sampling) * MASK
    per_token_logps_diff = torch.nan_to_num(per_token_logps_diff, nan=0.0)
    vllm_importance_sampling_ratio = torch.exp(per_token_logps_diff)
    if mode == "token_truncate":
        return torch.clamp(vllm_importance_sampling_ratio, min=None, max=cap)
    invalid_mis_mask = (vllm_importance_sampling_ratio < 1 / cap) | (vllm_importance_sampling_ratio > cap)
    return vllm_importance_sampling_ratio.masked_fill(invalid_mis_mask, value=0.0)


def streams_of(scale: float = 1.0, **given: Tensor) -> Streams:
    logprob_N = random_N(6).requires_grad_()
    old_N = logprob_N.detach() - scale * LOG_RATIO_N
    sampler_N = old_N - MISMATCH_N if "old" in given else old_N
    return Streams(
        SEQUENCE_N, 4, logprob_N, given.get("reference"), sampler_N, old_N if "old" in given else None,
        advantage_N=ADVANTAGE_S[SEQUENCE_N], entropy_N=-random_N(9),
    )  # fmt: skip


CLIP = ("clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean", "entropy")


@pytest.mark.parametrize("kl", [0.0, 0.04])
@pytest.mark.parametrize(
    ("normalisation", "loss_type"), [("sequence", "grpo"), ("token", "dapo"), ("fixed", "dr_grpo")]
)
def test_grpo(normalisation, loss_type, kl):
    streams = streams_of(reference=random_N(8))
    theirs, metrics = trl_grpo(streams, loss_type, beta=kl, epsilon_high=0.28)
    ours = GRPO(clip_high=0.28, kl=kl, normalisation=normalisation, completion_limit=16)(streams)
    check(ours, theirs, streams.logprob_N, metrics, *CLIP, *(["kl"] if kl else []))
    assert [ours.stats[f"clip_ratio/{side}_mean"].total for side in ("low", "high", "region")] == [2, 2, 4]
    assert ("kl" in ours.stats) == ("kl" in metrics) == (kl > 0)


@pytest.mark.parametrize(("importance", "mode"), [("truncate", "token_truncate"), ("mask", "token_mask")])
@pytest.mark.parametrize("kl", [0.0, 0.04])
def test_grpo_with_importance_correction(importance, mode, kl):
    streams = streams_of(old=True, reference=random_N(8))
    theirs, metrics = trl_grpo(streams, "grpo", (mode, 3.0), beta=kl)
    ours = GRPO(kl=kl, normalisation="sequence", importance=importance, importance_cap=3.0)(streams)
    check(ours, theirs, streams.logprob_N, metrics, *CLIP)
    # TRL 1.16 grpo_trainer.py lines 2861-2892, quoted: the metrics of the correction
    weights = quoted_importance_weights(padded(streams.old_logprob_N), padded(streams.sampler_logprob_N), mode, 3.0)
    delta = torch.abs(streams.old_logprob_N - streams.sampler_logprob_N)
    assert ours.stats["sampling/sampling_logp_difference/mean"].value == pytest.approx(torch.mean(delta).item())
    name = "sampling/importance_sampling_ratio/mean"
    assert ours.stats[name].value == pytest.approx(torch.mean(weights[MASK]).item())


def test_dr_grpo():
    streams = streams_of()
    theirs, metrics = trl_grpo(streams, "dr_grpo")
    check(DrGRPO(completion_limit=16)(streams), theirs, streams.logprob_N, metrics, *CLIP)


@pytest.mark.parametrize(("importance", "mode"), [("none", None), ("truncate", "token_truncate")])
def test_dapo(importance, mode):
    streams = streams_of(**({} if mode is None else {"old": True}))
    theirs, metrics = trl_grpo(streams, "dapo", None if mode is None else (mode, 3.0), epsilon_high=0.28)
    check(DAPO(importance=importance)(streams), theirs, streams.logprob_N, metrics, *CLIP)


@pytest.mark.parametrize(("importance", "mode"), [("none", None), ("mask", "token_mask")])
def test_gspo(importance, mode):
    # Mean log ratios 0, −0.025, 0.3, 0.13, a hundred times smaller: the last two leave the paper's clip, one at A > 0.
    streams = streams_of(scale=0.01, **({} if mode is None else {"old": True}))
    theirs, metrics = trl_grpo(
        streams, "grpo", None if mode is None else (mode, 3.0), importance_sampling_level="sequence",
        epsilon_low=3e-4, epsilon_high=4e-4,
    )  # fmt: skip
    ours = GSPO(importance=importance)(streams)
    check(ours, theirs, streams.logprob_N, metrics, *CLIP)
    assert ours.stats["clip_ratio/high_mean"].value == pytest.approx(1 / 4)


@pytest.mark.parametrize(("importance", "mode"), [("none", None), ("truncate", "token_truncate")])
def test_cispo(importance, mode):
    streams = streams_of(scale=4.0, **({} if mode is None else {"old": True}))
    theirs, metrics = trl_grpo(streams, "cispo", None if mode is None else (mode, 3.0), epsilon_high=5.0)
    ours = CISPO(importance=importance)(streams)
    check(ours, theirs, streams.logprob_N, metrics, "cispo_clip_ratio", "entropy")
    assert ours.stats["cispo_clip_ratio"].total == 1


def test_rloo():
    streams = streams_of()
    logprob_N, entropy_N = streams.logprob_N, streams.entropy_N
    fake = stand_in(
        epsilon_low=0.2,
        epsilon_high=0.2,
        _get_per_token_logps_and_entropies=lambda *_, **__: (padded(logprob_N), padded(entropy_N), None),
    )
    inputs = {
        "prompt_ids": torch.zeros(4, 1, dtype=torch.long),
        "prompt_mask": torch.ones(4, 1),
        "completion_ids": torch.zeros(4, 4, dtype=torch.long),
        "completion_mask": MASK.long(),
        "advantages": ADVANTAGE_S,
        "old_logps": padded(streams.sampler_logprob_N).sum(1),
    }
    theirs = RLOOTrainer._compute_loss(fake, None, inputs)
    ours = RLOO()(streams)
    check(ours, theirs, logprob_N, fake._metrics["eval"], *CLIP)
    assert ours.stats["clip_ratio/region_mean"].value > 0


@pytest.mark.parametrize("unscored", [False, True])
@pytest.mark.parametrize("kl", [0.0, 0.05])
def test_rloo_advantages(kl, unscored):
    """TRL 1.16 rloo_trainer.py lines 1664-1699, inside a method too large to call."""
    rewards = torch.tensor([0.0, 1.0, torch.nan if unscored else 0.3, 0.5], dtype=torch.float64)
    old_N, reference_N = random_N(1), random_N(2)
    rollouts = Rollouts(SEQUENCE_N, (4,), rewards, torch.ones(4).bool(), old_N, reference_logprob_N=reference_N)
    per_token_kl = padded(old_N) - padded(reference_N)
    kl_S = (per_token_kl * MASK).sum(-1)
    penalised = rewards - kl * kl_S
    grouped_rewards = penalised.view(-1, 4)
    scorable_counts = (~torch.isnan(grouped_rewards)).sum(dim=1, keepdim=True)
    grouped_sum = torch.nansum(grouped_rewards, dim=1, keepdim=True)
    baselines = ((grouped_sum - grouped_rewards) / (scorable_counts - 1)).view(-1)
    theirs = torch.nan_to_num(penalised - baselines, nan=0.0)
    ours = RLOO(kl=kl).advantages(rollouts)["advantage_N"]
    assert torch.allclose(ours, theirs[SEQUENCE_N], atol=1e-12)


@pytest.mark.parametrize("unscored", [False, True])
@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_group_advantages(scale, unscored):
    """TRL 1.16 grpo_trainer.py lines 2761-2787 and 2810, inside a method too large to call."""
    rewards = torch.tensor([0.0, 1.0, 1.0, 0.0, 0.0, 0.5, 1.0, 1.0, 1.0], dtype=torch.float64)
    if unscored:
        rewards[[1, 5, 7, 8]] = torch.nan
    mean = torch.nanmean(rewards.view(-1, 3), dim=1).repeat_interleave(3, dim=0)
    if scale in ["group", "none"]:
        std = nanstd(rewards.view(-1, 3), dim=1).repeat_interleave(3, dim=0)
    else:
        std = nanstd(rewards).expand_as(rewards)
    theirs = rewards - mean
    if scale != "none":
        theirs = theirs / (std + 1e-4)
    theirs = torch.nan_to_num(theirs, nan=0.0)
    assert torch.allclose(group_advantages(rewards, [3, 3, 3], scale), theirs, atol=1e-12)
