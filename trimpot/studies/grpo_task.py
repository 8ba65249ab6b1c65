"""What studies on GRPO share: a run from the subject's base, what its groups were like, how long wrong answers are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from trimpot.core.rows import PromptRow
from trimpot.models.policy import Policy
from trimpot.objectives.policy_gradient.advantages import group_advantages
from trimpot.objectives.policy_gradient.rollouts import PolicyGradient
from trimpot.rollout.rewards import Rewards
from trimpot.rollout.settings import RolloutSettings, Sampling
from trimpot.rollout.source import RolloutSource
from trimpot.studies.subject import Subject
from trimpot.training.loop import Plan, Step, TrainState, train
from trimpot.training.settings import LoopSettings, OptimizerSettings


@dataclass(frozen=True)
class Draws:
    """What a run samples: completions of a prompt and prompts of a step; for how many steps, at which peak rate."""

    group: int
    prompts: int
    steps: int
    learning_rate: float


def train_on_groups(policy: Policy, subject: Subject, objective: PolicyGradient, draws: Draws, seed: int) -> list[Step]:
    """Trains the policy on its own completions of the subject's prompts, scored by the rows' verifiers.

    ``seed`` names the order of the prompts and every sample. The steps hold metrics, and a record of every completion.
    """
    settings = RolloutSettings(group=draws.group)
    sampling = Sampling(subject.template, subject.sampling, draws.prompts)
    optimizer = OptimizerSettings(learning_rate=draws.learning_rate)
    loop = LoopSettings(steps=draws.steps, batch=draws.prompts)
    with Rewards(settings.rewards, {}, settings.reward_time_limit) as rewards:
        source = RolloutSource(policy, subject.prompts(), sampling, settings, objective, rewards, {}, seed)
        return list(train(TrainState.new(policy, optimizer), Plan(objective, source, loop, optimizer)))


def mean_over_steps(steps: Sequence[Step], metric: str) -> float | None:
    """The mean of a metric over the steps that have it; None when none has."""
    values = [value for step in steps if (value := step.metrics.get(metric)) is not None]
    return math.fsum(values) / len(values) if values else None


def defined(**metrics: float | None) -> dict[str, float]:
    """The metrics that have a value: a run without one, such as one whose groups never differ, is not a failed run."""
    return {name: value for name, value in metrics.items() if value is not None}


def share_of_extremes(steps: Sequence[Step], group: int, scale: str, edge: float = 1 / 8) -> float | None:
    """The share of Σ|A| on prompts of which at most ``edge``, or at least 1 − ``edge``, of the group are right.

    A are the completions' advantages under ``scale`` (see ``group_advantages``): with a loss whose other divisor is
    one number for all completions, each token is weighted by them. The mean over steps with a gradient; None without.

    Example: groups of 8 of which 1 and 4 are right, no division: Σ|A| = 2 · 8 · p (1 − p) is 1.75 and 4: 1.75 / 5.75.
    """
    shares = []
    for step in steps:
        rewards = torch.tensor([_reward(record["reward"]) for record in step.records], dtype=torch.float64)
        weights_PG = group_advantages(rewards, [group] * (len(rewards) // group), scale).abs().view(-1, group)
        rates_P = rewards.view(-1, group).mean(1)
        # The comparison allows for rounding: 7/8 of three numbers is not their sum to the last bit.
        extreme_P = (rates_P <= edge + 1e-9) | (rates_P >= 1 - edge - 1e-9)
        total = float(weights_PG.sum())
        if total > 0:
            shares.append(float(weights_PG[extreme_P].sum()) / total)
    return math.fsum(shares) / len(shares) if shares else None


def _reward(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def lengths_of_wrong(
    policy: Policy, subject: Subject, rows: Sequence[PromptRow], samples: int, seed: int
) -> dict[str, float]:
    """``excess/wrong``: tokens by which wrong completions are longer than the right answer, the mean over them.

    Which prompts are answered wrongly changes as a model learns, and theirs are the long answers: the excess does not
    change with that. ``share/longer``: the share of wrong completions that are longer than the right answer.
    Edge cases: no wrong completion: neither.
    """
    groups, scores = subject.sampled(policy, rows, samples, seed)
    excess = [
        len(one.ids) - len(policy.tokenizer.encode(row.answer, add_special_tokens=False)) - 1
        for row, group, marks in zip(rows, groups, scores, strict=True)
        for one, mark in zip(group, marks, strict=True)
        if mark < 1
    ]
    if not excess:
        return {}
    return {"excess/wrong": sum(excess) / len(excess), "share/longer": sum(one > 0 for one in excess) / len(excess)}
