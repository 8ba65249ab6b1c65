"""Group relative policy optimisation.

Shape suffixes: N targets, S sequences (completions).
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
from trimpot.objectives.policy_gradient.advantages import SCALES
from trimpot.objectives.require import optional, require

LOG_RATIO_LIMIT = 20.0
"""Log ratios are cut off here, so that exp stays finite in float32: as verl does, but from above only."""

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

    Equation: L = −norm Σₙ min(ρₙ Aₙ, clip(ρₙ, 1 − ε_low, 1 + ε_high) Aₙ) + k · norm Σₙ kₙ.
        ρₙ = π(yₙ)/π_sampler(yₙ) is the ratio of token n; Aₙ the advantage of its completion;
        kₙ = π_ref/π − log(π_ref/π) − 1, the k3 estimate of KL(π‖π_ref), at yₙ; k is ``kl``;
        ε_low, ε_high are ``clip_low``, ``clip_high``. norm is ``normalisation``:
        "sequence": the mean over completions of the mean over their tokens; "token": the mean over all tokens;
        "fixed": the sum over all tokens / (S · ``completion_limit``), S the number of completions.

    Shapes: logprob_N, sampler_logprob_N, reference_logprob_N, entropy_N [N]; advantage_S [S].
    Units: log-probs and ``kl`` in nats per token; advantages as ``group_advantages`` gives them.
    Raises: UsageError when normalisation is "fixed" and completion_limit is not given. ValueError when a needed
        stream is missing or has the wrong length.
    Edge cases: no completion: the loss is 0 and every statistic None. A completion without targets counts in S and
        adds 0. Log ratios are cut off at +20 and have no gradient above it. At π = π_sampler the loss is −mean(A),
        often 0, and the gradient is not: the loss is no measure of progress.
    Source: arXiv 2402.03300 eq. 3 and 4 ("sequence"); arXiv 2503.14476 ("token", ε_high); arXiv 2503.20783
        ("fixed"). TRL 1.16 ``GRPOTrainer._compute_loss`` (loss types "grpo", "dapo", "dr_grpo") gives the same
        values within the cut-off of log ratios, which is verl's.
    Fails when: every group is all right, all wrong or all cut off (A = 0: see ``zero_variance_cause``);
        "sequence" favours long wrong answers; entropy goes to 0. No card of its own yet.

    Example: ratios 1, 1.5 and 0.5, advantages 1, 1 and −1, clip 0.2: the second is clipped to 1.2, the third to 0.8:

        >>> from torch import tensor, zeros
        >>> logprob_N, advantage_S = torch.log(tensor([1.0, 1.5, 0.5])), tensor([1.0, 1.0, -1.0])
        >>> sequence_N = tensor([0, 1, 2])
        >>> streams = Streams(sequence_N, 3, logprob_N, sampler_logprob_N=zeros(3), advantage_S=advantage_S)
        >>> round(-(1 * 1 + 1.2 * 1 + 0.8 * -1) / 3, 4)
        -0.4667
        >>> round(GRPO()(streams).loss().item(), 4)
        -0.4667
    """

    name: ClassVar[str] = "grpo"
    stage: ClassVar[str] = "policy_gradient"

    clip_low: float = setting(
        0.2, "ε_low: the ratio has no effect below 1 − ε_low", "TRL 1.16 epsilon", above=0.0, at_most=1.0
    )
    clip_high: float = setting(
        0.2, "ε_high: the ratio has no effect above 1 + ε_high", "TRL 1.16 epsilon; arXiv 2503.14476: 0.28", above=0.0
    )
    kl: float = setting(
        0.0, "weight of the KL to the reference; 0 needs no reference", "TRL 1.16 beta; paper 0.04", at_least=0.0
    )
    normalisation: str = setting(
        "token",
        "what the sum over tokens is divided by",
        "TRL 1.16 loss_type dapo; arXiv 2402.03300: sequence",
        choices=("sequence", "token", "fixed"),
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

    def __post_init__(self) -> None:
        if self.normalisation == "fixed" and self.completion_limit is None:
            problem = 'normalisation "fixed" divides by it, and it is not given'
            raise UsageError("grpo.completion_limit", problem, "Set it to the largest number of new tokens.")

    @property
    def needs(self) -> tuple[str, ...]:
        always = ("logprob_N", "sampler_logprob_N", "advantage_S")
        return (*always, "reference_logprob_N") if self.kl > 0 else always

    def __call__(self, streams: Streams) -> LossOut:
        logprob_N, sampler_logprob_N, advantage_S = require(streams, self.name, *self.needs[:3])
        advantage_N = advantage_S[streams.sequence_N]
        ratio_N = torch.exp(_limited(logprob_N - sampler_logprob_N))
        clipped_N = ratio_N.clamp(1 - self.clip_low, 1 + self.clip_high)
        policy_N = -torch.minimum(ratio_N * advantage_N, clipped_N * advantage_N)

        share_N, count = self._normaliser(streams, logprob_N)
        terms = [Term("policy", 1.0, (share_N * policy_N).sum(), count)]
        stats = self._ratio_stats(ratio_N.detach(), advantage_N)
        stats["sampling/logp_difference_mean"] = stat((logprob_N - sampler_logprob_N).abs())
        if self.kl > 0:
            (reference_logprob_N,) = require(streams, self.name, "reference_logprob_N")
            log_ratio_N = _limited(reference_logprob_N - logprob_N)
            kl_N = torch.exp(log_ratio_N) - log_ratio_N - 1
            terms.append(Term("kl", self.kl, (share_N * kl_N).sum(), count))
            stats["kl"] = stat(kl_N)
        entropy_N = optional(streams, self.name, "entropy_N")
        if entropy_N is not None:
            stats["entropy"] = stat(entropy_N)
        stats["loss"] = Stat(sum(float(term.weight * term.total.detach()) for term in terms), count)
        return LossOut(tuple(terms), stats)

    def _normaliser(self, streams: Streams, like_N: Tensor) -> tuple[Tensor, float]:
        """The factor of each token inside the sum, and what the sum is divided by."""
        share_N, sequences = torch.ones_like(like_N), float(streams.sequences)
        if self.normalisation == "sequence":
            return share_N / streams.lengths_S()[streams.sequence_N], sequences
        if self.normalisation == "fixed":
            assert self.completion_limit is not None  # __post_init__ refuses it
            return share_N, sequences * self.completion_limit
        return share_N, float(len(like_N))

    def _ratio_stats(self, ratio_N: Tensor, advantage_N: Tensor) -> dict[str, Stat]:
        """TRL's clip ratios: the share of tokens whose clipping stops their gradient."""
        low_N = (ratio_N < 1 - self.clip_low) & (advantage_N < 0)
        high_N = (ratio_N > 1 + self.clip_high) & (advantage_N > 0)
        return {
            "clip_ratio/low_mean": stat(low_N),
            "clip_ratio/high_mean": stat(high_N),
            "clip_ratio/region_mean": stat(low_N | high_N),
            "sampling/ratio_mean": stat(ratio_N),
        }


def _limited(log_ratio_N: Tensor) -> Tensor:
    return log_ratio_N.clamp(max=LOG_RATIO_LIMIT)
