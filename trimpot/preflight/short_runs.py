"""Short runs of the real loop, for checks of what training does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from trimpot.core.samples import Sample
from trimpot.preflight.check import Built, Deadline, NotApplicableError
from trimpot.preflight.parts import model_of, plan_of
from trimpot.training import loop
from trimpot.training.rows import DatasetSource
from trimpot.training.streams import Trainee

RATE = 0.1
"""The learning rate of a short run times the hidden size: 1.7e-4 at 576. Adam's best rate falls with the width (arXiv
2203.03466, table 3); the number is ours."""
SCRATCH, ADAPTERS = 2.0, 10.0
"""Random weights, and adapters or a new head, bear this many times as much."""


def short_run(
    built: Built,
    samples: Sequence[Sample],
    steps: int,
    rate: float,
    deadline: Deadline,
    trainee: Trainee | None = None,
    batch: int | None = None,
) -> Iterator[loop.Step]:
    """Trains on samples at a constant rate, all else as the stage says; yields every step.

    ``trainee`` in place of the stage's; ``batch`` samples a step (default: all). The weights stay changed: whoever
    calls puts them back.

    Raises:
        OutOfTimeError: with the steps that were done.
    """
    plan = plan_of(built)
    optimizer = replace(plan.optimizer, learning_rate=rate, schedule="constant", warmup=0.0)
    settings = replace(plan.loop, steps=steps, probes=(), checkpoint_every=0)
    source = DatasetSource(samples, batch or len(samples), built.seed)
    assert built.trainee is not None
    state = loop.TrainState.new(trainee or built.trainee, optimizer, built.factors)
    for step in loop.train(state, replace(plan, source=source, loop=settings, optimizer=optimizer)):
        yield step
        deadline.ask(f"{step.number} of {steps} steps were done")


def short_rate(built: Built) -> float:
    """A learning rate that a short run of this stage learns at; the stage's own may be meant for many more steps.

    Raises:
        NotApplicableError: virtual tokens train alone, which learn too slowly for a short run.
    """
    if built.trainable in ("prompt", "prefix"):
        raise NotApplicableError("virtual tokens alone learn too slowly for a short run")
    factor = SCRATCH if built.scratch else ADAPTERS if built.trainable in ("lora", "head") else 1.0
    return factor * RATE / float(model_of(built).model.config.hidden_size)


def refuse_sampled(built: Built) -> None:
    """Raises NotApplicableError for stages that sample what they train on: their loss does not fall as they learn."""
    if built.sampling is not None:
        raise NotApplicableError("the stage samples what it trains on, so its loss does not fall as it learns")
