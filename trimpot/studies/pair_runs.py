"""What studies on preference pairs share: a run from the subject's base on its pairs, some of them labelled wrongly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trimpot.core.progress import ignore
from trimpot.core.samples import Sample
from trimpot.core.seeds import seed_for
from trimpot.core.tensors import Objective
from trimpot.models.policy import Policy
from trimpot.studies.reversal import with_wrong_labels
from trimpot.studies.study import Settings, Values
from trimpot.studies.subject import Subject
from trimpot.training.loop import Plan, Step, TrainState, train
from trimpot.training.reference import RowReference
from trimpot.training.rows import DatasetSource
from trimpot.training.settings import LoopSettings, OptimizerSettings

JUDGED = 256
"""Trained pairs of which a margin is the mean: the first ones, as they were labelled."""


@dataclass(frozen=True)
class PairRun:
    """A run that goes on as its steps are drawn: what trains, where it began, and the pairs as they were labelled."""

    policy: Policy
    reference: Policy
    samples: tuple[Sample, ...]
    steps: Iterator[Step]


def pair_run(
    subject: Subject, objective: Objective, values: Values, settings: Settings, seed: int, kept: Path | None = None
) -> PairRun:
    """A run of an objective on the subject's pairs; nothing is trained before its first step is drawn.

    Of the values it reads ``wrong_labels`` (the share of pairs whose answers change places), ``order`` (which order
    of the rows) and, where it is tuned, ``learning_rate``; of the settings ``batch``, ``learning_rate``, ``steps`` or
    ``epochs``, and optionally ``schedule`` and ``warmup``. ``kept``: a folder for the reference's log-probs, for a
    study in which all arms have the same labels.
    """
    policy, reference = subject.base(), subject.base()
    policy.model.requires_grad_(True)
    reference.model.requires_grad_(False)
    pairs = with_wrong_labels(subject.pairs(), float(values["wrong_labels"]), seed)
    samples = subject.samples(pairs, policy)
    known = RowReference(reference, kept)
    loop = LoopSettings(steps=steps_of(settings, len(samples)), batch=settings["batch"])
    known.fill(samples, loop.micro_batch_tokens, str(policy.device), ignore)
    rate = values["learning_rate"] if "learning_rate" in values else settings["learning_rate"]
    optimizer = OptimizerSettings(
        learning_rate=float(rate), schedule=settings.get("schedule", "linear"), warmup=settings.get("warmup", 0.1)
    )
    source = DatasetSource(samples, settings["batch"], seed_for(seed, "order", int(values["order"])))
    plan = Plan(objective, source, loop, optimizer, known)
    return PairRun(policy, reference, samples, train(TrainState.new(policy, optimizer), plan))


def steps_of(settings: Settings, pairs: int) -> int:
    """``steps`` of the settings, else as many as ``epochs`` passes over the pairs take, at least one."""
    if "steps" in settings:
        return int(settings["steps"])
    return max(1, round(settings["epochs"] * pairs / settings["batch"]))
