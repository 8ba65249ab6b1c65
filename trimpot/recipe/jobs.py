"""What each kind of stage trains on what: the trainee, its source and its plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from trimpot.core.rows import ChatRow, PromptRow, Row
from trimpot.core.stats import Stat
from trimpot.core.tensors import Batch
from trimpot.data.load import load_rows
from trimpot.data.prepare import MaskSettings, Prepared, split_held_out
from trimpot.evaluation.reward_report import gold_accuracy
from trimpot.models import reward
from trimpot.models.adapters import TrainableSettings, choose_trainable
from trimpot.models.critic import ActorCritic, CriticSettings, critic_from, critic_from_policy
from trimpot.models.embedded import cache_folder
from trimpot.models.export import template_of
from trimpot.models.load import load
from trimpot.models.noise import NoiseSettings, NoisyPolicy
from trimpot.models.policy import Policy
from trimpot.models.student import Student
from trimpot.recipe.compute import (
    Weights,
    flops_of_stage,
    judge_weights,
    sampling_flops,
    training_flops,
    weights_of,
)
from trimpot.recipe.context import Context
from trimpot.recipe.judges import ANSWERS, SCORES, STEPS, load_reward_model, rewards_of
from trimpot.recipe.names import model_of, named_stage
from trimpot.recipe.schema import Stage
from trimpot.recipe.settings import HeldOutSettings, OnlineSettings, RowsSettings, StartSettings
from trimpot.rollout.distill import DistillSettings, DistillSource
from trimpot.rollout.pairs import OnlinePairSource
from trimpot.rollout.reuse import ReusedDraws
from trimpot.rollout.rewards import Rewards
from trimpot.rollout.sampling import SamplingSettings
from trimpot.rollout.scoring import Scorer
from trimpot.rollout.settings import RolloutSettings, Sampling
from trimpot.rollout.source import RolloutSource
from trimpot.training.loop import Plan, Source
from trimpot.training.reference import Reference, RowReference, reference_of
from trimpot.training.rows import DatasetSource, ProbedSource
from trimpot.training.settings import LoopSettings, OptimizerSettings
from trimpot.training.streams import Trainee


@dataclass(frozen=True)
class Job:
    """A stage ready to train. ``held_out`` are rows it must not see; ``factors`` scale parts' learning rates."""

    trainee: Trainee
    plan: Plan
    counts: dict[str, Any]
    weights: Weights
    factors: Mapping[str, float] = field(default_factory=dict)
    held_out: Sequence[Row] = ()
    rewards: Rewards | None = None

    def close(self) -> None:
        """Ends the process that reward functions run in."""
        if self.rewards is not None:
            self.rewards.close()


def build_job(context: Context, stage: Stage) -> Job:
    """The job of a training stage; loads what it needs beside the policy (teacher, critic, reward models)."""
    return JOBS[stage.kind](context, stage)


def _sft(context: Context, stage: Stage) -> Job:
    policy = _trained_policy(context, stage)
    prepared = context.prepared(stage)
    alpha = stage.get(NoiseSettings).neftune_alpha
    trainee = NoisyPolicy(policy, alpha, context.stage_seed(stage)) if alpha > 0 else policy
    return _job(context, stage, trainee, _rows(context, stage, prepared), prepared)


def _reward(context: Context, stage: Stage) -> Job:
    judge = reward.from_policy(context.policy)
    setattr(judge.model.config, SCORES, STEPS if stage.objective.name == "process_reward" else ANSWERS)
    choose_trainable(judge, stage.get(TrainableSettings), context.stage_seed(stage))
    rows, held_out = split_held_out(
        context.stage_rows(stage), stage.get(HeldOutSettings).held_out, context.stage_seed(stage)
    )
    prepared = context.prepared(stage, rows)
    source: Source = _rows(context, stage, prepared)
    settings: HeldOutSettings = stage.get(HeldOutSettings)
    if settings.trusted is not None:
        trusted = context.prepared(stage, load_rows(settings.trusted, stage.rows)).samples
        source = ProbedSource(source, lambda: gold_accuracy(judge, trusted), settings.trusted_every)
    return replace(_job(context, stage, judge, source, prepared), held_out=held_out)


def _preference(context: Context, stage: Stage) -> Job:
    policy = _trained_policy(context, stage)
    online: OnlineSettings = stage.get(OnlineSettings)
    if not online.online:
        prepared = context.prepared(stage)
        rows = _rows(context, stage, prepared)
        if "reference_logprob_N" not in stage.objective.needs:
            return _job(context, stage, policy, rows, prepared)
        job = _job(context, stage, policy, rows, prepared, RowReference(policy, cache_folder() / "reference"))
        _fill(context, stage, job, rows)
        return job
    prompts = context.prompts(stage)
    rewards = rewards_of(stage, context.run, policy)
    source = OnlinePairSource(
        policy, prompts, _sampling(context, stage),
        online.samples, rewards, context.stage_seed(stage),
    )  # fmt: skip
    reference = reference_of(policy) if "reference_logprob_N" in stage.objective.needs else None
    job = _job(context, stage, policy, source, None, reference)
    weights = replace(job.weights, judged=judge_weights(rewards.judges.values()))
    return replace(job, rewards=rewards, weights=weights)


def _policy_gradient(context: Context, stage: Stage) -> Job:
    policy = _trained_policy(context, stage)
    sampling: SamplingSettings = stage.get(SamplingSettings)
    settings: RolloutSettings = stage.get(RolloutSettings)
    trainee: Trainee = policy
    factors: dict[str, float] = {}
    scorers: dict[str, Scorer] = {"old_logprob_N": _log_probs(policy, sampling.temperature)}
    critic = None
    if CriticSettings in stage.settings:
        critic_settings: CriticSettings = stage.get(CriticSettings)
        critic = _critic(context, critic_settings, policy)
        trainee, scorers["value_N"] = ActorCritic(policy, critic), critic.values
        factors = {"critic.": critic_settings.critic_learning_rate_factor}
    wanted = (*stage.objective.needs, *stage.objective.rollout_needs)
    reference = None
    if "reference_logprob_N" in wanted:
        reference = reference_of(policy, temperature=sampling.temperature)
        scorers["reference_logprob_N"] = reference
    rows = context.prompts(stage)
    rewards = rewards_of(stage, context.run, policy)
    rollouts = RolloutSource(
        policy, rows, _sampling(context, stage), settings,
        stage.objective, rewards, scorers, context.stage_seed(stage),
    )  # fmt: skip
    source: Source = rollouts
    if settings.epochs * settings.minibatches > 1:
        source = ReusedDraws(rollouts, settings.epochs, settings.minibatches, context.stage_seed(stage))
    job = _job(context, stage, trainee, source, None, reference, sampling.temperature)
    size = weights_of(policy.model)
    trained = size + (weights_of(critic.model.model) if critic is not None else 0)
    # A draw is scored once, however often it is trained on.
    scored = sum(trained - size if name == "value_N" else size for name in rollouts.scorers) / settings.epochs
    weights = Weights(trained, size, scored, judge_weights(rewards.judges.values()))
    return replace(job, factors=factors, rewards=rewards, weights=weights)


def _distill(context: Context, stage: Stage) -> Job:
    policy = _trained_policy(context, stage)
    settings: DistillSettings = stage.get(DistillSettings)
    teacher = load_named(context, settings.teacher)
    rows = [row for row in context.stage_rows(stage) if isinstance(row, ChatRow | PromptRow)]
    mask = stage.get(MaskSettings).mask
    source = DistillSource(
        policy, rows, _sampling(context, stage), settings,
        stage.get(LoopSettings).max_length, context.stage_seed(stage), mask,
    )  # fmt: skip
    trainee = Student(policy, teacher, stage.objective.divergence)
    size = weights_of(policy.model)
    weights = Weights(size, size, weights_of(teacher.model))
    return replace(_job(context, stage, trainee, source, None), weights=weights)


JOBS: dict[str, Callable[[Context, Stage], Job]] = {
    "sft": _sft,
    "reward": _reward,
    "preference": _preference,
    "policy_gradient": _policy_gradient,
    "distill": _distill,
}


def _trained_policy(context: Context, stage: Stage) -> Policy:
    choose_trainable(context.policy, stage.get(TrainableSettings), context.stage_seed(stage))
    return context.policy


def _critic(context: Context, settings: CriticSettings, policy: Policy) -> Any:
    if settings.critic is None:
        return critic_from_policy(policy)
    return critic_from(load_reward_model(model_of(settings.critic, context.run), policy), policy)


def load_named(context: Context, name: str) -> Policy:
    """A model by name, folder or ``stage:NAME``, frozen."""
    other = load(model_of(name, context.run), str(context.policy.device), context.recipe.dtype, context.recipe.seed)
    other.model.requires_grad_(False)
    return other


def _fill(context: Context, stage: Stage, job: Job, rows: DatasetSource) -> None:
    """Computes the reference's log-probs of the rows that the stage will draw."""
    loop, reference = job.plan.loop, job.plan.reference
    assert isinstance(reference, RowReference)
    drawn = {sample.row_id: sample for step in range(1, loop.steps + 1) for sample in rows.draw(step, {}).samples}
    job.counts["reference_tokens"] = sum(sample.tokens for sample in drawn.values())
    progress = context.progress(f"reference {stage.name}")
    reference.fill(list(drawn.values()), loop.micro_batch_tokens, str(context.policy.device), progress)


def _sampling(context: Context, stage: Stage) -> Sampling:
    loop: LoopSettings = stage.get(LoopSettings)
    return Sampling(context.template, stage.get(SamplingSettings), loop.batch, loop.micro_batch_tokens)


def _log_probs(policy: Policy, temperature: float) -> Scorer:
    @torch.no_grad()
    def score(batch: Batch) -> Tensor:
        return policy.scores(batch, temperature).logprob_N

    return score


def _rows(context: Context, stage: Stage, prepared: Prepared) -> DatasetSource:
    made_with = template_of(context.policy.model)
    stats = {} if made_with is None else {"template_matches": Stat(float(made_with == context.template.hash), 1)}
    return DatasetSource(prepared.samples, stage.get(LoopSettings).batch, context.stage_seed(stage), stats)


def _job(
    context: Context, stage: Stage, trainee: Trainee, source: Source, prepared: Prepared | None,
    reference: Reference | None = None, temperature: float = 1.0,
) -> Job:  # fmt: skip
    loop, counts = stage.get(LoopSettings), _counts(context, stage, prepared)
    named = stage.get(StartSettings).compute_of
    if named is not None:
        loop = replace(loop, steps=_steps_of_compute(context, stage, named, prepared))
        counts["compute_of"] = named
    size = weights_of(context.policy.model)
    # The reference of rows that come back is counted by itself: one pass for each.
    scored = size if reference is not None and not isinstance(reference, RowReference) else 0
    plan = Plan(stage.objective, source, loop, stage.get(OptimizerSettings), reference, temperature)
    return Job(trainee, plan, counts, Weights(size, size, scored))


def _counts(context: Context, stage: Stage, prepared: Prepared | None) -> dict[str, Any]:
    if prepared is None:
        return {"rows": len(context.stage_rows(stage))}
    if prepared.truncated_rows:
        limit = stage.get(LoopSettings).max_length
        cut = f"{prepared.truncated_rows} of {len(prepared.samples)} rows cut to {limit} tokens"
        context.listener.note(f"{stage.name}: {cut}; {prepared.truncated_tokens} tokens lost")
    return {
        "rows": len(prepared.samples),
        "truncated_rows": prepared.truncated_rows,
        "rewritten_turns": prepared.rewritten_turns,
    }


def _steps_of_compute(context: Context, stage: Stage, named: str, prepared: Prepared | None) -> int:
    """The steps for which this stage, with the data stage it reads, costs what the named stage cost."""
    budget = flops_of_stage(context.run, named)
    source = named_stage(stage.get(RowsSettings).data)
    if source is not None:
        budget -= flops_of_stage(context.run, source)
    assert prepared is not None  # stages that sample are refused compute_of before the run
    tokens = sum(sample.tokens for sample in prepared.samples)
    step = training_flops(context.policy, tokens / len(prepared.samples) * stage.get(LoopSettings).batch)
    if "reference_logprob_N" in stage.objective.needs:
        # Every row drawn has one pass of the reference; in few steps not all are drawn, and less is spent.
        budget -= sampling_flops(context.policy, min(tokens, tokens * budget / step / len(prepared.samples)))
    if budget < step:
        rows = "" if source is None else f", less that of the rows from {source},"
        context.listener.note(f"{stage.name}: the compute of {named}{rows} does not buy a step here; it trains one")
    return max(1, math.floor(budget / step))
