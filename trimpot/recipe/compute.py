"""Floating-point operations of stages: what runs that are compared at equal compute are matched by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trimpot.models.policy import Policy
from trimpot.recipe.names import named_stage
from trimpot.rollout.rewards import Judge, RewardModelJudge
from trimpot.store.run_folder import RunFolder

FORWARD, BACKWARD = 2, 4
"""Operations per parameter and token (arXiv 2001.08361, sec. 2.1; attention and frozen weights are not set apart)."""


@dataclass(frozen=True)
class Weights:
    """How many weights a token of a stage meets.

    ``trained``: forward and backward (policy, critic); ``sampled``: when it is drawn; ``scored``: without gradient
    (reference, critic before the update, teacher); ``judged``: by the reward models together, each of which reads it.
    """

    trained: float
    sampled: float
    scored: float = 0.0
    judged: float = 0.0


def weights_of(model: Any) -> int:
    """The number of a model's weights; those in 4 bits, two to a byte, count one by one."""
    return sum(
        value.quant_state.shape.numel() if getattr(value, "quant_state", None) is not None else value.numel()
        for value in model.parameters()
    )


def judge_weights(judges: Iterable[Judge]) -> int:
    """The number of weights of all reward models among what scores completions."""
    found = [judge.models for judge in judges if isinstance(judge, RewardModelJudge)]
    return sum(weights_of(one.model) for models in found for one in models)


def training_flops(policy: Policy, tokens: float) -> float:
    """Operations of a forward and a backward pass over so many tokens."""
    return (FORWARD + BACKWARD) * weights_of(policy.model) * tokens


def sampling_flops(policy: Policy, tokens: float) -> float:
    """Operations of sampling or scoring so many tokens, prompts included."""
    return FORWARD * weights_of(policy.model) * tokens


def stage_flops(weights: Weights, metrics: Iterable[Mapping[str, float | None]]) -> float:
    """Operations of a training stage by its log: of the tokens that had a pass, those that generation ran (the greedy
    completions of ReMax among them), and those that reward models read.
    """
    total = 0.0
    for line in metrics:
        trained, sampled = line.get("num_pass_tokens") or 0.0, line.get("num_rollout_tokens") or 0.0
        total += ((FORWARD + BACKWARD) * weights.trained + FORWARD * weights.scored) * trained
        total += FORWARD * (weights.sampled * sampled + weights.judged * (line.get("num_judged_tokens") or 0.0))
    return total


def flops_of_stage(run: RunFolder, name: str) -> float:
    """What a finished stage took, and the data stages whose rows it read, one after the other."""
    record = run.stage(name).record()
    source = named_stage(record["settings"].get("data") or record["settings"].get("prompts"))
    return float(record["flops"]) + (0.0 if source is None else flops_of_stage(run, source))
