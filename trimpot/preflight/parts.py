"""The parts of what is built that checks read: a few samples, the model, one gradient.

Shape suffixes: T packed tokens, H hidden, S sequences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from trimpot.core.samples import Branch, Draw, Sample
from trimpot.core.tensors import Batch, Carries, Streams, UsesStepStatistics, Wanted
from trimpot.models.attention import plan_for
from trimpot.models.policy import Policy, sliding_window
from trimpot.models.reward import RewardModel
from trimpot.preflight.check import Built, NotApplicableError
from trimpot.training import loop
from trimpot.training.streams import Trainee, compute_streams

FEW = 3
"""Samples that one pass of a cheap check reads."""
NO_TARGETS = "the stage samples what it trains on; --thorough draws a step of it"


def model_of(built: Built) -> Policy | RewardModel:
    """The model that the stage trains and leaves behind."""
    assert built.trainee is not None
    return built.trainee.models()["model"]


def policy_of(built: Built) -> Policy:
    """The same where it is a language model.

    Raises:
        NotApplicableError: it is a reward model.
    """
    model = model_of(built)
    if not isinstance(model, Policy):
        raise NotApplicableError("a reward model gives no log-probs")
    return model


def plan_of(built: Built) -> loop.Plan:
    """The stage's plan; checks that read it are made of stages whose model is there."""
    assert built.plan is not None
    return built.plan


def refuse_low_precision(built: Built) -> None:
    """Raises NotApplicableError where weights are coarser than float32: the rule is about rounding in float32."""
    dtype = model_of(built).model.dtype
    if dtype not in (torch.float32, torch.float64):
        raise NotApplicableError(f"the rule is for float32, and the weights are {str(dtype).removeprefix('torch.')}")


def shortest(built: Built, count: int = FEW) -> tuple[Sample, ...]:
    """The ``count`` shortest distinct samples that have targets, in their order; of a drawing stage those of a draw.

    Raises:
        NotApplicableError: the stage samples its rows and no draw was made.
    """
    found = _distinct(_trained_on(built))
    chosen = sorted(range(len(found)), key=lambda place: found[place].tokens)[:count]
    return tuple(found[place] for place in sorted(chosen))


def spread(built: Built, count: int, tokens: int) -> tuple[Sample, ...]:
    """Up to ``count`` distinct samples from all over the data, together at most ``tokens`` (but one at least)."""
    found = _distinct(_trained_on(built))
    step = max(1, len(found) // count)
    chosen: list[Sample] = []
    for sample in found[::step][:count]:
        if not chosen or sum(one.tokens for one in chosen) + sample.tokens <= tokens:
            chosen.append(sample)
    return tuple(chosen)


def readable(built: Built, count: int = FEW) -> tuple[Sample, ...]:
    """The shortest distinct samples that a model can read, with or without targets: prompts too."""
    found = _distinct([one for one in built.samples if one.tokens > len(_lead(built)) + 1])
    return tuple(sorted(found, key=lambda one: one.tokens)[:count])


def _lead(built: Built) -> tuple[int, ...]:
    return built.template.lead


def _trained_on(built: Built) -> Sequence[Sample]:
    if built.sampling is None:
        return [sample for sample in built.samples if sample.targets]
    if built.drawn is None:
        raise NotApplicableError(NO_TARGETS)
    if "draw" not in built.memo:
        built.memo["draw"] = built.drawn()
    draw: Draw = built.memo["draw"]
    live = [sample for place, sample in enumerate(draw.samples) if place not in draw.idle and sample.targets]
    if not live:
        raise NotApplicableError("no completion of the draw can move the loss: all rewards of a prompt are equal")
    return live


def _distinct(samples: Sequence[Sample]) -> list[Sample]:
    """Each text once: rows that are there twice are another check's matter."""
    found: dict[Any, Sample] = {}
    for sample in samples:
        key = (sample.prefix, tuple((branch.ids, branch.supervised) for branch in sample.branches))
        found.setdefault(key, sample)
    return list(found.values())


def alone(sample: Sample, branch: int = 0) -> Sample:
    """A sample with one of its branches."""
    return replace(sample, branches=sample.branches[branch : branch + 1])


def flat(sample: Sample, branch: int = 0) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """The ids of a prefix and one branch, and which of them are targets."""
    one = sample.branches[branch] if sample.branches else Branch((), ())
    return sample.prefix + one.ids, (False,) * len(sample.prefix) + one.supervised


def hidden_states(model: Policy | RewardModel, batch: Batch) -> Tensor:
    """The trunk's last hidden states of a packed batch, [T, H]."""
    plan = plan_for(batch, sliding_window(model.model.config))
    if isinstance(model, Policy):
        return model.hidden(batch.ids_T, batch.positions_T, plan)
    return model.trunk.hidden(model.model, {"input_ids": batch.ids_T[None]}, batch.positions_T, plan)


def wanted(built: Built) -> Wanted:
    """What the loop would ask of the first step's passes."""
    plan = plan_of(built)
    return Wanted(plan.objective.needs, plan.temperature, 1)


def carried(built: Built) -> Mapping[str, float]:
    """The numbers that the first step sees."""
    objective = plan_of(built).objective
    return dict(objective.initial()) if isinstance(objective, Carries) else {}


def streams_of(built: Built, batch: Batch) -> Streams:
    """What the objective reads of a batch, the numbers of a step that is this batch included."""
    plan, trainee = plan_of(built), built.trainee
    assert trainee is not None
    numbers = dict(carried(built))
    streams = compute_streams(trainee, batch, wanted(built), plan.reference, numbers)
    if isinstance(plan.objective, UsesStepStatistics):
        counted = plan.objective.step_statistics(streams)
        numbers.update({name: one.value for name, one in counted.items() if one.value is not None})
    return replace(streams, step=numbers)


@dataclass(frozen=True)
class Gradient:
    """The loss of a step and its gradient, by parameter; None: no pass reached it."""

    loss: float | None
    by_name: Mapping[str, Tensor | None]

    def norm(self) -> float:
        """The 2-norm over all parameters."""
        found = [value for value in self.by_name.values() if value is not None]
        return float(torch.stack([value.double().square().sum() for value in found]).sum().sqrt()) if found else 0.0

    def distance(self, other: Gradient) -> float:
        """‖g − h‖ / ‖g‖ with g this gradient: 0 where they are equal, 1 and more where they have nothing in common."""
        squares = 0.0
        for name, value in self.by_name.items():
            theirs = other.by_name[name]
            if value is None or theirs is None:
                one = value if theirs is None else theirs
                squares += 0.0 if one is None else float(one.double().square().sum())
            else:
                squares += float((value - theirs).double().square().sum())
        norm = self.norm()
        return squares**0.5 / norm if norm else float(squares > 0)


def gradient(built: Built, samples: Sequence[Sample], micro_batch_tokens: int) -> Gradient:
    """One step's gradient as the loop makes it, before clipping; the parameters' own gradients are empty afterwards."""
    trainee, plan = built.trainee, plan_of(built)
    assert trainee is not None
    plan = replace(plan, loop=replace(plan.loop, micro_batch_tokens=micro_batch_tokens, probes=()))
    parameters = trainee.trainable()
    clear(trainee)
    _, losses = loop.accumulate(trainee, Draw(tuple(samples)), plan, 1, carried(built))
    found = Gradient(losses["loss"], {name: value.grad for name, value in parameters.items()})
    clear(trainee)
    return found


def whole_gradient(built: Built) -> tuple[tuple[Sample, ...], Gradient]:
    """The gradient of the shortest samples in one pass; kept, as several checks read it."""
    if "gradient" not in built.memo:
        samples = shortest(built)
        built.memo["gradient"] = samples, gradient(built, samples, tokens_of(samples))
    found: tuple[tuple[Sample, ...], Gradient] = built.memo["gradient"]
    return found


def clear(trainee: Trainee) -> None:
    """Takes all gradients away."""
    for model in trainee.models().values():
        model.model.zero_grad(set_to_none=True)
    for value in trainee.trainable().values():
        value.grad = None


def tokens_of(samples: Sequence[Sample]) -> int:
    return sum(sample.tokens for sample in samples)


def percent(share: float) -> str:
    return f"{100 * share:.3g}%"
