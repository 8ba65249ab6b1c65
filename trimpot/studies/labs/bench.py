"""What the labs train: a tiny model that writes four letters backwards, by every kind of objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from trimpot.core.rows import ChatRow, Message, PreferencePair, PromptRow
from trimpot.core.samples import Draw, Sample
from trimpot.core.seeds import seed_for, stream
from trimpot.core.tensors import Objective
from trimpot.data.prepare import tokenise
from trimpot.data.template import ChatTemplate
from trimpot.models.critic import ActorCritic, critic_from_policy
from trimpot.models.policy import Policy
from trimpot.models.reward import from_policy
from trimpot.models.tiny import tiny
from trimpot.objectives.policy_gradient.rollouts import PolicyGradient
from trimpot.objectives.supervised.sft import SupervisedFineTuning
from trimpot.rollout.engine import Completion, decode
from trimpot.rollout.reuse import ReusedDraws
from trimpot.rollout.rewards import Judge, Rewards
from trimpot.rollout.sampling import SamplingSettings
from trimpot.rollout.settings import RolloutSettings, Sampling
from trimpot.rollout.source import RolloutSource
from trimpot.studies import reversal
from trimpot.training.loop import Plan, Source, TrainState, train
from trimpot.training.reference import RowReference, reference_of
from trimpot.training.rows import DatasetSource
from trimpot.training.settings import LoopSettings, OptimizerSettings
from trimpot.training.streams import Trainee

Metrics = Mapping[str, float | None]
LEARN, PROBE, PROMPTS = 872, 128, 1024
GROUP, BATCH = 8, 8
"""Completions of a prompt and prompts of a step in runs with rollouts."""


def prepare(settings: Mapping[str, Any], seed: int, folder: Path) -> None:
    """The seed's base model, fine-tuned until about half of its samples are right, and pairs of its own samples."""
    rows = reversal.words(LEARN + PROBE + PROMPTS, seed)
    base = reversal.base_policy(rows[:LEARN], rows[LEARN : LEARN + PROBE], 0.5, settings["sft_steps"], seed)
    pairs = reversal.constructed_pairs(base, rows[LEARN + PROBE :], 8, seed_for(seed, "pairs"))
    reversal.save_pairs(pairs, folder / "pairs.json")
    save_file({name: value.contiguous() for name, value in base.trainable().items()}, folder / "base.safetensors")


@dataclass(frozen=True)
class Bench:
    """One run's seed and what all runs of the seed share."""

    seed: int
    folder: Path

    def base(self) -> Policy:
        """The fine-tuned model, afresh."""
        policy = tiny("0.1m", seed=self.seed)
        policy.model.load_state_dict(load_file(self.folder / "base.safetensors"), strict=False)
        return policy

    def untrained(self) -> Policy:
        """The model before any training."""
        return tiny("0.1m", seed=self.seed)

    def chats(self) -> list[ChatRow]:
        words = reversal.words(LEARN, self.seed)
        return [ChatRow((*row.prompt, Message("assistant", row.answer))) for row in words]

    def prompts(self) -> list[PromptRow]:
        """Prompts that fine-tuning did not see."""
        return reversal.words(LEARN + PROBE + PROMPTS, self.seed)[LEARN + PROBE :]

    def pairs(self) -> list[PreferencePair]:
        """Pairs constructed from the base model's own samples of those prompts, both answers of equal length."""
        pairs = reversal.load_pairs(self.folder / "pairs.json")
        return [pair for pair in pairs if _bytes(pair.chosen) == _bytes(pair.rejected)]

    def easy_pairs(self) -> list[PreferencePair]:
        """The same right answers against four random letters that no answer has: a reward model learns them soon."""
        draw = stream(self.seed, "letters")
        return [
            replace(pair, rejected=(Message("assistant", "".join(draw.choice("stuvwxyz") for _ in range(4))),))
            for pair in self.pairs()
            if _bytes(pair.chosen) == reversal.LENGTH
        ]


def _bytes(turns: Sequence[Message]) -> int:
    return len(turns[-1].content.encode())


@dataclass(frozen=True)
class Pace:
    """Length and speed of a run."""

    steps: int
    learning_rate: float
    batch: int = 32
    schedule: str = "constant"


def run(
    trainee: Trainee,
    objective: Objective,
    source: Source,
    pace: Pace,
    factors: Mapping[str, float] | None = None,
    **plan: Any,
) -> list[Metrics]:
    """The metrics of every step of a run."""
    optimizer = OptimizerSettings(learning_rate=pace.learning_rate, schedule=pace.schedule)
    whole = Plan(objective, source, LoopSettings(steps=pace.steps, batch=pace.batch), optimizer, **plan)
    return [
        {"step": float(step.number), **step.metrics}
        for step in train(TrainState.new(trainee, optimizer, factors), whole)
    ]


def samples_of(rows: Sequence[Any], policy: Policy, mask: str = "assistant") -> tuple[Sample, ...]:
    return tokenise(rows, ChatTemplate(policy.tokenizer), reversal.MAX_LENGTH, mask).samples


@dataclass(frozen=True)
class Replaced:
    """A source of which some steps are replaced by other samples."""

    source: Source
    steps: Mapping[int, Sequence[Sample]]

    @property
    def steps_per_draw(self) -> int:
        return self.source.steps_per_draw

    def draw(self, step: int, carried: Mapping[str, float]) -> Draw:
        if step in self.steps:
            return Draw(tuple(self.steps[step]))
        return self.source.draw(step, carried)


def supervised(bench: Bench, policy: Policy, samples: Sequence[Sample], pace: Pace) -> list[Metrics]:
    return run(policy, SupervisedFineTuning(), DatasetSource(samples, pace.batch, bench.seed), pace)


def preference(
    bench: Bench, samples: Sequence[Sample], objective: Objective, pace: Pace, reference: Policy | None = None
) -> list[Metrics]:
    """From the base model; the reference is the base model too, unless another is given."""
    policy = bench.base()
    source = DatasetSource(samples, pace.batch, bench.seed)
    return run(policy, objective, source, pace, reference=RowReference(reference or policy))


def reward(bench: Bench, samples: Sequence[Sample], objective: Objective, pace: Pace) -> list[Metrics]:
    return run(from_policy(bench.base()), objective, DatasetSource(samples, pace.batch, bench.seed), pace)


@dataclass(frozen=True)
class Rollout:
    """A run with rollouts: what it samples and who scores."""

    objective: PolicyGradient
    pace: Pace
    rows: Sequence[PromptRow]
    settings: RolloutSettings = field(default_factory=lambda: RolloutSettings(group=GROUP))
    sampling: SamplingSettings = reversal.SAMPLING
    judges: Mapping[str, Judge] = field(default_factory=dict)
    sampler: Policy | None = None
    critic_factor: float = 10.0
    critic_noise: float = 0.0
    trainer_temperature: float = 1.0


def rollouts(bench: Bench, plan: Rollout, reference: Policy | None = None) -> list[Metrics]:
    """A policy gradient from the base model; with a critic where the objective reads values."""
    policy = bench.base()
    sampling = Sampling(ChatTemplate(policy.tokenizer), plan.sampling, BATCH, sampler=plan.sampler)
    scorers: dict[str, Any] = {"old_logprob_N": lambda batch: policy.scores(batch, plan.trainer_temperature).logprob_N}
    trainee: Trainee = policy
    factors = {}
    if "value_N" in plan.objective.rollout_needs:
        critic = critic_from_policy(policy)
        if plan.critic_noise:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(bench.seed)
                torch.nn.init.normal_(critic.model.model.score.weight, std=plan.critic_noise)
        trainee, scorers["value_N"], factors = (
            ActorCritic(policy, critic),
            critic.values,
            {"critic.": plan.critic_factor},
        )
    frozen = reference_of(reference or policy, temperature=plan.trainer_temperature)
    scorers["reference_logprob_N"] = frozen
    rewards = Rewards(plan.settings.rewards, plan.judges, plan.settings.reward_time_limit)
    source: Source = RolloutSource(
        policy, plan.rows, sampling, plan.settings, plan.objective, rewards, scorers, bench.seed
    )
    if plan.settings.epochs * plan.settings.minibatches > 1:
        source = ReusedDraws(source, plan.settings.epochs, plan.settings.minibatches, bench.seed)
    with rewards:
        return run(trainee, plan.objective, source, plan.pace, factors, reference=frozen)


def judge_by_text(policy: Policy, score: Callable[[str], float]) -> Judge:
    """A judge that reads the text of a completion only."""

    def judge(prompts: Sequence[tuple[int, ...]], groups: Sequence[Sequence[Completion]]) -> list[list[float]]:
        return [[score(decode(policy, one)) for one in group] for group in groups]

    return judge
