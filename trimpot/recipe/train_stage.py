"""One training stage: rows or rollouts, objective, reference, the loop, its logs, checkpoints and exported model."""

from __future__ import annotations

from typing import Any

from trimpot.core.rows import PromptRow
from trimpot.detectors import DETECTORS
from trimpot.detectors.watch import Watcher
from trimpot.models import reward
from trimpot.models.adapters import TrainableSettings, choose_trainable
from trimpot.models.export import export
from trimpot.models.reward import RewardModel
from trimpot.recipe.context import Context
from trimpot.recipe.evaluate_stage import judge_stage
from trimpot.recipe.schema import Stage
from trimpot.rollout.engine import SamplingSettings
from trimpot.rollout.source import GroupSettings, RolloutSource
from trimpot.store.run_folder import StageFolder
from trimpot.training.checkpoint import checkpoints, restore_checkpoint, save_checkpoint
from trimpot.training.loop import Plan, Source, Step, TrainState, train
from trimpot.training.rows import DatasetSource
from trimpot.training.settings import LoopSettings, OptimizerSettings
from trimpot.training.streams import reference_of


def train_stage(context: Context, stage: Stage, folder: StageFolder) -> dict[str, Any]:
    """Trains a stage from its newest checkpoint or the start, exports its model, returns counts for its record."""
    loop = stage.get(LoopSettings)
    trainee = reward.from_policy(context.policy) if stage.kind == "reward" else context.policy
    choose_trainable(trainee, stage.get(TrainableSettings))
    plan, counts = _plan(context, stage)
    state = TrainState.new(trainee, stage.get(OptimizerSettings))
    for newest in checkpoints(folder.checkpoints_folder)[-1:]:
        restore_checkpoint(state, newest, stage.values())
    folder.truncate_after(state.step)
    watcher = Watcher(tuple(detector() for detector in DETECTORS.values()))
    for line in folder.metrics():
        watcher.observe(line["step"], line)
    context.listener.stage_begins(stage, state.step, loop.steps)
    for step in train(state, plan):
        _log(context, stage, folder, step)
        for finding in watcher.observe(step.number, step.metrics):
            folder.append_alarm(finding.as_dict())
            context.listener.alarm(stage, finding)
        # None after the last step: the exported model follows at once, and a checkpoint is three times its size.
        if loop.checkpoint_every and step.number % loop.checkpoint_every == 0 and step.number < loop.steps:
            save_checkpoint(state, folder.checkpoints_folder, loop.keep_checkpoints, stage.values())
    export(trainee, folder.model_folder)
    tokens = sum(line["num_tokens"] for line in folder.metrics())
    seconds = sum(line["seconds"] for line in folder.metrics())
    record = {**counts, "steps": loop.steps, "tokens": tokens, "training_seconds": seconds}
    if isinstance(trainee, RewardModel):
        record["notes"] = judge_stage(context, trainee, folder)
    return record


def _plan(context: Context, stage: Stage) -> tuple[Plan, dict[str, Any]]:
    loop, seed = stage.get(LoopSettings), context.stage_seed(stage)
    prepared = context.prepared(stage)
    counts = {
        "rows": len(prepared.samples),
        "truncated_rows": prepared.truncated_rows,
        "rewritten_turns": prepared.rewritten_turns,
    }
    if prepared.truncated_rows:
        cut = f"{prepared.truncated_rows} of {len(prepared.samples)} rows cut to {loop.max_length} tokens"
        context.listener.note(f"{stage.name}: {cut}; {prepared.truncated_tokens} tokens lost")
    temperature = 1.0
    source: Source
    if stage.kind == "policy_gradient":
        sampling = stage.get(SamplingSettings)
        temperature = sampling.temperature
        rows = [row for row in prepared.row_by_id.values() if isinstance(row, PromptRow)]
        source = RolloutSource(
            rows, context.template, loop.batch, stage.get(GroupSettings), sampling, stage.objective, seed
        )
    else:
        source = DatasetSource(prepared.samples, loop.batch, seed)
    reference = None
    if "reference_logprob_N" in stage.objective.needs:
        reference = reference_of(context.policy, cache=stage.kind == "preference", temperature=temperature)
    return Plan(stage.objective, source, loop, stage.get(OptimizerSettings), reference, temperature), counts


def _log(context: Context, stage: Stage, folder: StageFolder, step: Step) -> None:
    folder.append_metrics({"step": step.number, **step.metrics})
    folder.append_batch(step.number, step.row_ids)
    for record in step.records:
        folder.append_sample({"step": step.number, **record})
    context.listener.step_done(stage, step)
