"""Group relative policy optimisation.

Shape suffix: N targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from trimpot.core.errors import UsageError
from trimpot.core.settings import setting
from trimpot.core.tensors import LossOut, Streams, Term
from trimpot.objectives.policy_gradient.advantages import SCALES, group_relative
from trimpot.objectives.policy_gradient.importance import (
    behaviour_of,
    importance_cap_setting,
    importance_needs,
    importance_setting,
)
from trimpot.objectives.policy_gradient.kl import kl_estimator_setting, kl_setting, kl_term
from trimpot.objectives.policy_gradient.rollouts import Rollouts
from trimpot.objectives.policy_gradient.surrogate import (
    NORMALISATIONS,
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
        "kl": 0.04,  # arXiv 2402.03300 sec. 4.2: "the KL coefficient is 0.04"
        "group": 64,  # sec. 4.2: 64 outputs per question
        "batch": 16,  # prompts: sec. 4.2's training batch size of 1024, read as completions, over 64
        "max_tokens": 1024,  # sec. 4.2: maximum length
        "learning_rate": 1e-6,  # sec. 4.2: of the policy
        "normalisation": "sequence",  # eq. 3: 1/|o| within a completion, then 1/G
    },
    "trl": {
        "kl": 0.0,  # TRL 1.16 GRPOConfig.beta
        "group": 8,  # GRPOConfig.num_generations
        "batch": 1,  # prompts: TrainingArguments.per_device_train_batch_size of 8 completions, on one device, over 8
        "max_tokens": 512,  # GRPOConfig.max_completion_length
        "learning_rate": 1e-6,  # GRPOConfig.learning_rate
        "normalisation": "token",  # GRPOConfig.loss_type "dapo"
    },
}
"""Recipe settings in which the paper and TRL differ, with the learning rate, in which they agree.

Both scale rewards by the group's standard deviation. TRL clips at 0.2; the paper does not state its ε.
"""


@dataclass(frozen=True)
class GRPO:
    """Raises the probability of completions that beat their group, clipped around the policy that sampled them.

    Equation: L = −norm Σₙ wₙ min(ρₙ Aₙ, clip(ρₙ, 1 − ε_low, 1 + ε_high) Aₙ) + k · norm Σₙ kₙ.
        ρₙ = π(yₙ)/π_sampler(yₙ) is the ratio of token n and wₙ = 1; with ``importance`` ρₙ = π/π_old and wₙ is
        π_old/π_sampler, bounded (see ``importance_weights``). Aₙ is the advantage of its completion (see
        ``group_advantages``); kₙ estimates KL(π‖π_ref) at yₙ (see ``kl_estimate``; k3 is π_ref/π − log(π_ref/π) − 1);
        k is ``kl``; ε_low, ε_high are ``clip_low``, ``clip_high``. norm is ``normalisation``:
        "sequence": the mean over completions of the mean over their tokens; "token": the mean over all tokens;
        "fixed": the sum over all tokens / (S · ``completion_limit``), S the number of completions.

    Shapes: logprob_N, sampler_logprob_N, old_logprob_N, reference_logprob_N, advantage_N, entropy_N [N].
    Units: log-probs and ``kl`` in nats per token; advantages as ``group_advantages`` gives them.
    Raises: UsageError when normalisation is "fixed" and completion_limit is not given, or when the KL is in the loss
        by the estimate k1, which has no pull. ValueError when a needed stream is missing or has the wrong length.
    Edge cases: no completion: the loss is 0 and every statistic None. A completion without targets counts in S and
        adds 0. Log ratios are cut off at +20 and have no gradient above it. At π = π_sampler the loss is −mean(A),
        often 0, and the gradient is not: the loss is no measure of progress.
    Source: arXiv 2402.03300 eq. 3 and 4 ("sequence"); arXiv 2503.14476 ("token", ε_high); arXiv 2503.20783
        ("fixed"). TRL 1.16 ``GRPOTrainer._compute_loss`` (loss types "grpo", "dapo", "dr_grpo") gives the same
        values within the cut-off of log ratios, which is verl's; with kl > 0 only at use_bias_correction_kl=False: its
        default multiplies the KL term by ρ (arXiv 2512.02556), which turns k3's gradient into that of KL(π‖π_ref),
        where ours is that of KL(π_ref‖π).
    Fails when: see cards grpo.normalisation, grpo.clip and grpo.group. Every group is all right, all wrong or all cut
        off (A = 0: see ``zero_variance_cause``); "sequence" favours long wrong answers; entropy goes to 0; sampler and
        trainer disagree (``sampling/sampling_logp_difference/mean``).

    Example: ratios 1, 1.5 and 0.5, advantages 1, 1 and −1, clip 0.2: the second is clipped to 1.2, the third to 0.8:

        >>> from torch import log, tensor, zeros
        >>> logprob_N, advantage_N = log(tensor([1.0, 1.5, 0.5])), tensor([1.0, 1.0, -1.0])
        >>> sequence_N = tensor([0, 1, 2])
        >>> streams = Streams(sequence_N, 3, logprob_N, sampler_logprob_N=zeros(3), advantage_N=advantage_N)
        >>> round(-(1 * 1 + 1.2 * 1 + 0.8 * -1) / 3, 4)
        -0.4667
        >>> round(GRPO()(streams).loss().item(), 4)
        -0.4667
    """

    name: ClassVar[str] = "grpo"
    stage: ClassVar[str] = "policy_gradient"
    smallest_group: ClassVar[int] = 2

    clip_low: float = clip_low_setting()
    clip_high: float = clip_high_setting(origin="TRL 1.16 epsilon; arXiv 2503.14476: 0.28")
    kl: float = kl_setting(0.0, "weight of the KL to the reference; 0 needs no reference", "TRL 1.16 beta; paper 0.04")
    kl_estimator: str = kl_estimator_setting("k3", "arXiv 2402.03300 eq. 4; TRL 1.16 multiplies it by ρ")
    normalisation: str = setting(
        "token",
        "what the sum over tokens is divided by",
        "TRL 1.16 loss_type dapo; arXiv 2402.03300: sequence",
        choices=NORMALISATIONS,
    )
    completion_limit: int | None = setting(
        None, 'tokens a completion may have; read by normalisation "fixed" only', "ours", at_least=1
    )
    scale_rewards: str = setting(
        "group",
        "what rewards are scaled by before they become advantages",
        "arXiv 2402.03300 sec. 4.1.2; TRL 1.16 the same",
        choices=SCALES,
    )
    importance: str = importance_setting()
    importance_cap: float = importance_cap_setting()

    def __post_init__(self) -> None:
        if self.kl > 0 and self.kl_estimator == "k1":
            problem = "k1 in the loss has no pull: its gradient is 0 on average"
            raise UsageError("grpo.kl_estimator", problem, "Set it to k2 or k3.")
        if self.normalisation == "fixed" and self.completion_limit is None:
            problem = 'normalisation "fixed" divides by it, and it is not given'
            raise UsageError("grpo.completion_limit", problem, "Set it to the largest number of new tokens.")

    @property
    def needs(self) -> tuple[str, ...]:
        always = ("logprob_N", "sampler_logprob_N", "advantage_N", *importance_needs(self.importance))
        return (*always, "reference_logprob_N") if self.kl > 0 else always

    @property
    def rollout_needs(self) -> tuple[str, ...]:
        return importance_needs(self.importance)

    @property
    def skips_idle(self) -> bool:
        return self.kl == 0

    def advantages(self, rollouts: Rollouts) -> Mapping[str, Tensor]:
        return group_relative(rollouts, self.scale_rewards)

    def __call__(self, streams: Streams) -> LossOut:
        logprob_N, advantage_N = require(streams, self.name, "logprob_N", "advantage_N")
        behaviour = behaviour_of(streams, self.name, self.importance, self.importance_cap)
        ratio_N = limited_exp(logprob_N - behaviour.logprob_N)
        gain_N = behaviour.weight_N * clipped_surrogate(ratio_N, advantage_N, self.clip_low, self.clip_high)

        over = normaliser(streams, logprob_N, self.normalisation, self.completion_limit)
        tokens = normaliser(streams, logprob_N, "token")
        terms = [Term("policy", 1.0, -over.total(gain_N), over.count)]
        clipping = clip_statistics(ratio_N, advantage_N, self.clip_low, self.clip_high, tokens)
        stats = {**behaviour.stats, **clipping}
        if self.kl > 0:
            term, kl = kl_term(streams, self.name, self.kl, self.kl_estimator, over)
            terms.append(term)
            stats.update(kl)
        return loss_out(streams, self.name, terms, stats)
