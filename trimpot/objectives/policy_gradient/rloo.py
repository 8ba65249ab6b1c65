"""REINFORCE leave-one-out: the other completions of a prompt are the baseline, the whole completion is one action.

Shape suffixes: N targets, S sequences (completions).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from trimpot.core.tensors import LossOut, Streams, Term
from trimpot.objectives.policy_gradient.advantages import leave_one_out
from trimpot.objectives.policy_gradient.importance import behaviour_of
from trimpot.objectives.policy_gradient.kl import kl_penalty, kl_setting, kl_statistic
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
        "kl": 0.03,  # arXiv 2402.14740 app. C, as TRL's paper_index.md gives it
        "group": 2,  # the paper has 2 and 4
        "learning_rate": 1e-6,  # app. C
    },
    "trl": {
        "kl": 0.05,  # TRL 1.16 RLOOConfig.beta
        "group": 2,  # RLOOConfig.num_generations
        "learning_rate": 1e-6,  # RLOOConfig.learning_rate
    },
}
"""Recipe settings in which the paper and TRL differ, with the group and the learning rate, in which they agree."""


@dataclass(frozen=True)
class RLOO:
    """REINFORCE on whole completions, each compared with the others of its prompt; the KL is part of the reward.

    Equation: L = −1/S Σᵢ min(ρᵢ Aᵢ, clip(ρᵢ, 1 − ε_low, 1 + ε_high) Aᵢ), ρᵢ = π(yᵢ)/π_sampler(yᵢ),
        Aᵢ = Rᵢ − 1/(K − 1) Σ_{j ≠ i} Rⱼ, Rᵢ = rᵢ − k log(π_old(yᵢ)/π_ref(yᵢ)).
        π(yᵢ) is the probability of the whole completion i, the product over its tokens; rᵢ its reward; K is the
        number of completions of its prompt, S of all; π_old is the policy that drew yᵢ; k is ``kl``; ε_low, ε_high
        are ``clip_low``, ``clip_high``. In the first update on a draw ρ = 1 and the gradient is the paper's,
        −1/S Σᵢ Aᵢ ∇log π(yᵢ); the paper has no ratio, which a second update on the draw needs.

    Shapes: logprob_N, sampler_logprob_N, reference_logprob_N, advantage_N, entropy_N [N]; the advantage of a
        completion is that of each of its tokens.
    Units: log-probs in nats per token; ``kl`` in units of the reward per nat.
    Raises: ValueError when a needed stream is missing or has the wrong length.
    Edge cases: no completion: the loss is 0 and every statistic None. A completion without targets counts in S and
        adds 0. Log ratios are cut off at +20 and have no gradient above it.
    Source: arXiv 2402.14740. TRL 1.16 ``RLOOTrainer._compute_loss`` gives the same loss within the cut-off, and its
        advantages are ours. The metric ``kl`` is k1 and can be negative, as in TRL.
    Fails when: see card rloo. All rewards of a group are equal; K = 2 makes a noisy baseline; the product of many
        ratios leaves the clip after one update (``clip_ratio/region_mean``).

    Example: one completion with ratios 1 and 1.1 and advantage 1, ρ = 1 · 1.1; another with ratio 1, advantage −1:

        >>> from torch import log, tensor, zeros
        >>> logprob_N, advantage_N = log(tensor([1.0, 1.1, 1.0])), tensor([1.0, 1.0, -1.0])
        >>> sequence_N = tensor([0, 0, 1])
        >>> streams = Streams(sequence_N, 2, logprob_N, sampler_logprob_N=zeros(3), advantage_N=advantage_N)
        >>> round(-(1.1 * 1 + 1 * -1) / 2, 4)
        -0.05
        >>> round(RLOO()(streams).loss().item(), 4)
        -0.05
    """

    name: ClassVar[str] = "rloo"
    stage: ClassVar[str] = "policy_gradient"
    needs: ClassVar[tuple[str, ...]] = ("logprob_N", "sampler_logprob_N", "advantage_N")
    smallest_group: ClassVar[int] = 2
    skips_idle: ClassVar[bool] = True

    clip_low: float = clip_low_setting()
    clip_high: float = clip_high_setting()
    kl: float = kl_setting(
        0.05, "weight of the KL in the reward; 0 needs no reference", "TRL 1.16 beta; arXiv 2402.14740 app. C: 0.03"
    )

    @property
    def rollout_needs(self) -> tuple[str, ...]:
        return ("reference_logprob_N",) if self.kl > 0 else ()

    def advantages(self, rollouts: Rollouts) -> Mapping[str, Tensor]:
        penalty_N = kl_penalty(rollouts, self.kl, "k1")
        penalty_S = rollouts.reward_S.new_zeros(len(rollouts.reward_S)).index_add(
            0, rollouts.sequence_N, penalty_N.to(rollouts.reward_S.dtype)
        )
        advantage_S = leave_one_out(rollouts.reward_S - penalty_S, rollouts.groups)
        return {"advantage_N": advantage_S[rollouts.sequence_N]}

    def __call__(self, streams: Streams) -> LossOut:
        logprob_N, advantage_N = require(streams, self.name, "logprob_N", "advantage_N")
        behaviour = behaviour_of(streams, self.name, "none", 1.0)
        ratio_S = limited_exp(streams.sum_by_sequence(logprob_N - behaviour.logprob_N))
        ratio_N = ratio_S[streams.sequence_N]
        gain_N = clipped_surrogate(ratio_N, advantage_N, self.clip_low, self.clip_high)

        # The mean over a completion's equal tokens: one summand per completion.
        over = normaliser(streams, logprob_N, "sequence")
        stats = {
            **behaviour.stats,
            **clip_statistics(ratio_N, advantage_N, self.clip_low, self.clip_high, over),
            **(kl_statistic(streams, self.name, "k1") if self.kl > 0 else {}),
        }
        return loss_out(streams, self.name, [Term("policy", 1.0, -over.total(gain_N), over.count)], stats)
