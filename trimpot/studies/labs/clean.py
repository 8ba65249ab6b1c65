"""Runs without a fault, one for each kind of training: every detector must stay silent on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from trimpot.core.rows import FeedbackRow
from trimpot.data.template import ChatTemplate
from trimpot.models.student import Student
from trimpot.objectives.distill.gkd import GKD
from trimpot.objectives.policy_gradient.grpo import GRPO
from trimpot.objectives.policy_gradient.ppo import PPO
from trimpot.objectives.preference.dpo import DPO
from trimpot.objectives.preference.kto import KTO
from trimpot.objectives.preference.simpo import SimPO
from trimpot.objectives.reward.bradley_terry import BradleyTerry
from trimpot.rollout.distill import DistillSettings, DistillSource
from trimpot.rollout.settings import RolloutSettings, Sampling
from trimpot.studies import reversal
from trimpot.studies.labs.bench import (
    BATCH,
    GROUP,
    Bench,
    Metrics,
    Pace,
    Rollout,
    preference,
    reward,
    rollouts,
    run,
    samples_of,
    supervised,
)

SFT = Pace(steps=80, learning_rate=1e-3)
PAIRS = Pace(steps=40, learning_rate=1e-4)
REWARD = Pace(steps=40, learning_rate=3e-4)
POLICY = Pace(steps=40, learning_rate=2e-4)


def sft(bench: Bench) -> list[Metrics]:
    policy = bench.untrained()
    return supervised(bench, policy, samples_of(bench.chats(), policy), SFT)


def dpo(bench: Bench) -> list[Metrics]:
    return preference(bench, reversal.pair_samples(bench.pairs(), bench.base()), DPO(), PAIRS)


def reward_model(bench: Bench) -> list[Metrics]:
    return reward(bench, reversal.pair_samples(bench.easy_pairs(), bench.base()), BradleyTerry(0.01), REWARD)


def grpo(bench: Bench) -> list[Metrics]:
    return rollouts(bench, Rollout(GRPO(kl=0.04), POLICY, bench.prompts()))


def ppo(bench: Bench) -> list[Metrics]:
    return rollouts(bench, Rollout(PPO(), POLICY, bench.prompts()))


def grpo_reused(bench: Bench) -> list[Metrics]:
    settings = RolloutSettings(group=GROUP, epochs=2, minibatches=2)
    return rollouts(bench, Rollout(GRPO(), replace(POLICY, learning_rate=1e-4), bench.prompts(), settings))


def simpo(bench: Bench) -> list[Metrics]:
    return preference(bench, reversal.pair_samples(bench.pairs(), bench.base()), SimPO(), PAIRS)


def kto(bench: Bench) -> list[Metrics]:
    rows = [
        FeedbackRow(pair.prompt, side, desirable)
        for pair in bench.pairs()
        for side, desirable in ((pair.chosen, True), (pair.rejected, False))
    ]
    return preference(bench, samples_of(rows, bench.base()), KTO(), PAIRS)


def distillation(bench: Bench) -> list[Metrics]:
    """A model fine-tuned for a short while learns from the base model, half of the time on its own samples."""
    student, teacher, objective = bench.untrained(), bench.base(), GKD()
    supervised(bench, student, samples_of(bench.chats(), student), SFT)
    sampling = Sampling(ChatTemplate(student.tokenizer), reversal.SAMPLING, BATCH)
    source = DistillSource(student, bench.chats(), sampling, DistillSettings("base"), reversal.MAX_LENGTH, bench.seed)
    return run(Student(student, teacher, objective.divergence), objective, source, SFT)


CLEAN: dict[str, Callable[[Bench], list[Metrics]]] = {
    "sft": sft,
    "dpo": dpo,
    "reward": reward_model,
    "grpo": grpo,
    "grpo, four updates on a draw": grpo_reused,
    "ppo": ppo,
    "simpo": simpo,
    "kto": kto,
    "distillation": distillation,
}
"""Name of a clean run -> the run."""
