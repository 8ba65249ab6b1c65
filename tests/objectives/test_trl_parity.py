"""TRL 1.16's own loss methods, called on the same numbers without a trainer, against ours: value, gradient, metrics.

TRL pads and puts all chosen before all rejected; ours packs and interleaves. The methods run on a stand-in `self`.
"""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.reward_trainer import RewardTrainer
from trl.trainer.sft_trainer import SFTTrainer

from trimpot.core.tensors import LossOut, Streams
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


def record_parity(loss: float, gradient: Tensor | float) -> None:
    """Replaced by conftest: a row of `make parity-objectives`."""


def check(ours: LossOut, leaf: Tensor, theirs: Tensor, their_leaf: Tensor, metrics: dict[str, list[float]]) -> None:
    assert ours.loss().item() == pytest.approx(theirs.item(), abs=1e-12)
    (our_gradient,) = torch.autograd.grad(ours.loss(), leaf)
    (their_gradient,) = torch.autograd.grad(theirs, their_leaf)
    assert our_gradient.abs().sum() > 0
    record_parity(abs(ours.loss().item() - theirs.item()), (our_gradient - their_gradient).abs().max())
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
