"""Clipped importance sampling policy optimisation: the weight is clipped, so that no token loses its gradient.

Shape suffix: N targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from trimpot.core.settings import setting
from trimpot.core.tensors import LossOut, Streams, Term, stat
from trimpot.objectives.policy_gradient.advantages import SCALES, group_relative
from trimpot.objectives.policy_gradient.importance import (
    behaviour_of,
    importance_cap_setting,
    importance_needs,
    importance_setting,
)
from trimpot.objectives.policy_gradient.rollouts import Rollouts
from trimpot.objectives.policy_gradient.surrogate import limited_exp, loss_out, normaliser
from trimpot.objectives.require import require


@dataclass(frozen=True)
class CISPO:
    """REINFORCE on sampled tokens, each weighted by its ratio, which is clipped and carries no gradient.

    Equation: L = −1/N Σₙ wₙ sg(clip(ρₙ, 1 − ε_low, 1 + ε_high)) Aₙ log π(yₙ).
        sg stops the gradient; N is the number of tokens; ρₙ = π(yₙ)/π_sampler(yₙ) is the ratio of token n and wₙ = 1;
        with ``importance`` ρₙ = π/π_old and wₙ is π_old/π_sampler, bounded (see ``importance_weights``). Aₙ is the
        advantage of its completion (see ``group_advantages``); ε_low, ε_high are ``clip_low``, ``clip_high``.

    Shapes: logprob_N, sampler_logprob_N, old_logprob_N, advantage_N, entropy_N [N].
    Units: log-probs in nats per token; advantages as ``group_advantages`` gives them.
    Raises: ValueError when a needed stream is missing or has the wrong length.
    Edge cases: no completion: the loss is 0 and every statistic None. The loss weighs log-probs and measures nothing.
    Source: arXiv 2506.13585 eq. 4 and 5, which sets no lower bound (ε_low = 1 is none, as ρ > 0) and does not state
        ε_high. TRL 1.16 ``GRPOTrainer._compute_loss`` (loss type "cispo", beta 0) gives the same values with its
        epsilon_high = 1 + ε_high; its default of 0.2 for it caps every weight at 0.2.
    Fails when: see card cispo. As GRPO (all rewards of a group equal; entropy goes to 0); tokens far from the sampler
        keep pulling, as none is left out.

    Example: log-probs −1 and −2, ratios 1 and 6 (cut to 5), advantages 1 and −1:

        >>> from torch import log, tensor
        >>> logprob_N, advantage_N = tensor([-1.0, -2.0]), tensor([1.0, -1.0])
        >>> sampler_logprob_N = logprob_N - log(tensor([1.0, 6.0]))
        >>> streams = Streams(
        ...     tensor([0, 1]), 2, logprob_N, sampler_logprob_N=sampler_logprob_N, advantage_N=advantage_N
        ... )
        >>> round(-(1 * 1 * -1 + 5 * -1 * -2) / 2, 4)
        -4.5
        >>> round(CISPO()(streams).loss().item(), 4)
        -4.5
    """

    name: ClassVar[str] = "cispo"
    stage: ClassVar[str] = "policy_gradient"
    smallest_group: ClassVar[int] = 2
    skips_idle: ClassVar[bool] = True

    clip_low: float = setting(
        1.0,
        "ε_low: the weight is at least 1 − ε_low; 1 is no bound",
        "arXiv 2506.13585 sec. 3.1: no lower bound",
        above=0.0,
        at_most=1.0,
    )
    clip_high: float = setting(
        4.0, "ε_high: the weight is at most 1 + ε_high", "arXiv 2510.13786 (ScaleRL): at most 5", above=0.0
    )
    scale_rewards: str = setting(
        "group",
        "what rewards are scaled by before they become advantages",
        "arXiv 2506.13585 eq. 2; arXiv 2510.13786 (ScaleRL): batch",
        choices=SCALES,
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
        return group_relative(rollouts, self.scale_rewards)

    def __call__(self, streams: Streams) -> LossOut:
        logprob_N, advantage_N = require(streams, self.name, "logprob_N", "advantage_N")
        behaviour = behaviour_of(streams, self.name, self.importance, self.importance_cap)
        ratio_N = limited_exp(logprob_N - behaviour.logprob_N).detach()
        clipped_N = ratio_N.clamp(1 - self.clip_low, 1 + self.clip_high)
        gain_N = behaviour.weight_N * clipped_N * advantage_N * logprob_N

        over = normaliser(streams, logprob_N, "token")
        stats = {
            **behaviour.stats,
            "sampling/ratio_mean": stat(ratio_N),
            "cispo_clip_ratio": stat((ratio_N > 1 + self.clip_high) & (advantage_N > 0)),
        }
        return loss_out(streams, self.name, [Term("policy", 1.0, -over.total(gain_N), over.count)], stats)
