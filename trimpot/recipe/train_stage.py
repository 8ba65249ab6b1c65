"""One training stage of a recipe: build trainee, source and reference, train with checkpoints, export the model."""

from __future__ import annotations

import contextlib
from typing import Any

from trimpot.detectors.watch import Watcher, all_detectors
from trimpot.models.export import export
from trimpot.models.reward import RewardModel
from trimpot.recipe.compute import sampling_flops, stage_flops
from trimpot.recipe.context import Context
from trimpot.recipe.evaluate_stage import judge_stage
from trimpot.recipe.jobs import Job, build_job
from trimpot.recipe.schema import Stage
from trimpot.recipe.trunks import trunks_for
from trimpot.store.run_folder import StageFolder
from trimpot.training.checkpoint import checkpoints, restore_checkpoint, save_checkpoint
from trimpot.training.loop import Step, TrainState, train
from trimpot.training.settings import OptimizerSettings


def train_stage(context: Context, stage: Stage, folder: StageFolder) -> dict[str, Any]:
    """Trains a stage from its newest checkpoint or the start, exports its model, returns counts for its record."""
    with contextlib.closing(build_job(context, stage)) as job, trunks_for(context, stage, job):
        return _train(context, stage, folder, job)


def _train(context: Context, stage: Stage, folder: StageFolder, job: Job) -> dict[str, Any]:
    loop = job.plan.loop
    state = TrainState.new(job.trainee, stage.get(OptimizerSettings), job.factors)
    for newest in checkpoints(folder.checkpoints_folder)[-1:]:
        restore_checkpoint(state, newest, stage.values())
    folder.truncate_after(state.step)
    watcher, past = Watcher(all_detectors()), folder.metrics()
    for line in past:
        watcher.observe(line["step"], line)
    context.listener.stage_begins(stage, state.step, loop.steps)
    saved = state.step
    for step in train(state, job.plan, past):
        _log(context, stage, folder, step)
        for finding in watcher.observe(step.number, step.metrics):
            folder.append_alarm(finding.as_dict())
            context.listener.alarm(stage, finding)
        if _is_time(job, step.number, saved):
            save_checkpoint(state, folder.checkpoints_folder, loop.keep_checkpoints, stage.values())
            saved = step.number
    return _finish(context, job, folder)


def _is_time(job: Job, step: int, saved: int) -> bool:
    """Whether to write a checkpoint: where one is due and no draw of the source is half used.

    Not after the last step: the exported model follows at once, and a checkpoint is three times its size.
    """
    loop = job.plan.loop
    due = loop.checkpoint_every and step // loop.checkpoint_every > saved // loop.checkpoint_every
    return bool(due) and step < loop.steps and step % job.plan.source.steps_per_draw == 0


def _finish(context: Context, job: Job, folder: StageFolder) -> dict[str, Any]:
    for name, model in job.trainee.models().items():
        export(model, folder.path / name)
    metrics = folder.metrics()
    record = {
        **job.counts,
        "steps": job.plan.loop.steps,
        "tokens": sum(line["num_tokens"] for line in metrics),
        "training_seconds": sum(line["seconds"] for line in metrics),
        "flops": stage_flops(job.weights, metrics) + _reference_flops(context, job),
    }
    if isinstance(job.trainee, RewardModel):
        record.update(judge_stage(context, job.trainee, folder, job.held_out))
    return record


def _reference_flops(context: Context, job: Job) -> float:
    """The reference's one pass over every row drawn, whether or not another run had left it."""
    return sampling_flops(context.policy, job.counts.get("reference_tokens", 0))


def _log(context: Context, stage: Stage, folder: StageFolder, step: Step) -> None:
    folder.append_metrics({"step": step.number, **step.metrics})
    folder.append_batch(step.number, step.row_ids)
    for record in step.records:
        folder.append_sample({"step": step.number, **record})
    context.listener.step_done(stage, step)
