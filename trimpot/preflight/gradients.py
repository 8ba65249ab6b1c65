"""Checks of a step's gradient: it repeats, adds up over micro-batches, and reaches what trains and nothing else."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor

from trimpot.preflight.check import Built, Check, Deadline, Found, NotApplicableError
from trimpot.preflight.guard import as_it_was
from trimpot.preflight.parts import (
    Gradient,
    gradient,
    model_of,
    plan_of,
    refuse_low_precision,
    tokens_of,
    whole_gradient,
)
from trimpot.training import loop
from trimpot.training.rows import DatasetSource, ProbedSource

RELATIVE = 1e-5
NAMED = 3
"""Parameters that a text names."""


def same_seed(built: Built, deadline: Deadline) -> Found:
    """One step twice from the same seed, while the global random states differ: draw, loss and gradient bitwise equal.

    All randomness must come from streams that the seed names; what reads a global state (dropout, an unnamed shuffle)
    gives another step here.
    Edge cases: a stage that samples its rows draws a step of it anew only where that is free: its draw is not compared.
    Source: Karpathy, A Recipe for Training Neural Networks (2019): fix random seed.
    """
    source = plan_of(built).source
    if isinstance(source, DatasetSource | ProbedSource):
        ids = []
        for state in (1, 2):
            _set_global_states(state)
            ids.append([sample.row_id for sample in source.draw(1, {}).samples])
        if ids[0] != ids[1]:
            return Found(False, None, "two draws of step 1 hold different rows")
    built.memo.pop("gradient", None)
    _set_global_states(1)
    samples, first = whole_gradient(built)
    _set_global_states(2)
    second = gradient(built, samples, tokens_of(samples))
    differing = [name for name, value in first.by_name.items() if not _equal(value, second.by_name[name])]
    if first.loss != second.loss or differing:
        far = first.distance(second)
        text = f"losses {first.loss!r} and {second.loss!r}; {len(differing)} gradients differ, by {far:.1e} in all"
        return Found(False, far, text)
    return Found(True, 0.0, f"loss {first.loss!r} and all {len(first.by_name)} gradients twice")


def accumulation(built: Built, deadline: Deadline) -> Found:
    """The gradient of k rows in one pass against that of k passes of one row each.

    Equation: ‖g − h‖ / ‖g‖ ≤ 10⁻⁵ over all parameters, and |L − L'| ≤ 10⁻⁵ max(1, |L|); g is the whole batch's
        gradient, h the sum over micro-batches. A mean of means instead of a sum over one count fails where rows differ
        in targets.
    Edge cases: weights below float32, where rounding alone is larger: not applicable. One row: not applicable.
    Source: ours; the fault is github.com/huggingface/transformers/issues/34191.
    """
    refuse_low_precision(built)
    samples, whole = whole_gradient(built)
    if len(samples) < 2:
        raise NotApplicableError("there is one row alone")
    split = gradient(built, samples, max(sample.tokens for sample in samples))
    far = whole.distance(split)
    apart = abs((whole.loss or 0.0) - (split.loss or 0.0)) / max(abs(whole.loss or 0.0), 1.0)
    text = f"relative difference of the gradients {far:.1e}, of the losses {apart:.1e}"
    return Found(far <= RELATIVE and apart <= RELATIVE, max(far, apart), text)


def gradients_reach(built: Built, deadline: Deadline) -> Found:
    """Every parameter that trains gets a finite gradient that is not all 0; frozen ones get none, and the optimiser
    holds the former alone.

    Edge cases: what starts behind a factor of 0 (LoRA's first matrix, the trunk under a reward model's zero head) has a
    zero gradient in the first step: a step is taken and the second one counts.
    Source: ours.
    """
    trainee = built.trainee
    assert trainee is not None
    trainable = trainee.trainable()
    if not trainable:
        return Found(False, 0.0, "nothing trains")
    frozen = [name for name, value in trainable.items() if not value.requires_grad]
    if frozen:
        return Found(False, float(len(frozen)), f"the optimiser holds frozen parameters: {_named(frozen)}")
    forgotten = _forgotten(built, trainable)
    if forgotten:
        text = f"parameters ask for gradients and no optimiser holds them: {_named(forgotten)}"
        return Found(False, float(len(forgotten)), text)
    samples, found = whole_gradient(built)
    dead = _dead(found)
    if dead:
        built.memo.pop("gradient")
        with as_it_was(trainee, weights=True):
            _take_a_step(built, found)
            dead = _dead(gradient(built, samples, tokens_of(samples)))
    broken = [name for name, value in found.by_name.items() if value is not None and not bool(value.isfinite().all())]
    if broken:
        return Found(False, float(len(broken)), f"gradients that are not finite: {_named(broken)}")
    text = f"all {len(trainable)} parameters that train have one"
    if dead:
        text = f"{len(dead)} of {len(trainable)} parameters get no gradient: {_named(dead)}"
    return Found(not dead, float(len(dead)), text)


def _forgotten(built: Built, trainable: dict[str, Tensor]) -> list[str]:
    held = {id(value) for value in trainable.values()}
    return [
        name
        for name, value in model_of(built).model.named_parameters()
        if value.requires_grad and id(value) not in held
    ]


def _dead(found: Gradient) -> list[str]:
    return [name for name, value in found.by_name.items() if value is None or not bool(value.any())]


def _take_a_step(built: Built, found: Gradient) -> None:
    """One update by these gradients at the stage's own settings."""
    trainee, plan = built.trainee, plan_of(built)
    assert trainee is not None
    state = loop.TrainState.new(trainee, plan.optimizer, built.factors)
    for name, value in trainee.trainable().items():
        value.grad = found.by_name[name]
    for group in state.optimizer.param_groups:
        group["lr"] = plan.optimizer.learning_rate * group["factor"]
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one, other)


def _set_global_states(seed: int) -> None:
    """The states that nothing may read; whoever runs the check puts them back."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _named(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


CHECKS = (
    Check(
        "same_seed",
        "Does the same seed give the same step?",
        "bitwise",
        45,
        "Look for dropout that is on, or a draw from a global random state: name a stream (trimpot.core.seeds).",
        same_seed,
    ),
    Check(
        "accumulation",
        "Do k micro-batches give the gradient of one batch?",
        "relative difference at most 1e-5",
        45,
        "Divide each term by its count over the whole step, never by a micro-batch's own.",
        accumulation,
    ),
    Check(
        "gradients_reach",
        "Does a gradient reach all that trains, and nothing else?",
        "finite, not 0; frozen: none",
        60,
        "Look for a detach, a part of the model that is not used, or one frozen after the optimiser was made.",
        gradients_reach,
    ),
)
