"""Checks by short runs: a few rows can be learned by heart, more weights learn more, a rate does not blow up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trimpot.core.samples import Sample
from trimpot.core.tensors import Batch, Wanted, pack_one
from trimpot.models.decoder import decoder_layers
from trimpot.models.policy import Policy
from trimpot.models.reward import RewardModel
from trimpot.preflight.check import Built, Check, Deadline, Found, NotApplicableError
from trimpot.preflight.guard import as_it_was
from trimpot.preflight.loss import row_losses
from trimpot.preflight.parts import alone, model_of, plan_of, shortest, spread
from trimpot.preflight.short_runs import refuse_sampled, short_rate, short_run
from trimpot.preflight.zeroed import row_nlls
from trimpot.training.streams import Trainee

OVERFIT, OVERFIT_STEPS, OVERFIT_ROWS = 0.01, 300, 4
CAPACITY_STEPS, CAPACITY_ROWS, CAPACITY_TOKENS = 40, 8, 512
RATE_STEPS = 20
EXPLODED, ROOM = 1.5, 0.1
"""The last losses may be this many times the first, and this much above it: batches differ."""
UNLIKELY = 1.0
"""Nats a token by which chosen answers may become less likely in those steps."""
LOG_STEPS, LOG_EVERY = 8, 2
ACCURACIES = ("rewards/accuracies", "accuracy")
"""What objectives on pairs call the share of pairs that they tell apart."""
NO_FLOOR = ("sft", "dpo", "ipo", "hinge", "bradley_terry", "simpo", "dpo_reference_free", "dpo_length_normalised",
            "process_reward")  # fmt: skip
"""Objectives whose loss on rows that are told apart goes to 0."""


def overfit(built: Built, deadline: Deadline) -> Found:
    """Trains on the four shortest rows alone until their loss is below 0.01, in at most 300 steps.

    The learning rate is one that a short run learns at, all else is the stage's own.
    Edge cases: an objective whose loss cannot go to 0 (label smoothing, a margin that is never enough) must tell all
    its pairs apart, with a loss below its first. Stages that sample: not applicable.
    Source: Karpathy, A Recipe for Training Neural Networks (2019): overfit one batch.
    """
    refuse_sampled(built)
    rate, samples = short_rate(built), shortest(built, OVERFIT_ROWS)
    reaches = reaches_zero(plan_of(built).objective)
    losses: list[float] = []
    accuracy: float | None = None
    for step in short_run(built, samples, OVERFIT_STEPS, rate, deadline):
        loss = step.metrics["loss"]
        losses.append(math.nan if loss is None else loss)
        accuracy = next((step.metrics[name] for name in ACCURACIES if step.metrics.get(name) is not None), None)
        apart = accuracy in (1.0, None) and losses[-1] < losses[0] / (2 if accuracy is None else 1)
        learned = losses[-1] < OVERFIT if reaches else apart
        if learned:
            return Found(True, losses[-1], f"{len(samples)} rows to {losses[-1]:.2g} in {step.number} steps")
    text = f"{len(samples)} rows from {losses[0]:.3g} to {losses[-1]:.3g} in {len(losses)} steps at {rate:g}"
    return Found(False, losses[-1], text)


def reaches_zero(objective: Any) -> bool:
    """Whether the loss of rows that are learned by heart goes to 0."""
    return objective.name in NO_FLOOR and not getattr(objective, "label_smoothing", 0.0)


@dataclass(frozen=True)
class FewerWeights:
    """A trainee of which only some parameters train."""

    trainee: Trainee
    names: frozenset[str]

    @property
    def device(self) -> torch.device:
        return self.trainee.device

    def trainable(self) -> dict[str, Tensor]:
        """Those of the trainee's parameters that are named."""
        return {name: value for name, value in self.trainee.trainable().items() if name in self.names}

    def streams(self, batch: Batch, wanted: Wanted) -> Mapping[str, Tensor]:
        """The trainee's."""
        return self.trainee.streams(batch, wanted)

    def models(self) -> Mapping[str, Policy | RewardModel]:
        """The trainee's."""
        return self.trainee.models()


def capacity(built: Built, deadline: Deadline) -> Found:
    """Trains all that the stage trains, and its last layer alone, on the same rows for 40 steps: all must end lower.

    Edge cases: where no more than one layer trains there is nothing to compare.
    Source: Karpathy, A Recipe for Training Neural Networks (2019): verify decreasing training loss.
    """
    refuse_sampled(built)
    assert built.trainee is not None
    rate, samples = short_rate(built), spread(built, CAPACITY_ROWS, CAPACITY_TOKENS)
    last = _last_layer(built, built.trainee)
    losses = []
    for trainee in (built.trainee, FewerWeights(built.trainee, last)):
        with as_it_was(built.trainee, weights=True):
            left = set(map(id, built.trainee.trainable().values())) - set(map(id, trainee.trainable().values()))
            for value in built.trainee.trainable().values():
                value.requires_grad_(id(value) not in left)
            for _ in short_run(built, samples, CAPACITY_STEPS, rate, deadline, trainee):
                pass
            losses.append(math.fsum(row_losses(built, samples)) / len(samples))
    whole, part = losses
    text = f"all weights end at {whole:.4g}, the last layer alone at {part:.4g}"
    return Found(whole < part, whole - part, text)


def _last_layer(built: Built, trainee: Trainee) -> frozenset[str]:
    trainable = trainee.trainable()
    layers = decoder_layers(model_of(built).model.base_model)
    owners = [{id(value) for value in layer.parameters()} for layer in layers]
    training = [own for own in owners if any(id(value) in own for value in trainable.values())]
    names = frozenset(name for name, value in trainable.items() if training and id(value) in training[-1])
    if len(training) < 2:
        raise NotApplicableError("no more than one layer trains")
    return names


def learning_rate(built: Built, deadline: Deadline) -> Found:
    """Trains for 20 steps at the stage's peak learning rate from the first step on: the loss must not explode.

    Equation: mean of the last 5 losses ≤ 1.5 L₁ + 0.1, with L₁ the first loss, and all of them finite. Where a policy
        learns from pairs also N ≤ N₁ + 1, with N the mean −log p of the chosen answers of 8 rows, in nats a token:
        a rate that is too high makes every answer unlikely while the loss of pairs may fall.
    Units: those of the loss.
    Source: ours.
    """
    refuse_sampled(built)
    plan = plan_of(built)
    samples = [sample for sample in built.samples if sample.targets][: RATE_STEPS * plan.loop.batch]
    looked = [alone(sample) for sample in spread(built, CAPACITY_ROWS, CAPACITY_TOKENS)]
    before = _answer_loss(built, looked)
    losses: list[float] = []
    for step in short_run(built, samples, RATE_STEPS, plan.optimizer.learning_rate, deadline, batch=plan.loop.batch):
        loss = step.metrics["loss"]
        losses.append(math.nan if loss is None else loss)
    last = math.fsum(losses[-5:]) / 5
    finite = all(map(math.isfinite, losses))
    text = f"{losses[0]:.3g} at first, {last:.3g} after {RATE_STEPS} steps at {plan.optimizer.learning_rate:g}"
    passed = finite and last <= EXPLODED * losses[0] + ROOM
    if before is not None:
        after = _answer_loss(built, looked) or math.nan
        text += f"; chosen answers from {before:.3g} to {after:.3g} nats a token"
        passed = passed and after <= before + UNLIKELY
    return Found(passed, last, text)


def _answer_loss(built: Built, samples: list[Sample]) -> float | None:
    """Mean −log p of answers in nats a token; None: the model is none of language, or the loss says the same."""
    assert built.trainee is not None
    if built.kind != "preference":
        return None
    losses = row_nlls(built.trainee, samples)
    return math.fsum(losses) / len(losses)


def fixed_batch(built: Built, deadline: Deadline) -> Found:
    """Logs what the model that the stage leaves behind predicts for the same rows, before a short run and as it goes.

    Without an update two looks must be equal bitwise; with updates the predictions must move: a model that is exported
    and evaluated must be the one that trains. The log is in the record.

    Source: Karpathy, A Recipe for Training Neural Networks (2019): visualize prediction dynamics.
    """
    refuse_sampled(built)
    rate, samples = short_rate(built), shortest(built)
    looks = [_look(built, samples), _look(built, samples)]
    if not torch.equal(looks[0][1], looks[1][1]):
        return Found(False, None, "the same rows twice, without an update, give other predictions")
    log = [{"step": 0, "predictions": looks[0][0]}]
    for step in short_run(built, samples, LOG_STEPS, rate, deadline):
        if step.number % LOG_EVERY == 0:
            words, values = _look(built, samples)
            looks.append((words, values))
            log.append({"step": step.number, "predictions": words})
    moved = float((looks[-1][1] - looks[0][1]).abs().mean())
    text = f"{len(log)} looks at {len(samples)} rows; predictions moved by {moved:.3g} in {LOG_STEPS} steps"
    return Found(math.isfinite(moved) and moved > 0, moved, text, {"log": log})


@torch.no_grad()
def _look(built: Built, samples: tuple[Sample, ...]) -> tuple[list[str], Tensor]:
    """The most likely token at each target (of a reward model: the reward of each answer) as text, and the numbers."""
    model = model_of(built)
    batch = pack_one(samples, str(model.device))
    if isinstance(model, RewardModel):
        steps = "reward_N" in plan_of(built).objective.needs
        values = (model.scores_of_steps(batch) if steps else model.rewards(batch)).cpu()
        return [f"{value:.4g}" for value in values.tolist()], values
    scores = model.scores(batch)
    decode = built.template.tokenizer.decode
    words = [
        f"{decode([token])!r} {value:.3f}{'' if right else ' (not the likeliest)'}"
        for token, value, right in zip(
            batch.target_ids_N.tolist(), scores.logprob_N.exp().tolist(), scores.correct_N.tolist(), strict=True
        )
    ]
    return words, scores.logprob_N.cpu()


CHECKS = (
    Check(
        "overfit",
        "Can four rows be learned by heart?",
        "loss below 0.01 in 300 steps",
        300,
        "Look at targets, loss sign and what trains: a model that cannot learn four rows will not learn more.",
        overfit,
        trains=True,
        thorough=True,
    ),
    Check(
        "capacity",
        "Do more weights learn more?",
        "lower loss than the last layer alone",
        240,
        "Look for layers that get no gradient or a wrong one, or a rate that is too high for them.",
        capacity,
        trains=True,
        thorough=True,
    ),
    Check(
        "learning_rate",
        "Does the loss stay in bounds at the peak learning rate?",
        "last 5 losses at most 1.5 times the first; chosen answers at most 1 nat less likely",
        240,
        "Lower learning_rate; a common start for this model size is ten to a hundred times less.",
        learning_rate,
        trains=True,
        thorough=True,
    ),
    Check(
        "fixed_batch",
        "Do logged predictions on fixed rows move with training, and only with it?",
        "equal, then moved",
        120,
        "Hold the model that is exported and evaluated to the one that trains; switch dropout off where it predicts.",
        fixed_batch,
        trains=True,
        thorough=True,
    ),
)
