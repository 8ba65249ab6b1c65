"""REINFORCE++: the whole draw is the baseline, and the KL is paid token by token.

Shape suffixes: N targets, S sequences (completions).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from trimpot.core.settings import setting
from trimpot.core.tensors import LossOut, Streams, Term
from trimpot.objectives.policy_gradient.advantages import check_rewards, group_advantages
from trimpot.objectives.policy_gradient.estimators import discounted_returns, token_rewards, whiten
from trimpot.objectives.policy_gradient.importance import (
    behaviour_of,
    importance_cap_setting,
    importance_needs,
    importance_setting,
)
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
class ReinforcePlusPlus:
    """REINFORCE with PPO's clipping and token-level KL, its returns normalised over the whole draw; no critic.

    Equation: L = −1/N Σₙ wₙ min(ρₙ Aₙ, clip(ρₙ, 1 − ε_low, 1 + ε_high) Aₙ), Aₙ = (Gₙ − mean(G)) / √(var(G) + 1e-8),
        Gₙ = Σ_{m ≥ n} γᵐ⁻ⁿ rₘ, rₘ = [m is the last token] · r − k log(π_old(yₘ)/π_ref(yₘ)).
        N is the number of tokens; ρₙ = π(yₙ)/π_sampler(yₙ) is the ratio of token n and wₙ = 1; with ``importance``
        ρₙ = π/π_old and wₙ is π_old/π_sampler, bounded (see ``importance_weights``). r is the reward of the completion,
        with ``baseline`` "group" less its group's mean; m runs to the completion's end; mean and var run over all
        tokens of the draw; π_old is the policy that drew; k is ``kl``, γ ``discount``; ε_low, ε_high are
        ``clip_low``, ``clip_high``.

    Shapes: logprob_N, sampler_logprob_N, old_logprob_N, reference_logprob_N, advantage_N, entropy_N [N].
    Units: log-probs in nats per token; advantages in standard deviations; ``kl`` in units of the reward per nat.
    Raises: ValueError when a needed stream is missing or has the wrong length.
    Edge cases: no completion: the loss is 0 and every statistic None. An unscored completion has advantages 0 and no
        part in mean and var. Returns that are all equal: advantages 0. Log ratios are cut off at +20 and have no
        gradient above it. A long completion has more part in mean and var than a short one.
    Source: arXiv 2501.03262. Normalisation as OpenRLHF 0.11 (see ``whiten``). For ``baseline`` "group" the KL stays in
        the reward, as in ms-swift 4.4.
    Fails when: see card reinforce_plus_plus. Prompts of very different difficulty share a draw (``baseline`` "none"
        rewards easy prompts); all rewards are equal and only the KL is left, scaled up to variance 1.

    Example: ratios 1, 1.5 and 0.5, advantages 1, 1 and −1, clip 0.2: the second is clipped to 1.2, the third to 0.8:

        >>> from torch import log, tensor, zeros
        >>> logprob_N, advantage_N = log(tensor([1.0, 1.5, 0.5])), tensor([1.0, 1.0, -1.0])
        >>> sequence_N = tensor([0, 1, 2])
        >>> streams = Streams(sequence_N, 3, logprob_N, sampler_logprob_N=zeros(3), advantage_N=advantage_N)
        >>> round(-(1 * 1 + 1.2 * 1 + 0.8 * -1) / 3, 4)
        -0.4667
        >>> round(ReinforcePlusPlus()(streams).loss().item(), 4)
        -0.4667
    """

    name: ClassVar[str] = "reinforce_plus_plus"
    stage: ClassVar[str] = "policy_gradient"
    skips_idle: ClassVar[bool] = True

    clip_low: float = clip_low_setting(origin="arXiv 1707.06347, as OpenRLHF eps_clip")
    clip_high: float = clip_high_setting(origin="arXiv 1707.06347, as OpenRLHF eps_clip")
    kl: float = kl_setting(0.01, "weight of the KL in the reward; 0 needs no reference", "OpenRLHF init_kl_coef")
    discount: float = setting(
        1.0, "γ: what a reward counts one token earlier", "OpenRLHF gamma", above=0.0, at_most=1.0
    )
    baseline: str = setting(
        "none",
        "what is taken from the reward before the draw is normalised: none, or the group's mean",
        "arXiv 2501.03262; group is its variant with baseline",
        choices=("none", "group"),
    )
    importance: str = importance_setting()
    importance_cap: float = importance_cap_setting()

    @property
    def needs(self) -> tuple[str, ...]:
        return ("logprob_N", "sampler_logprob_N", "advantage_N", *importance_needs(self.importance))

    @property
    def rollout_needs(self) -> tuple[str, ...]:
        reference = ("reference_logprob_N",) if self.kl > 0 else ()
        return (*reference, *importance_needs(self.importance))

    @property
    def smallest_group(self) -> int:
        return 2 if self.baseline == "group" else 1

    def advantages(self, rollouts: Rollouts) -> Mapping[str, Tensor]:
        check_rewards(rollouts.reward_S, rollouts.groups, self.smallest_group)
        reward_S, sequence_N = rollouts.reward_S, rollouts.sequence_N
        if self.baseline == "group":
            reward_S = group_advantages(reward_S, rollouts.groups, "none")
        reward_N = token_rewards(reward_S, sequence_N, kl_penalty(rollouts, self.kl, "k1"))
        scored_N = ~rollouts.reward_S.isnan()[sequence_N]
        return {"advantage_N": whiten(discounted_returns(reward_N, sequence_N, self.discount), scored_N)}

    def __call__(self, streams: Streams) -> LossOut:
        logprob_N, advantage_N = require(streams, self.name, "logprob_N", "advantage_N")
        behaviour = behaviour_of(streams, self.name, self.importance, self.importance_cap)
        ratio_N = limited_exp(logprob_N - behaviour.logprob_N)
        gain_N = behaviour.weight_N * clipped_surrogate(ratio_N, advantage_N, self.clip_low, self.clip_high)

        over = normaliser(streams, logprob_N, "token")
        stats = {
            **behaviour.stats,
            **clip_statistics(ratio_N, advantage_N, self.clip_low, self.clip_high, over),
            **(kl_statistic(streams, self.name, "k1") if self.kl > 0 else {}),
        }
        return loss_out(streams, self.name, [Term("policy", 1.0, -over.total(gain_N), over.count)], stats)
