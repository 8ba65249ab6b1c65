"""Decoupled clip and dynamic sampling policy optimisation: its loss and its penalty on overlong completions.

Shape suffix: N targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from trimpot.core.errors import UsageError
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
        "clip_high": 0.28,  # arXiv 2503.14476 sec. 4.1
        "group": 16,  # sec. 4.1: 16 responses for each prompt
        "batch": 512,  # sec. 4.1: prompts
        "max_tokens": 20480,  # sec. 4.1: 16,384 and a buffer of 4,096
    },
    "trl": {
        "clip_high": 0.2,  # TRL 1.16 GRPOConfig.epsilon_high (None: epsilon)
        "group": 8,  # GRPOConfig.num_generations
        "batch": 1,  # prompts: TrainingArguments.per_device_train_batch_size of 8 completions, on one device, over 8
        "max_tokens": 512,  # GRPOConfig.max_completion_length
    },
}
"""Recipe settings in which the paper and TRL differ; both clip at 0.2 below and have no KL term."""


@dataclass(frozen=True)
class DAPO:
    """GRPO with more room for unlikely tokens to become likely, every token counting the same, and no KL term.

    Equation: L = −1/N Σₙ wₙ min(ρₙ Aₙ, clip(ρₙ, 1 − ε_low, 1 + ε_high) Aₙ), Aₙ = (r − mean(r)) / (std(r) + 1e-4).
        N is the number of tokens; ρₙ = π(yₙ)/π_sampler(yₙ) is the ratio of token n and wₙ = 1; with ``importance``
        ρₙ = π/π_old and wₙ is π_old/π_sampler, bounded (see ``importance_weights``). r is the reward of its
        completion, mean and std those of the group; ε_low, ε_high are ``clip_low``, ``clip_high``.
        The method's other half is in the rollouts: groups without variance are sampled again, and
        ``soft_overlong_penalty`` is added to the reward.

    Shapes: logprob_N, sampler_logprob_N, old_logprob_N, advantage_N, entropy_N [N].
    Units: log-probs in nats per token; advantages in standard deviations.
    Raises: ValueError when a needed stream is missing or has the wrong length.
    Edge cases: no completion: the loss is 0 and every statistic None. Log ratios are cut off at +20 and have no
        gradient above it.
    Source: arXiv 2503.14476 eq. 8 and 9. TRL 1.16 ``GRPOTrainer._compute_loss`` (loss type "dapo", epsilon_high 0.28,
        beta 0) gives the same values within the cut-off of log ratios; it does not sample groups again.
    Fails when: see card dapo. As GRPO (all rewards of a group equal; entropy goes to 0); completions grow to the limit.

    Example: ratios 1, 1.5 and 0.5, advantages 1, 1 and −1: the second is clipped to 1.28, the third to 0.8:

        >>> from torch import log, tensor, zeros
        >>> logprob_N, advantage_N = log(tensor([1.0, 1.5, 0.5])), tensor([1.0, 1.0, -1.0])
        >>> sequence_N = tensor([0, 1, 2])
        >>> streams = Streams(sequence_N, 3, logprob_N, sampler_logprob_N=zeros(3), advantage_N=advantage_N)
        >>> round(-(1 * 1 + 1.28 * 1 + 0.8 * -1) / 3, 4)
        -0.4933
        >>> round(DAPO()(streams).loss().item(), 4)
        -0.4933
    """

    name: ClassVar[str] = "dapo"
    stage: ClassVar[str] = "policy_gradient"
    smallest_group: ClassVar[int] = 2
    skips_idle: ClassVar[bool] = True

    clip_low: float = clip_low_setting(origin="arXiv 2503.14476 sec. 4.1")
    clip_high: float = clip_high_setting(0.28, "arXiv 2503.14476 sec. 4.1")
    importance: str = importance_setting()
    importance_cap: float = importance_cap_setting()

    @property
    def needs(self) -> tuple[str, ...]:
        return ("logprob_N", "sampler_logprob_N", "advantage_N", *importance_needs(self.importance))

    @property
    def rollout_needs(self) -> tuple[str, ...]:
        return importance_needs(self.importance)

    def advantages(self, rollouts: Rollouts) -> Mapping[str, Tensor]:
        return group_relative(rollouts, "group")

    def __call__(self, streams: Streams) -> LossOut:
        logprob_N, advantage_N = require(streams, self.name, "logprob_N", "advantage_N")
        behaviour = behaviour_of(streams, self.name, self.importance, self.importance_cap)
        ratio_N = limited_exp(logprob_N - behaviour.logprob_N)
        gain_N = behaviour.weight_N * clipped_surrogate(ratio_N, advantage_N, self.clip_low, self.clip_high)

        over = normaliser(streams, logprob_N, "token")
        clipping = clip_statistics(ratio_N, advantage_N, self.clip_low, self.clip_high, over)
        terms = [Term("policy", 1.0, -over.total(gain_N), over.count)]
        return loss_out(streams, self.name, terms, {**behaviour.stats, **clipping})


def soft_overlong_penalty(length: int, limit: int, buffer: int) -> float:
    """What is added to the reward of a completion that comes near the length limit.

    Equation: 0 up to limit − buffer tokens; (limit − buffer − length) / buffer up to limit; −1 beyond it.

    Units: tokens; the result in those of the reward, in [−1, 0].
    Raises: UsageError when the buffer is not between 1 and the limit.
    Edge cases: a completion that was cut off at the limit gets −1.
    Source: arXiv 2503.14476 eq. 13; TRL 1.16 ``get_soft_overlong_punishment`` is the same.

    Example: limit 20, buffer 8, length 14: (20 − 8 − 14) / 8 = −0.25:

        >>> soft_overlong_penalty(14, limit=20, buffer=8)
        -0.25
    """
    if not 1 <= buffer <= limit:
        raise UsageError("overlong_buffer", f"{buffer} with a limit of {limit} tokens", "Give 1 up to the limit.")
    if length <= limit - buffer:
        return 0.0
    return (limit - buffer - length) / buffer if length <= limit else -1.0
