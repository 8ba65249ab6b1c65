"""The check of checkpoints: a run that was stopped goes on as if it had not been."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from trimpot.preflight.check import Built, Check, Deadline, Found
from trimpot.preflight.guard import as_it_was
from trimpot.preflight.parts import plan_of, spread
from trimpot.preflight.short_runs import refuse_sampled
from trimpot.training import checkpoint, loop
from trimpot.training.rows import DatasetSource

STEPS, STOP = 4, 2
RELATIVE = 1e-5


def save_resume(built: Built, deadline: Deadline) -> Found:
    """Four steps in one go against two, a checkpoint, a new start with spoilt weights, and two more.

    Equation: ‖w − w'‖ / ‖w − w₀‖ ≤ 10⁻⁵ over all that trains, w after the whole run, w' after the resumed one,
        w₀ before.
    The checkpoint is written to a temporary folder, at the stage's own settings.
    Source: ours.
    """
    refuse_sampled(built)
    trainee = built.trainee
    assert trainee is not None
    start = _copy(trainee.trainable())
    with as_it_was(trainee, weights=True):
        _go_on(built, loop.TrainState.new(trainee, plan_of(built).optimizer, built.factors), STEPS, deadline)
        whole = _copy(trainee.trainable())
    with tempfile.TemporaryDirectory(prefix="trimpot-preflight-") as folder:
        first = loop.TrainState.new(trainee, plan_of(built).optimizer, built.factors)
        _go_on(built, first, STOP, deadline)
        kept = checkpoint.save_checkpoint(first, Path(folder), 1, {})
        with torch.no_grad():
            for value in trainee.trainable().values():
                value.fill_(0.5)
        second = loop.TrainState.new(trainee, plan_of(built).optimizer, built.factors)
        checkpoint.restore_checkpoint(second, kept, {})
    _go_on(built, second, STEPS, deadline)
    resumed = trainee.trainable()
    apart = _norm({name: value - resumed[name].detach() for name, value in whole.items()})
    moved = _norm({name: value - start[name] for name, value in whole.items()})
    far = apart / moved if moved else apart
    text = f"weights differ by {far:.1e} of what {STEPS} steps moved them"
    return Found(far <= RELATIVE, far, text)


def _go_on(built: Built, state: loop.TrainState, steps: int, deadline: Deadline) -> None:
    """Trains from where the state is to a step; the schedule is that of the whole run."""
    plan = plan_of(built)
    samples = spread(built, 2 * STEPS, 512)
    settings = replace(plan.loop, steps=STEPS, probes=(), checkpoint_every=0)
    source = DatasetSource(samples, min(2, len(samples)), built.seed)
    for step in loop.train(state, replace(plan, source=source, loop=settings)):
        deadline.ask(f"{step.number} of {STEPS} steps were done")
        if step.number == steps:
            return


def _copy(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in values.items()}


def _norm(values: dict[str, Tensor]) -> float:
    return float(sum(float(value.double().square().sum()) for value in values.values()) ** 0.5)


CHECKS = (
    Check(
        "save_resume",
        "Does a resumed run end where an unbroken one ends?",
        "relative difference at most 1e-5",
        240,
        "Look what the checkpoint leaves out: moments, the step of the schedule, the place in the data.",
        save_resume,
        trains=True,
        thorough=True,
    ),
)
