"""TRL 1.16's own preference losses, called on the same numbers without a trainer: value, gradient, metrics.

TRL pads and puts all chosen before all rejected; ours packs and interleaves. The methods run on a stand-in `self`.
"""

import functools
from collections import defaultdict
from collections.abc import Mapping
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from trl.experimental.cpo.cpo_trainer import CPOTrainer
from trl.experimental.orpo.orpo_trainer import ORPOTrainer
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_trainer import KTOTrainer

from trimpot.core.tensors import LossOut, Objective, Streams
from trimpot.objectives.preference.beta_dpo import MEAN_MARGIN, RUNNING_MARGIN, BetaDPO
from trimpot.objectives.preference.cdpo import ConservativeDPO
from trimpot.objectives.preference.cpo import CPO
from trimpot.objectives.preference.dpo import DPO
from trimpot.objectives.preference.dpo_length_normalised import LengthNormalisedDPO
from trimpot.objectives.preference.dpo_reference_free import ReferenceFreeDPO
from trimpot.objectives.preference.dpo_sft import DPOWithSFT
from trimpot.objectives.preference.hinge import HingeDPO
from trimpot.objectives.preference.ipo import IPO
from trimpot.objectives.preference.kto import KL, KTO
from trimpot.objectives.preference.orpo import ORPO
from trimpot.objectives.preference.robust_dpo import RobustDPO
from trimpot.objectives.preference.simpo import SimPO

LENGTHS = torch.tensor([2, 4, 1, 3])
SEQUENCE_N = torch.repeat_interleave(torch.arange(4), LENGTHS)
MASK = torch.arange(4) < LENGTHS[:, None]
CHOSEN_FIRST = [0, 2, 1, 3]
VOCABULARY = 6
REWARD_METRICS = {f"rewards/{name}" for name in ("chosen", "rejected", "margins", "accuracies")}


def random_N(seed: int, size: int = 10) -> Tensor:
    return -torch.rand(size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 3


def padded(values_N: Tensor, mask: Tensor = MASK) -> Tensor:
    """[N] -> [S, longest], zeros on the right; differentiable."""
    return values_N.new_zeros(mask.shape).masked_scatter(mask, values_N)


def gather(value: Tensor) -> Tensor:
    return value


def stand_in(**given: object) -> SimpleNamespace:
    accelerator = SimpleNamespace(device="cpu", gather=gather, gather_for_metrics=gather)
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


def assert_same(
    ours: LossOut, theirs: Tensor, leaf: Tensor, metrics: Mapping[str, float], tolerance: float = 1e-12
) -> None:
    """Value, gradient in ``leaf`` and the metrics that both report."""
    assert ours.loss().item() == pytest.approx(theirs.item(), abs=tolerance)
    (our_gradient,) = torch.autograd.grad(ours.loss(), leaf, retain_graph=True)
    (their_gradient,) = torch.autograd.grad(theirs, leaf, retain_graph=True)
    assert our_gradient.abs().sum() > 0
    record_parity(abs(ours.loss().item() - theirs.item()), (our_gradient - their_gradient).abs().max())
    assert torch.allclose(our_gradient, their_gradient, atol=tolerance)
    shared = set(metrics) & set(ours.stats)
    assert shared >= {"rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected"}
    for name in shared:
        assert ours.stats[name].value == pytest.approx(metrics[name], abs=1e-6), name


# With a reference: DPOTrainer._compute_loss


def trl_dpo(
    logprob_N: Tensor, reference_N: Tensor, entropy_N: Tensor, mask: Tensor = MASK, **given: object
) -> tuple[Tensor, Mapping[str, float]]:
    """Loss and metrics of TRL's DPO on a batch of pairs."""
    defaults = {"loss_types": ["sigmoid"], "loss_weights": [1.0], "label_smoothing": 0.0, "beta": 0.1}
    fake = stand_in(
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        use_weighting=False,
        **{**defaults, **given},
    )
    rows = [*range(0, len(mask), 2), *range(1, len(mask), 2)]
    log_probs, entropy = (padded(values, mask)[rows] for values in (logprob_N, entropy_N))
    nothing = torch.zeros(mask.shape)
    outputs = SimpleNamespace(log_probs=log_probs, entropy=entropy, mean_logits=nothing, is_top1=nothing.bool())
    reference_S = padded(reference_N, mask).sum(1)
    # TRL shifts by one: the completion starts after one prompt token.
    completion_mask = torch.cat([torch.zeros(len(mask), 1), mask.float()], dim=1)[rows]
    inputs = {
        "input_ids": torch.zeros(completion_mask.shape, dtype=torch.long),
        "attention_mask": torch.ones(completion_mask.shape),
        "completion_mask": completion_mask,
        "ref_chosen_logps": reference_S[0::2],
        "ref_rejected_logps": reference_S[1::2],
    }
    loss = DPOTrainer._compute_loss(fake, lambda **_: outputs, inputs, False)
    return loss, {name: values[0] for name, values in fake._metrics["eval"].items()}


def both(objective: Objective, step: Mapping[str, float] | None = None, **given: object) -> None:
    logprob_N, reference_N, entropy_N = random_N(3).requires_grad_(), random_N(4), -random_N(5)
    theirs, metrics = trl_dpo(logprob_N, reference_N, entropy_N, **given)
    ours = objective(Streams(SEQUENCE_N, 4, logprob_N, reference_N, entropy_N=entropy_N, step=step or {}))
    assert_same(ours, theirs, logprob_N, metrics)
    assert set(metrics) & set(ours.stats) >= REWARD_METRICS | {"entropy"}


@pytest.mark.parametrize("beta", [0.1, 0.5])
@pytest.mark.parametrize(
    ("kind", "loss_type"),
    [
        (DPO, "sigmoid"),
        (HingeDPO, "hinge"),
        (functools.partial(IPO, normalisation="mean"), "ipo"),
        (LengthNormalisedDPO, "sigmoid_norm"),
    ],
    ids=["dpo", "hinge", "ipo-mean", "dpo_length_normalised"],
)
def test_one_beta(kind, loss_type, beta):
    both(kind(beta), beta=beta, loss_types=[loss_type])


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.4])
def test_robust(label_smoothing):
    both(RobustDPO(0.5, label_smoothing), beta=0.5, loss_types=["robust"], label_smoothing=label_smoothing)


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_dpo_with_sft(weight):
    objective = DPOWithSFT(0.5, weight, "token")
    both(objective, beta=0.5, loss_types=["sigmoid", "sft"], loss_weights=[1.0, weight])


def test_ipo_by_the_equation_of_the_paper():
    """TRL's DPOTrainer divides by the length; its CPOTrainer.cpo_loss has the equation on whatever it is given."""
    logprob_N, reference_N = random_N(3).requires_grad_(), random_N(4)
    ours = IPO(0.5)(Streams(SEQUENCE_N, 4, logprob_N, reference_N))
    logratio_S = padded(logprob_N - reference_N).sum(1)
    fake = stand_in(beta=0.5, alpha=0.0, loss_type="ipo", label_smoothing=0.0)
    losses, _, _ = CPOTrainer.cpo_loss(fake, logratio_S[0::2], logratio_S[1::2])
    assert ours.loss().item() == pytest.approx(losses.mean().item(), abs=1e-12)
    gradients = [torch.autograd.grad(loss, logprob_N, retain_graph=True)[0] for loss in (ours.loss(), losses.mean())]
    assert torch.allclose(*gradients, atol=1e-12)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.4])
def test_conservative(label_smoothing):
    """TRL's "aot_unpaired" sorts over the batch; on a batch of one pair it is cDPO."""
    logprob_N, reference_N, entropy_N = random_N(3).requires_grad_(), random_N(4), -random_N(5)
    given = {"loss_types": ["aot_unpaired"], "label_smoothing": label_smoothing, "beta": 0.5}
    for first in (0, 2):
        tokens = SEQUENCE_N.div(2, rounding_mode="floor").eq(first // 2)
        parts = [values[tokens] for values in (logprob_N, reference_N, entropy_N)]
        theirs, metrics = trl_dpo(*parts, mask=MASK[first : first + 2], **given)
        ours = ConservativeDPO(0.5, label_smoothing)(Streams(SEQUENCE_N[tokens] - first, 2, parts[0], parts[1]))
        assert_same(ours, theirs, logprob_N, metrics)


def test_beta_dpo_is_trls_dpo_at_the_beta_of_the_step():
    """TRL 1.16 has no β-DPO. Its rewards would be β_t times the log ratios, ours are β0 times."""
    logprob_N, reference_N, entropy_N = random_N(3).requires_grad_(), random_N(4), -random_N(5)
    step = {MEAN_MARGIN: 0.9, RUNNING_MARGIN: 0.4}
    ours = BetaDPO(0.5)(Streams(SEQUENCE_N, 4, logprob_N, reference_N, entropy_N=entropy_N, step=step))
    beta = 0.5 * (1 + 0.6 * (0.9 - 0.4))
    theirs, metrics = trl_dpo(logprob_N, reference_N, entropy_N, beta=beta)
    rewards = REWARD_METRICS - {"rewards/accuracies"}
    assert_same(ours, theirs, logprob_N, {n: v * 0.5 / beta if n in rewards else v for n, v in metrics.items()})


# Without a reference: get_batch_loss_metrics of CPOTrainer and ORPOTrainer, from logits


IDS = torch.randint(VOCABULARY, (4, 5), generator=torch.Generator().manual_seed(0))


def trl_reference_free(trainer: type, logits: Tensor, **given: object) -> tuple[Tensor, Mapping[str, float]]:
    """Loss and metrics on four sequences of one prompt token and their answer; ``logits`` [4, 5, V]."""
    fake = stand_in(is_encoder_decoder=False, padding_value=0, pad_token_id=0, **given)
    for name in ("concatenated_forward", "cpo_loss", "odds_ratio_loss"):
        if hasattr(trainer, name):
            setattr(fake, name, functools.partial(getattr(trainer, name), fake))
    fake.concatenated_inputs, fake.get_batch_logps = trainer.concatenated_inputs, trainer.get_batch_logps
    attended = torch.cat([torch.ones(4, 1), MASK], dim=1).long()
    answer = torch.cat([torch.zeros(4, 1), MASK], dim=1).bool()
    labels = IDS.masked_fill(~answer, -100)
    batch = {}
    for side, rows in (("chosen", [0, 2]), ("rejected", [1, 3])):
        batch[f"{side}_input_ids"], batch[f"{side}_attention_mask"] = IDS[rows], attended[rows]
        batch[f"{side}_labels"] = labels[rows]

    def model(*_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(logits=logits[CHOSEN_FIRST])

    return trainer.get_batch_loss_metrics(fake, model, batch)


def from_logits(logits: Tensor) -> Streams:
    log_probs = torch.log_softmax(logits[:, :-1], dim=-1).gather(2, IDS[:, 1:, None]).squeeze(2)
    return Streams(SEQUENCE_N, 4, log_probs[MASK])


@pytest.fixture
def logits() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return (3 * torch.randn(4, 5, VOCABULARY, dtype=torch.float64, generator=generator)).requires_grad_()


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_cpo(logits, weight):
    given = {"beta": 0.3, "alpha": 0.0, "cpo_alpha": weight, "loss_type": "sigmoid", "label_smoothing": 0.0}
    theirs, metrics = trl_reference_free(CPOTrainer, logits, **given)
    ours = CPO(0.3, weight, "token")(from_logits(logits))
    assert_same(ours, theirs, logits, metrics)
    assert set(metrics) & set(ours.stats) >= REWARD_METRICS | {"nll_loss"}


def test_reference_free_dpo(logits):
    given = {"beta": 0.3, "alpha": 0.0, "cpo_alpha": 0.0, "loss_type": "sigmoid", "label_smoothing": 0.0}
    theirs, metrics = trl_reference_free(CPOTrainer, logits, **given)
    ours = ReferenceFreeDPO(0.3)(from_logits(logits))
    assert_same(ours, theirs, logits, metrics)
    assert set(metrics) & set(ours.stats) >= REWARD_METRICS


@pytest.mark.parametrize(("beta", "gamma"), [(0.1, 0.5), (2.0, 1.0)])
def test_simpo(logits, beta, gamma):
    given = {"beta": beta, "simpo_gamma": gamma, "alpha": 0.0, "cpo_alpha": 0.0}
    theirs, metrics = trl_reference_free(CPOTrainer, logits, loss_type="simpo", label_smoothing=0.0, **given)
    ours = SimPO(beta, gamma)(from_logits(logits))
    assert_same(ours, theirs, logits, metrics)
    assert set(metrics) & set(ours.stats) >= REWARD_METRICS


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_orpo(logits, beta):
    """TRL computes the odds in float32. With one prompt token its NLL, which takes in the prompt, is the answer's."""
    theirs, metrics = trl_reference_free(ORPOTrainer, logits, beta=beta)
    ours = ORPO(beta, "token")(from_logits(logits))
    assert_same(ours, theirs, logits, metrics, tolerance=1e-6)
    shared = set(metrics) & set(ours.stats)
    assert shared >= REWARD_METRICS | {"nll_loss", "log_odds_ratio", "log_odds_chosen"}


# Without pairs: KTOTrainer._compute_loss


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.33, 0.7)])
@pytest.mark.parametrize("mismatched_shift", [0.5, -5.0, None])
def test_kto(weights, mismatched_shift):
    """The mean log ratio of the mismatched answers is above 0, below 0 (counts as 0), or not computed."""
    with_kl = mismatched_shift is not None
    sequence_N = torch.cat([SEQUENCE_N, SEQUENCE_N + 4]) if with_kl else SEQUENCE_N
    size = len(sequence_N)
    logprob_N, reference_N, entropy_N = random_N(6, size).requires_grad_(), random_N(7, size), -random_N(8, size)
    if with_kl:
        reference_N[10:] = logprob_N.detach()[10:] - mismatched_shift
    label = torch.tensor([True, False, False, True])
    kind_S = torch.cat([label.double(), torch.full((4,), -1.0)]) if with_kl else label.double()
    streams = Streams(sequence_N, len(kind_S), logprob_N, reference_N, kind_S=kind_S, entropy_N=entropy_N)
    objective = KTO(0.5, *weights)
    step = {name: one.value for name, one in objective.step_statistics(streams).items() if one.value is not None}
    ours = objective(
        Streams(sequence_N, len(kind_S), logprob_N, reference_N, kind_S=kind_S, entropy_N=entropy_N, step=step)
    )

    fake = stand_in(
        calculate_KL=with_kl,
        precompute_ref_logps=True,
        loss_type="kto",
        beta=0.5,
        desirable_weight=weights[0],
        undesirable_weight=weights[1],
    )
    fake._compute_kl_logps = functools.partial(KTOTrainer._compute_kl_logps, fake)
    completion_mask = torch.cat([torch.zeros(4, 1), MASK], dim=1).long()
    ids = torch.zeros(4, 5, dtype=torch.long)
    inputs = {"input_ids": ids, "attention_mask": ids + 1, "completion_mask": completion_mask, "label": label}
    inputs["ref_logps"] = padded(reference_N[:10]).sum(1)
    if with_kl:
        inputs |= {"KL_input_ids": ids + 1, "KL_attention_mask": ids + 1, "KL_completion_mask": completion_mask}
        inputs["ref_KL_logps"] = padded(reference_N[10:]).sum(1)

    def model(*, input_ids: Tensor, **_: object) -> SimpleNamespace:
        part = slice(10, 20) if input_ids.any() else slice(0, 10)
        return SimpleNamespace(
            log_probs=padded(logprob_N[part]), entropy=padded(entropy_N[part]), mean_logits=torch.zeros(4, 4)
        )

    theirs = KTOTrainer._compute_loss(fake, model, inputs, False)
    metrics = {name: values[0] for name, values in fake._metrics["eval"].items()}
    if not with_kl:
        assert metrics.pop("kl") == 0.0  # TRL reports a baseline that it did not compute; ours is None
        assert ours.stats["kl"].value is None
    else:
        assert (step[KL] > 0) == (mismatched_shift > 0)
    assert_same(ours, theirs, logprob_N, metrics)
    assert "entropy" in set(metrics) & set(ours.stats)
