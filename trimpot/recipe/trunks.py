"""How the trunks of a stage's models run while it trains: recomputation, and the kept states of frozen layers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from trimpot.models.embedded import cache_folder
from trimpot.models.policy import Policy
from trimpot.models.reward import RewardModel
from trimpot.models.trunk import Trunk
from trimpot.recipe.context import Context
from trimpot.recipe.jobs import Job
from trimpot.recipe.schema import Stage
from trimpot.training.frozen_rows import Room, keep_states
from trimpot.training.rows import DatasetSource, ProbedSource


@contextlib.contextmanager
def trunks_for(context: Context, stage: Stage, job: Job) -> Iterator[None]:
    """Within it the models of a job run as its settings say; afterwards plainly, and kept states are gone."""
    models = list(job.trainee.models().values())
    for model in models:
        model.trunk = Trunk(job.plan.loop.recompute)
    try:
        _keep_states(context, stage, job)
        yield
    finally:
        for model in models:
            model.trunk = Trunk()


def _keep_states(context: Context, stage: Stage, job: Job) -> None:
    """Where rows come back and the trainee's lowest layers are frozen: their states are computed once.

    Not under embedding noise, which makes other states of a row in every step.
    """
    model, loop, source = job.trainee, job.plan.loop, job.plan.source
    rows = source.source if isinstance(source, ProbedSource) else source
    if not isinstance(model, Policy | RewardModel) or not isinstance(rows, DatasetSource):
        return
    drawn = [sample for step in range(1, loop.steps + 1) for sample in rows.draw(step, {}).samples]
    distinct = {sample.row_id: sample for sample in drawn}
    if len(distinct) == len(drawn):
        return
    room = Room(loop.micro_batch_tokens, cache_folder() / "states", context.progress(f"frozen layers {stage.name}"))
    model.trunk.frozen = keep_states(model, list(distinct.values()), stage.objective.needs, room)
    if model.trunk.frozen is not None:
        job.counts["frozen_layers_run_once"] = model.trunk.frozen.layer
