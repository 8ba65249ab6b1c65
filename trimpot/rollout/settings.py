"""Settings of rollouts: how many completions a prompt gets, who scores them, and how they are used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trimpot.core.errors import UsageError
from trimpot.core.settings import setting
from trimpot.data.template import ChatTemplate
from trimpot.models.policy import Policy
from trimpot.objectives.policy_gradient.rollouts import PolicyGradient
from trimpot.rollout.sampling import SamplingSettings


@dataclass(frozen=True)
class RolloutSettings:
    """How many completions a prompt gets, who scores them, and how they are used."""

    group: int = setting(8, "completions of each prompt", "TRL's GRPOConfig; arXiv 2402.03300: 64", at_least=1)
    rewards: Mapping[str, float] | None = setting(
        None, "reward name: weight (a verifier, file.py:function, stage:NAME or a model folder); default: the row's"
    )
    gold: str | None = setting(
        None, "a trusted one of the rewards (its weight may be 0): logged beside the sum, to show when they part"
    )
    reward_time_limit: float = setting(10.0, "seconds that a reward function may take for one completion", above=0)
    turns: int = setting(1, "answers that a conversation with an environment may have", at_least=1)
    environment: str | None = setting(
        None, "what replies to an answer: retry, calculator or file.py:Class; default: nothing, one answer"
    )
    dynamic_sampling: int = setting(
        1, "rounds of prompts until enough groups have differing rewards; 1: take groups as they are",
        "arXiv 2503.14476 sec. 3.2", at_least=1,
    )  # fmt: skip
    overlong_buffer: int = setting(
        0, "tokens before max_tokens in which the reward falls; 0: off", "arXiv 2503.14476 eq. 13: 4096 of 20480",
        at_least=0,
    )  # fmt: skip
    overlong_penalty: float = setting(
        1.0, "how far it falls, in units of the reward", "arXiv 2503.14476 eq. 13", at_least=0
    )
    epochs: int = setting(1, "passes over the completions of a draw", "TRL's num_iterations", at_least=1)
    minibatches: int = setting(1, "optimiser steps of one pass", at_least=1)
    mask_truncated: bool = setting(
        False, "leave completions that were cut off out of the loss", "arXiv 2503.14476 sec. 3.4; TRL"
    )


@dataclass(frozen=True)
class Sampling:
    """How a source samples: template, settings, prompts of a draw, and tokens of one pass without gradient.

    ``sampler`` is another policy to sample from (older weights, another number type); None: the one that trains.
    """

    template: ChatTemplate
    settings: SamplingSettings
    prompts: int
    token_budget: int = 4096
    sampler: Policy | None = None


def check_together(
    sampling: SamplingSettings, prompts: int, settings: RolloutSettings, objective: PolicyGradient, where: str = ""
) -> None:
    """Refuses settings that are each in their range and cannot work together.

    ``prompts``: those of a draw. ``where``: the stage, to be named before the field.

    Raises:
        UsageError: greedy sampling, a group too small for the objective or for dynamic sampling, turns without an
            environment, an overlong buffer of max_tokens or more, more minibatches than prompts.
    """

    def refuse(field: str, problem: str, mend: str) -> None:
        raise UsageError(f"{where}.{field}" if where else field, problem, mend)

    if sampling.temperature == 0:
        refuse("temperature", "0 gives a group of equal completions", "Sample at 1.0.")
    if settings.group < objective.smallest_group:
        problem = f"{settings.group} completion(s) of a prompt give {objective.name} nothing to compare"
        refuse("group", problem, f"Give at least {objective.smallest_group}.")
    if settings.dynamic_sampling > 1 and settings.group < 2:
        refuse("group", "1 completion has no differing rewards to sample for", "Leave dynamic_sampling at 1.")
    if settings.turns > 1 and settings.environment is None:
        problem = f"{settings.turns} turns, and nothing replies to an answer"
        refuse("environment", problem, "Name one, or leave turns at 1.")
    if settings.overlong_buffer >= sampling.max_tokens:
        problem = f"{settings.overlong_buffer} is no less than max_tokens, {sampling.max_tokens}"
        refuse("overlong_buffer", problem, "Lower it, or raise max_tokens.")
    if settings.minibatches > prompts:
        problem = f"{settings.minibatches} of a draw of {prompts} prompts"
        refuse("minibatches", problem, f"Give at most {prompts}, or raise batch.")
