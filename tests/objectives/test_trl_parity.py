"""TRL 1.16's own loss methods, called on the same numbers without a trainer, against ours: value, gradient, metrics.

TRL pads and puts all chosen before all rejected; ours packs and interleaves. The methods run on a stand-in `self`.
"""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.reward_trainer import RewardTrainer
from trl.trainer.sft_trainer import SFTTrainer
from trl.trainer.utils import nanstd

from trimpot.core.tensors import LossOut, Streams
from trimpot.objectives.policy_gradient.advantages import group_advantages
from trimpot.objectives.policy_gradient.grpo import GRPO
from trimpot.objectives.preference.dpo import DPO
from trimpot.objectives.reward.bradley_terry import BradleyTerry
from trimpot.objectives.supervised.sft import SupervisedFineTuning

LENGTHS = [2, 4, 1, 3]
SEQUENCE_N = torch.repeat_interleave(torch.arange(4), torch.tensor(LENGTHS))
MASK = torch.arange(4) < torch.tensor(LENGTHS)[:, None]
CHOSEN_FIRST = [0, 2, 1, 3]


def random_N(seed: int) -> Tensor:
    return -torch.rand(10, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 3


def padded(values_N: Tensor) -> Tensor:
    """[N] -> [S, longest], zeros on the right; differentiable."""
    return values_N.new_zeros(4, 4).masked_scatter(MASK, values_N)


def gather(value: Tensor) -> Tensor:
    return value


def stand_in(**given: object) -> SimpleNamespace:
    accelerator = SimpleNamespace(
        device="cpu",
        num_processes=1,
        gather=gather,
        gather_for_metrics=gather,
        reduce=lambda value, reduction: value,
        parallelism_config=None,
    )
    return SimpleNamespace(
        model=SimpleNamespace(training=False),
        accelerator=accelerator,
        aux_loss_enabled=False,
        _metrics={"eval": defaultdict(list)},
        _total_train_tokens=0,
        **given,
    )


def check(ours: LossOut, leaf: Tensor, theirs: Tensor, their_leaf: Tensor, metrics: dict[str, list[float]]) -> None:
    assert ours.loss().item() == pytest.approx(theirs.item(), abs=1e-12)
    (our_gradient,) = torch.autograd.grad(ours.loss(), leaf)
    (their_gradient,) = torch.autograd.grad(theirs, their_leaf)
    assert our_gradient.abs().sum() > 0
    assert torch.allclose(our_gradient, their_gradient, atol=1e-12)
    shared = set(metrics) & set(ours.stats)
    assert shared
    for name in shared:
        assert metrics[name] == [pytest.approx(ours.stats[name].value, abs=1e-6)], name


def test_sft():
    logprob_N, entropy_N = random_N(0).requires_grad_(), -random_N(1)
    correct_N = entropy_N > 1.5
    fake = stand_in(
        compute_loss_func=None,
        label_smoother=None,
        args=SimpleNamespace(loss_type="nll", average_tokens_across_devices=False),
    )

    def model(**_: object) -> SimpleNamespace:
        return SimpleNamespace(
            log_probs=padded(logprob_N), entropy=padded(entropy_N), is_top1=padded(correct_N.double()), label_mask=MASK
        )

    theirs = SFTTrainer.compute_loss(fake, model, {})
    ours = SupervisedFineTuning()(Streams(SEQUENCE_N, 4, logprob_N, entropy_N=entropy_N, correct_N=correct_N))
    check(ours, logprob_N, theirs, logprob_N, fake._metrics["eval"])


@pytest.mark.parametrize("coefficient", [None, 0.01])
@pytest.mark.parametrize("with_margin", [False, True])
def test_reward_model(coefficient, with_margin):
    reward_S = random_N(2)[:4].requires_grad_()
    margin_P = torch.tensor([0.5, 1.5], dtype=torch.float64)
    fake = stand_in(args=SimpleNamespace(center_rewards_coefficient=coefficient))
    inputs = {"margin": margin_P} if with_margin else {}

    def model(**_: object) -> SimpleNamespace:
        return SimpleNamespace(logits=reward_S[CHOSEN_FIRST].unsqueeze(-1))

    theirs = RewardTrainer.compute_loss(fake, model, inputs)
    margin_S = margin_P.repeat_interleave(2) if with_margin else None
    ours = BradleyTerry(coefficient or 0.0)(Streams(SEQUENCE_N, 4, reward_S=reward_S, margin_S=margin_S))
    check(ours, reward_S, theirs, reward_S, fake._metrics["eval"])
    assert {"accuracy", "margin", "mean_reward"} <= set(ours.stats) & set(fake._metrics["eval"])


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_dpo(beta):
    logprob_N, reference_N, entropy_N = random_N(3).requires_grad_(), random_N(4), -random_N(5)

    def outputs(values_N: Tensor) -> SimpleNamespace:
        first = [padded(values)[CHOSEN_FIRST] for values in (values_N, entropy_N)]
        nothing = torch.zeros(4, 4)
        return SimpleNamespace(log_probs=first[0], entropy=first[1], mean_logits=nothing, is_top1=nothing.bool())

    fake = stand_in(
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=["sigmoid"],
        loss_weights=[1.0],
        use_weighting=False,
        beta=beta,
    )
    reference_S = padded(reference_N).sum(1)
    # TRL shifts by one: the completion starts after one prompt token.
    completion_mask = torch.cat([torch.zeros(4, 1), MASK.float()], dim=1)[CHOSEN_FIRST]
    inputs = {
        "input_ids": torch.zeros(4, 5, dtype=torch.long),
        "attention_mask": torch.ones(4, 5),
        "completion_mask": completion_mask,
        "ref_chosen_logps": reference_S[0::2],
        "ref_rejected_logps": reference_S[1::2],
    }
    theirs = DPOTrainer._compute_loss(fake, lambda **_: outputs(logprob_N), inputs, False)
    ours = DPO(beta)(Streams(SEQUENCE_N, 4, logprob_N, reference_N, entropy_N=entropy_N))
    check(ours, logprob_N, theirs, logprob_N, fake._metrics["eval"])
    assert {name for name in ours.stats if name.startswith(("rewards/", "logps/"))} <= set(fake._metrics["eval"])


@pytest.mark.parametrize("kl", [0.0, 0.04])
@pytest.mark.parametrize(
    ("normalisation", "loss_type"), [("sequence", "grpo"), ("token", "dapo"), ("fixed", "dr_grpo")]
)
def test_grpo(normalisation, loss_type, kl):
    logprob_N, reference_N, entropy_N = random_N(6).requires_grad_(), random_N(8), -random_N(9)
    # Clipped: 0 and 6 above at A > 0, 2 and 9 below at A < 0; the others are inside or clipped without effect.
    log_ratio_N = torch.tensor([0.5, -0.5, -0.5, 0.1, 0.4, -0.1, 0.3, 0.5, 0.2, -0.3], dtype=torch.float64)
    sampler_N = logprob_N.detach() - log_ratio_N
    advantage_S = torch.tensor([1.0, -1.0, 0.5, -0.2], dtype=torch.float64)
    fake = stand_in(
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        beta=kl,
        loss_type=loss_type,
        epsilon_low=0.2,
        epsilon_high=0.28,
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False),
        use_vllm=False,
        max_completion_length=16,
        _entropy_bonus_enabled=False,
        _get_per_token_logps_and_entropies=lambda *_, **__: (padded(logprob_N), padded(entropy_N), None),
    )
    inputs = {
        "prompt_ids": torch.zeros(4, 1, dtype=torch.long),
        "prompt_mask": torch.ones(4, 1),
        "completion_ids": torch.zeros(4, 4, dtype=torch.long),
        "completion_mask": MASK.long(),
        "advantages": advantage_S,
        "old_per_token_logps": padded(sampler_N),
        "ref_per_token_logps": padded(reference_N),
        "num_items_in_batch": MASK.sum(),
    }
    theirs = GRPOTrainer._compute_loss(fake, None, inputs)
    objective = GRPO(clip_high=0.28, kl=kl, normalisation=normalisation, completion_limit=16)
    streams = Streams(SEQUENCE_N, 4, logprob_N, reference_N, sampler_N, advantage_S=advantage_S, entropy_N=entropy_N)
    ours = objective(streams)
    check(ours, logprob_N, theirs, logprob_N, fake._metrics["eval"])
    assert [ours.stats[f"clip_ratio/{side}_mean"].total for side in ("low", "high", "region")] == [2, 2, 4]
    assert {"clip_ratio/low_mean", "clip_ratio/high_mean", "entropy"} <= set(fake._metrics["eval"])
    assert ("kl" in ours.stats) == ("kl" in fake._metrics["eval"]) == (kl > 0)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages(scale):
    """TRL 1.16 grpo_trainer.py lines 2764-2787, inside a method too large to call."""
    rewards = torch.tensor([0.0, 1.0, 1.0, 0.0, 0.0, 0.5, 1.0, 1.0, 1.0], dtype=torch.float64)
    mean = torch.nanmean(rewards.view(-1, 3), dim=1).repeat_interleave(3, dim=0)
    if scale in ["group", "none"]:
        std = nanstd(rewards.view(-1, 3), dim=1).repeat_interleave(3, dim=0)
    else:
        std = nanstd(rewards).expand_as(rewards)
    theirs = rewards - mean
    if scale != "none":
        theirs = theirs / (std + 1e-4)
    assert torch.allclose(group_advantages(rewards, [3, 3, 3], scale), theirs, atol=1e-12)
