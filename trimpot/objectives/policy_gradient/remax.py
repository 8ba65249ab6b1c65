"""ReMax: the reward of the prompt's most likely completion is the baseline.

Shape suffixes: N targets, S sequences (completions).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from trimpot.core.tensors import LossOut, Streams, Term
from trimpot.objectives.policy_gradient.advantages import reward_minus_greedy
from trimpot.objectives.policy_gradient.estimators import discounted_returns
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


@dataclass(frozen=True)
class ReMax:
    """REINFORCE with the greedy completion's reward as baseline: one sample per prompt, no critic.

    Equation: L = −1/S Σₙ min(ρₙ Aₙ, clip(ρₙ, 1 − ε_low, 1 + ε_high) Aₙ), ρₙ = π(yₙ)/π_sampler(yₙ),
        Aₙ = r − r_greedy − k Σ_{m ≥ n} log(π_old(yₘ)/π_ref(yₘ)).
        The sum over n is that over all tokens, S the number of completions; r is the reward of token n's completion,
        r_greedy that of the prompt's greedy one; m runs over the tokens from n to the completion's end; π_old is the
        policy that drew them; k is ``kl``; ε_low, ε_high are ``clip_low``, ``clip_high``. In the first update on a
        draw ρ = 1 and the gradient is the paper's, −1/S Σₙ Aₙ ∇log π(yₙ); the paper has no ratio.

    Shapes: logprob_N, sampler_logprob_N, reference_logprob_N, advantage_N, entropy_N [N].
    Units: log-probs in nats per token; advantages those of the reward; ``kl`` in units of the reward per nat.
    Raises: ValueError when a needed stream is missing or has the wrong length, or rollouts have no greedy reward.
    Edge cases: no completion: the loss is 0 and every statistic None. Either reward NaN: the completion's advantages
        are 0. Log ratios are cut off at +20 and have no gradient above it. Long completions weigh more, as their
        tokens are summed.
    Source: arXiv 2310.10505 algorithm 1. The KL from each token on is verl's (``compute_remax_outcome_advantage``), as
        is the clipped ratio for later updates.
    Fails when: see card remax. Sampled and greedy completions get the same reward (A = 0); the policy has become
        deterministic (``entropy``), so that they are the same text.

    Example: ratios 1, 1 and 1, advantages 1, 1 and −0.5, two completions:

        >>> from torch import tensor, zeros
        >>> sequence_N, advantage_N = tensor([0, 0, 1]), tensor([1.0, 1.0, -0.5])
        >>> streams = Streams(sequence_N, 2, zeros(3), sampler_logprob_N=zeros(3), advantage_N=advantage_N)
        >>> round(-(1 * 1 + 1 * 1 + 1 * -0.5) / 2, 4)
        -0.75
        >>> round(ReMax()(streams).loss().item(), 4)
        -0.75
    """

    name: ClassVar[str] = "remax"
    stage: ClassVar[str] = "policy_gradient"
    needs: ClassVar[tuple[str, ...]] = ("logprob_N", "sampler_logprob_N", "advantage_N")
    smallest_group: ClassVar[int] = 1
    skips_idle: ClassVar[bool] = True

    clip_low: float = clip_low_setting(origin="arXiv 1707.06347, as TRL 1.16; the paper has no clip")
    clip_high: float = clip_high_setting(origin="arXiv 1707.06347, as TRL 1.16; the paper has no clip")
    kl: float = kl_setting(0.0, "weight of the KL in the reward; 0 needs no reference", "ours")

    @property
    def rollout_needs(self) -> tuple[str, ...]:
        return ("greedy_reward_P", "reference_logprob_N") if self.kl > 0 else ("greedy_reward_P",)

    def advantages(self, rollouts: Rollouts) -> Mapping[str, Tensor]:
        if rollouts.greedy_reward_P is None:
            raise ValueError("remax needs the rollouts' greedy_reward_P")
        sequence_N = rollouts.sequence_N
        difference_S = rollouts.reward_S - rollouts.greedy_reward_P.repeat_interleave(
            sequence_N.new_tensor(rollouts.groups)
        )
        advantage_N = reward_minus_greedy(rollouts.reward_S, rollouts.greedy_reward_P, rollouts.groups)[sequence_N]
        to_come_N = discounted_returns(kl_penalty(rollouts, self.kl, "k1"), sequence_N, 1.0)
        return {"advantage_N": (advantage_N - to_come_N).masked_fill(difference_S.isnan()[sequence_N], 0.0)}

    def __call__(self, streams: Streams) -> LossOut:
        logprob_N, advantage_N = require(streams, self.name, "logprob_N", "advantage_N")
        behaviour = behaviour_of(streams, self.name, "none", 1.0)
        ratio_N = limited_exp(logprob_N - behaviour.logprob_N)
        gain_N = clipped_surrogate(ratio_N, advantage_N, self.clip_low, self.clip_high)

        # Divided by the number of completions: a limit of 1.
        over = normaliser(streams, logprob_N, "fixed", 1)
        tokens = normaliser(streams, logprob_N, "token")
        stats = {
            **behaviour.stats,
            **clip_statistics(ratio_N, advantage_N, self.clip_low, self.clip_high, tokens),
            **(kl_statistic(streams, self.name, "k1") if self.kl > 0 else {}),
        }
        return loss_out(streams, self.name, [Term("policy", 1.0, -over.total(gain_N), over.count)], stats)
