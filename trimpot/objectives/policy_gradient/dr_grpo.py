"""GRPO done right: without the two biases, towards long wrong answers and towards easy or hard prompts.

Shape suffix: N targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from trimpot.core.settings import setting
from trimpot.core.tensors import LossOut, Streams, Term
from trimpot.objectives.policy_gradient.advantages import group_relative
from trimpot.objectives.policy_gradient.importance import (
    behaviour_of,
    importance_cap_setting,
    importance_needs,
    importance_setting,
)
from trimpot.objectives.policy_gradient.rollouts import Rollouts
from trimpot.objectives.policy_gradient.surrogate import (
    clip_high_setting,
    clip_low_setting,
    clip_statistics,
    clipped_surrogate,
    limited_exp,
    loss_out,
    normaliser,
)
from trimpot.objectives.require import require

PRESETS: Mapping[str, Mapping[str, float | int | str]] = {
    "paper": {
        "group": 8,  # num_samples of sail-sg/understand-r1-zero, as TRL's paper_index.md gives it
        "max_tokens": 3000,  # generate_max_length, from the same place
    },
    "trl": {
        "group": 8,  # TRL 1.16 GRPOConfig.num_generations
        "max_tokens": 512,  # GRPOConfig.max_completion_length
    },
}
"""Recipe settings in which the paper's code and TRL differ, with the group, in which they agree."""


@dataclass(frozen=True)
class DrGRPO:
    """GRPO without division by the completion's length and by the group's standard deviation.

    Equation: L = −1/(S · M) Σₙ wₙ min(ρₙ Aₙ, clip(ρₙ, 1 − ε_low, 1 + ε_high) Aₙ), Aₙ = r − mean(r).
        ρₙ = π(yₙ)/π_sampler(yₙ) is the ratio of token n and wₙ = 1; with ``importance`` ρₙ = π/π_old and wₙ is
        π_old/π_sampler, bounded (see ``importance_weights``). r is the reward of its completion, mean(r) that of the
        group; S is the number of completions, M ``completion_limit``; ε_low, ε_high are ``clip_low``, ``clip_high``.

    Shapes: logprob_N, sampler_logprob_N, old_logprob_N, advantage_N, entropy_N [N].
    Units: log-probs in nats per token; advantages those of the reward.
    Raises: ValueError when a needed stream is missing or has the wrong length.
    Edge cases: no completion: the loss is 0 and every statistic None. A completion without targets counts in S and
        adds 0. Log ratios are cut off at +20 and have no gradient above it. M scales the loss only.
    Source: arXiv 2503.20783 sec. 3. TRL 1.16 ``GRPOTrainer._compute_loss`` (loss type "dr_grpo", scale_rewards
        "none", beta 0) gives the same values within the cut-off of log ratios.
    Fails when: see card dr_grpo. As GRPO (all rewards of a group equal; entropy goes to 0); a group with large rewards
        outweighs the others, as nothing scales them.

    Example: ratios 1, 1.5 and 0.5, advantages 1, 1 and −1, clip 0.2, three completions of at most 10 tokens:

        >>> from torch import log, tensor, zeros
        >>> logprob_N, advantage_N = log(tensor([1.0, 1.5, 0.5])), tensor([1.0, 1.0, -1.0])
        >>> sequence_N = tensor([0, 1, 2])
        >>> streams = Streams(sequence_N, 3, logprob_N, sampler_logprob_N=zeros(3), advantage_N=advantage_N)
        >>> round(-(1 * 1 + 1.2 * 1 + 0.8 * -1) / (3 * 10), 4)
        -0.0467
        >>> round(DrGRPO(completion_limit=10)(streams).loss().item(), 4)
        -0.0467
    """

    name: ClassVar[str] = "dr_grpo"
    stage: ClassVar[str] = "policy_gradient"
    smallest_group: ClassVar[int] = 2
    skips_idle: ClassVar[bool] = True
    normalisation: ClassVar[str] = "fixed"

    clip_low: float = clip_low_setting()
    clip_high: float = clip_high_setting()
    completion_limit: int = setting(
        512,
        "M: tokens a completion may have; a recipe sets it to max_tokens",
        "TRL 1.16 max_completion_length",
        at_least=1,
    )
    importance: str = importance_setting()
    importance_cap: float = importance_cap_setting()

    @property
    def needs(self) -> tuple[str, ...]:
        return ("logprob_N", "sampler_logprob_N", "advantage_N", *importance_needs(self.importance))

    @property
    def rollout_needs(self) -> tuple[str, ...]:
        return importance_needs(self.importance)

    def advantages(self, rollouts: Rollouts) -> Mapping[str, Tensor]:
        return group_relative(rollouts, "none")

    def __call__(self, streams: Streams) -> LossOut:
        logprob_N, advantage_N = require(streams, self.name, "logprob_N", "advantage_N")
        behaviour = behaviour_of(streams, self.name, self.importance, self.importance_cap)
        ratio_N = limited_exp(logprob_N - behaviour.logprob_N)
        gain_N = behaviour.weight_N * clipped_surrogate(ratio_N, advantage_N, self.clip_low, self.clip_high)

        over = normaliser(streams, logprob_N, self.normalisation, self.completion_limit)
        tokens = normaliser(streams, logprob_N, "token")
        clipping = clip_statistics(ratio_N, advantage_N, self.clip_low, self.clip_high, tokens)
        terms = [Term("policy", 1.0, -over.total(gain_N), over.count)]
        return loss_out(streams, self.name, terms, {**behaviour.stats, **clipping})
