"""Proximal policy optimisation with a critic.

Shape suffix: N targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from trimpot.core.errors import UsageError
from trimpot.core.settings import setting
from trimpot.core.stats import Stat
from trimpot.core.tensors import LossOut, Streams, Term, stat
from trimpot.objectives.policy_gradient.advantages import check_rewards
from trimpot.objectives.policy_gradient.estimators import generalized_advantages, token_rewards, whiten
from trimpot.objectives.policy_gradient.importance import (
    behaviour_of,
    importance_cap_setting,
    importance_needs,
    importance_setting,
)
from trimpot.objectives.policy_gradient.kl import (
    adapted_coefficient,
    kl_estimator_setting,
    kl_penalty,
    kl_setting,
    kl_statistic,
    kl_term,
)
from trimpot.objectives.policy_gradient.rollouts import Rollouts
from trimpot.objectives.policy_gradient.surrogate import (
    clip_statistics,
    clipped_surrogate,
    limited_exp,
    loss_out,
    normaliser,
)
from trimpot.objectives.require import require

COEFFICIENT = "kl_coefficient"
PRESETS: Mapping[str, Mapping[str, float | int | str]] = {
    "paper": {"kl": 0.02},  # arXiv 2203.02155 app. C.4 (InstructGPT), with clip 0.2 and no discount
    "trl": {"kl": 0.05},  # PPOConfig.kl_coef, with cliprange 0.2, lam 0.95, vf_coef 0.1; TRL 1.16 has no PPO any more
}
"""Recipe settings in which InstructGPT and TRL's PPO differ."""


@dataclass(frozen=True)
class PPO:
    """Raises the probability of tokens after which it went better than a critic expected, and trains that critic.

    Equation: L = −1/N Σₙ wₙ min(ρₙ Aₙ, clip(ρₙ, 1 − ε, 1 + ε) Aₙ) + c · 1/N Σₙ ½ max((Vₙ − Rₙ)², (Vₙᶜ − Rₙ)²),
        Vₙᶜ = Vₙ_old + clip(Vₙ − Vₙ_old, −ε_V, ε_V); with ``kl_in`` "loss" also k · 1/N Σₙ kₙ.
        N is the number of tokens; ρₙ = π(yₙ)/π_sampler(yₙ) is the ratio of token n and wₙ = 1; with ``importance``
        ρₙ = π/π_old and wₙ is π_old/π_sampler, bounded (see ``importance_weights``). Aₙ is the generalized advantage
        (see ``generalized_advantages``) over the rewards of single tokens, which are the completion's reward on its
        last token and, with ``kl_in`` "reward", −k kₙ on every token; whitened over the draw where
        ``whiten_advantages`` says so. Vₙ is the critic's value before token n, Vₙ_old before the update,
        Rₙ = Aₙ + Vₙ_old (A not whitened) its target. kₙ estimates KL(π‖π_ref) at yₙ (see ``kl_estimate``); k is ``kl``,
        or what became of it (see ``adapted_coefficient``) with a ``target_kl``; c is ``value_coefficient``, ε ``clip``,
        ε_V ``value_clip``.

    Shapes: logprob_N, sampler_logprob_N, old_logprob_N, reference_logprob_N, advantage_N, value_N, old_value_N,
        return_N, entropy_N [N].
    Units: log-probs and ``target_kl`` in nats per token; values those of the reward; ``kl`` in units of the reward per
        nat (kl_in "reward").
    Raises: UsageError when target_kl is given and kl is 0, which no factor changes, or when the KL is in the loss by
        the estimate k1, which has no pull. ValueError when a needed stream is missing or has the wrong length.
    Edge cases: no completion: the loss is 0 and every statistic None. An unscored completion has advantages 0, no part
        in the whitening, and its own values as returns. A completion that was cut off ends with value 0. Log ratios
        are cut off at +20 and have no gradient above it.
    Source: arXiv 1707.06347 eq. 7 and 9 (without the entropy bonus); arXiv 1506.02438 (advantages); arXiv 1909.08593
        (KL in the reward, its controller); value clipping: openai/baselines ppo2. The ½ and the maximum are those of
        TRL's PPOTrainer (removed from TRL 1.16) and of OpenRLHF.
    Fails when: see card ppo. The critic is worse than a constant (``value/explained_variance`` < 0); the KL blows up
        (``kl``); many ratios leave the clip (``clip_ratio/region_mean``).

    Example: ratio 1.5 (clipped to 1.2), advantage 1; value 0.6, before 0.1, so clipped to 0.3; return 1; c = 0.1:

        >>> from torch import log, tensor, zeros
        >>> streams = Streams(
        ...     tensor([0]), 1, log(tensor([1.5])), sampler_logprob_N=zeros(1), advantage_N=tensor([1.0]),
        ...     value_N=tensor([0.6]), old_value_N=tensor([0.1]), return_N=tensor([1.0])
        ... )
        >>> round(-1.2 * 1 + 0.1 * 0.5 * max((0.6 - 1) ** 2, (0.3 - 1) ** 2), 4)
        -1.1755
        >>> round(PPO()(streams).loss().item(), 4)
        -1.1755
    """

    name: ClassVar[str] = "ppo"
    stage: ClassVar[str] = "policy_gradient"
    smallest_group: ClassVar[int] = 1
    skips_idle: ClassVar[bool] = False

    clip: float = setting(
        0.2, "ε: the ratio has no effect outside 1 ± ε", "arXiv 1707.06347 sec. 6.1", above=0.0, at_most=1.0
    )
    value_clip: float | None = setting(
        0.2,
        "ε_V: how far a value may move from that before the update; empty: anywhere",
        "TRL cliprange_value",
        above=0.0,
    )
    value_coefficient: float = setting(0.1, "c: weight of the critic's loss", "TRL vf_coef", above=0.0)
    discount: float = setting(
        1.0, "γ: what a reward counts one token earlier", "arXiv 2203.02155 app. C.4; TRL gamma", above=0.0, at_most=1.0
    )
    gae_lambda: float = setting(0.95, "λ: 1 trusts the rewards, 0 the critic", "TRL lam", at_least=0.0, at_most=1.0)
    kl: float = kl_setting(0.05, "weight of the KL to the reference; 0 needs no reference", "TRL kl_coef")
    kl_in: str = setting(
        "reward", "where the KL is paid", "arXiv 1909.08593 sec. 2; TRL the same", choices=("reward", "loss")
    )
    kl_estimator: str = kl_estimator_setting("k1", "arXiv 1909.08593 eq. 2; TRL kl_estimator")
    target_kl: float | None = setting(
        None, "nats per token that kl is adapted to reach; empty: kl stays", "TRL: fixed", above=0.0
    )
    whiten_advantages: bool = setting(True, "advantages to mean 0 and variance 1 over the draw", "TRL, always")
    importance: str = importance_setting()
    importance_cap: float = importance_cap_setting()

    def __post_init__(self) -> None:
        if self.target_kl is not None and self.kl == 0:
            raise UsageError("ppo.target_kl", "kl is 0, and no factor changes that", "Start with kl above 0.")
        if self.kl > 0 and self.kl_in == "loss" and self.kl_estimator == "k1":
            problem = "k1 in the loss has no pull: its gradient is 0 on average"
            raise UsageError("ppo.kl_estimator", problem, "Set it to k2, or kl_in to reward.")

    @property
    def needs(self) -> tuple[str, ...]:
        always = ("logprob_N", "sampler_logprob_N", "advantage_N", "value_N", "old_value_N", "return_N")
        # A controller needs the KL measured in every step, wherever it is paid.
        measured = self.kl > 0 and (self.kl_in == "loss" or self.target_kl is not None)
        reference = ("reference_logprob_N",) if measured else ()
        return (*always, *importance_needs(self.importance), *reference)

    @property
    def rollout_needs(self) -> tuple[str, ...]:
        reference = ("reference_logprob_N",) if self.kl > 0 and self.kl_in == "reward" else ()
        return ("value_N", *importance_needs(self.importance), *reference)

    def initial(self) -> Mapping[str, float]:
        return {} if self.target_kl is None else {COEFFICIENT: self.kl}

    def carry(self, carried: Mapping[str, float], metrics: Mapping[str, float | None]) -> Mapping[str, float]:
        kl = metrics.get("kl")
        if self.target_kl is None or kl is None:
            return carried
        return {COEFFICIENT: adapted_coefficient(carried[COEFFICIENT], kl, self.target_kl)}

    def advantages(self, rollouts: Rollouts) -> Mapping[str, Tensor]:
        check_rewards(rollouts.reward_S, rollouts.groups, self.smallest_group)
        if rollouts.value_N is None:
            raise ValueError("ppo needs the rollouts' value_N")
        sequence_N, value_N = rollouts.sequence_N, rollouts.value_N.to(rollouts.reward_S.dtype)
        coefficient = rollouts.carried.get(COEFFICIENT, self.kl) if self.kl_in == "reward" else 0.0
        reward_N = token_rewards(rollouts.reward_S, sequence_N, kl_penalty(rollouts, coefficient, self.kl_estimator))
        advantage_N = generalized_advantages(reward_N, value_N, sequence_N, self.discount, self.gae_lambda)
        scored_N = ~rollouts.reward_S.isnan()[sequence_N]
        advantage_N = advantage_N.masked_fill(~scored_N, 0.0)
        return {
            "advantage_N": whiten(advantage_N, scored_N) if self.whiten_advantages else advantage_N,
            "return_N": advantage_N + value_N,
            "old_value_N": value_N,
        }

    def __call__(self, streams: Streams) -> LossOut:
        logprob_N, _, advantage_N = require(streams, self.name, *self.needs)[:3]
        behaviour = behaviour_of(streams, self.name, self.importance, self.importance_cap)
        ratio_N = limited_exp(logprob_N - behaviour.logprob_N)
        gain_N = behaviour.weight_N * clipped_surrogate(ratio_N, advantage_N, self.clip, self.clip)
        value_loss_N, value_stats = self._value_loss(streams)

        over = normaliser(streams, logprob_N, "token")
        terms = [
            Term("policy", 1.0, -over.total(gain_N), over.count),
            Term("value", self.value_coefficient, over.total(value_loss_N), over.count),
        ]
        clipping = clip_statistics(ratio_N, advantage_N, self.clip, self.clip, over)
        stats = {**behaviour.stats, **clipping, **value_stats}
        if self.kl > 0 and self.kl_in == "loss":
            coefficient = streams.step.get(COEFFICIENT, self.kl)
            term, kl = kl_term(streams, self.name, coefficient, self.kl_estimator, over)
            terms.append(term)
            stats.update(kl)
        elif self.kl > 0:
            stats.update(kl_statistic(streams, self.name, self.kl_estimator))
        return loss_out(streams, self.name, terms, stats)

    def _value_loss(self, streams: Streams) -> tuple[Tensor, dict[str, Stat]]:
        value_N, old_value_N, return_N = require(streams, self.name, "value_N", "old_value_N", "return_N")
        error_N = (value_N - return_N).square()
        clipped_error_N = error_N
        if self.value_clip is not None:
            moved_N = (value_N - old_value_N).clamp(-self.value_clip, self.value_clip)
            clipped_error_N = (old_value_N + moved_N - return_N).square()
        loss_N = 0.5 * torch.maximum(error_N, clipped_error_N)
        return loss_N, {"value/loss": stat(loss_N), "value/clipfrac": stat(clipped_error_N > error_N)}
