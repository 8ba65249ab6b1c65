"""Group sequence policy optimisation: the ratio and its clipping belong to whole completions.

Shape suffixes: N targets, S sequences (completions).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

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
    sequence_mean,
)
from trimpot.objectives.require import require

PRESETS: Mapping[str, Mapping[str, float | int | str]] = {
    "paper": {
        "clip_low": 3e-4,  # arXiv 2507.18071 sec. 5.1
        "clip_high": 4e-4,  # sec. 5.1
    },
    "trl": {
        "clip_low": 0.2,  # TRL 1.16 GRPOConfig.epsilon, whatever the importance_sampling_level
        "clip_high": 0.2,  # GRPOConfig.epsilon_high (None: epsilon)
    },
}
"""Recipe settings in which the paper and TRL's defaults differ."""


@dataclass(frozen=True)
class GSPO:
    """GRPO whose ratio is that of the whole completion, per token: what is rewarded is also what is clipped.

    Equation: L = −1/S Σᵢ min(sᵢ Aᵢ, clip(sᵢ, 1 − ε_low, 1 + ε_high) Aᵢ), sᵢ = (π(yᵢ)/π_sampler(yᵢ))^(1/|yᵢ|),
        Aᵢ = (rᵢ − mean(r)) / (std(r) + 1e-4). sᵢ is the geometric mean of the ratios of the |yᵢ| tokens of
        completion i; rᵢ its reward, mean and std those of its group; S the number of completions. With ``importance``
        sᵢ is taken against π_old and multiplied by the mean over the tokens of π_old/π_sampler, bounded (see
        ``importance_weights``). Gradient of a completion that is not clipped: −1/S · sᵢ Aᵢ · 1/|yᵢ| Σₜ ∇log π(yᵢₜ).

    Shapes: logprob_N, sampler_logprob_N, old_logprob_N, advantage_N, entropy_N [N]; the advantage of a completion is
        that of each of its tokens.
    Units: log-probs in nats per token; advantages in standard deviations.
    Raises: ValueError when a needed stream is missing or has the wrong length.
    Edge cases: no completion: the loss is 0 and every statistic None. A completion without targets counts in S and
        adds 0. Mean log ratios are cut off at +20 and have no gradient above it. Advantages that differ within a
        completion (not the paper's): the mean of min(...) over its tokens.
    Source: arXiv 2507.18071 eq. 5 to 7; gradient eq. 10. TRL 1.16 ``GRPOTrainer._compute_loss``
        (importance_sampling_level "sequence", loss type "grpo", beta 0) gives the same values within the cut-off.
    Fails when: see card gspo. As GRPO (all rewards of a group equal; entropy goes to 0); a clip meant for single tokens
        (0.2) never acts, as sᵢ stays far closer to 1 than a token's ratio.

    Example: one completion with ratios 1 and 1.21 and advantage 1: s = √1.21 = 1.1, clipped to 1.05; another with
        ratio 1 and advantage −1:

        >>> from torch import log, tensor, zeros
        >>> logprob_N, advantage_N = log(tensor([1.0, 1.21, 1.0])), tensor([1.0, 1.0, -1.0])
        >>> sequence_N = tensor([0, 0, 1])
        >>> streams = Streams(sequence_N, 2, logprob_N, sampler_logprob_N=zeros(3), advantage_N=advantage_N)
        >>> round(-(1.05 * 1 + 1 * -1) / 2, 4)
        -0.025
        >>> round(GSPO(clip_high=0.05)(streams).loss().item(), 4)
        -0.025
    """

    name: ClassVar[str] = "gspo"
    stage: ClassVar[str] = "policy_gradient"
    smallest_group: ClassVar[int] = 2
    skips_idle: ClassVar[bool] = True

    clip_low: float = clip_low_setting(3e-4, "arXiv 2507.18071 sec. 5.1")
    clip_high: float = clip_high_setting(4e-4, "arXiv 2507.18071 sec. 5.1")
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
        ratio_S = limited_exp(sequence_mean(streams, logprob_N - behaviour.logprob_N))
        ratio_N = ratio_S[streams.sequence_N]
        gain_N = behaviour.weight_N * clipped_surrogate(ratio_N, advantage_N, self.clip_low, self.clip_high)

        over = normaliser(streams, logprob_N, "sequence")
        clipping = clip_statistics(ratio_N, advantage_N, self.clip_low, self.clip_high, over)
        terms = [Term("policy", 1.0, -over.total(gain_N), over.count)]
        return loss_out(streams, self.name, terms, {**behaviour.stats, **clipping})
