"""Generalised knowledge distillation: forward KL, reverse KL and what lies between.

Shape suffixes: N targets, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from trimpot.core.settings import setting
from trimpot.core.stats import Stat
from trimpot.core.tensors import LossOut, Streams, Term, stat
from trimpot.objectives.require import optional, require


@dataclass(frozen=True)
class GKD:
    """Generalised Jensen–Shannon divergence between teacher and student, averaged over tokens.

    Equation: L = Σₙ wₙ Dᵦ(pₙ ‖ qₙ) / Σₙ wₙ,
        Dᵦ(p ‖ q) = β KL(p ‖ m) + (1 − β) KL(q ‖ m), m = β p + (1 − β) q, for 0 < β < 1;
        D₀(p ‖ q) = KL(p ‖ q), forward; D₁(p ‖ q) = KL(q ‖ p), reverse.
        pₙ and qₙ are the teacher's and the student's distribution of the n-th target, the softmax of their logits
        divided by ``divergence_temperature``; KL(a ‖ b) = Σᵥ aᵥ log(aᵥ / bᵥ) over the vocabulary; β is ``beta``; wₙ
        is the weight of the token's row (1 where the batch has no weights).

    Shapes: divergence_N, logprob_N, weight_N, entropy_N, correct_N [N]; ``divergence``: logits [N, V] twice -> [N].
    Units: nats per token.
    Raises: ValueError when divergence_N or logprob_N is missing or a stream has the wrong length.
    Edge cases: no target, or all weights 0: the loss is 0 and the statistic ``loss`` None. Student = teacher: 0.
        β = 0 and 1 are set to the two KLs: Dᵦ itself goes to 0 there, and to a KL only when divided by β or 1 − β, so
        the loss jumps at the ends. AdamW's step does not follow that scale, but max_grad_norm clips less. Whose
        samples it is averaged over (the paper's λ) is the source's affair; no gradient passes through sampling.
        ``divergence/<name>``, ``nll_loss``, ``entropy`` and ``mean_token_accuracy`` are unweighted means over tokens.
    Source: arXiv 2306.13649 eq. 1 and section 3.1. TRL 1.16 ``GKDTrainer.generalized_jsd_loss`` gives the same value
        where every token counts 1; row weights are ours. At temperature τ the gradient shrinks by about 1/τ²;
        neither TRL nor we multiply it back.
    Fails when: see card distill.gkd. The teacher has another vocabulary or template (refused by ``Student``;
        LLaMA-Factory#2509), or the student is far smaller: under forward KL it spreads over what it cannot fit, under
        reverse KL it drops modes (``entropy`` falls).

    Example: teacher (1/2, 1/2) and student (1/4, 3/4), β = 1/2, so that m = (3/8, 5/8):

        >>> import math
        >>> from torch import tensor
        >>> gkd = GKD(beta=0.5)
        >>> divergence_N = gkd.divergence(tensor([[1 / 4, 3 / 4]]).log(), tensor([[1 / 2, 1 / 2]]).log())
        >>> streams = Streams(tensor([0]), 1, divergence_N=divergence_N, logprob_N=tensor([0.25]).log())
        >>> to_teacher = 1 / 2 * math.log((1 / 2) / (3 / 8)) + 1 / 2 * math.log((1 / 2) / (5 / 8))
        >>> to_student = 1 / 4 * math.log((1 / 4) / (3 / 8)) + 3 / 4 * math.log((3 / 4) / (5 / 8))
        >>> round(0.5 * to_teacher + 0.5 * to_student, 4)
        0.0338
        >>> round(gkd(streams).loss().item(), 4)
        0.0338
    """

    name: ClassVar[str] = "gkd"
    stage: ClassVar[str] = "distill"
    needs: ClassVar[tuple[str, ...]] = ("divergence_N", "logprob_N")

    beta: float = setting(
        0.5, "0: forward KL, 1: reverse KL, between: a Jensen–Shannon divergence", "TRL GKDConfig beta",
        at_least=0.0, at_most=1.0,
    )  # fmt: skip
    divergence_temperature: float = setting(
        1.0, "divides the logits of teacher and student", "TRL generalized_jsd_loss temperature", above=0.0
    )

    @property
    def divergence_name(self) -> str:
        """What Dᵦ is called."""
        return {0.0: "forward_kl", 1.0: "reverse_kl"}.get(self.beta, "jensen_shannon")

    def divergence(self, student_logits_NV: Tensor, teacher_logits_NV: Tensor) -> Tensor:
        """Dᵦ of every target, [N], in nats."""
        log_q_NV = torch.log_softmax(student_logits_NV / self.divergence_temperature, dim=-1)
        log_p_NV = torch.log_softmax(teacher_logits_NV / self.divergence_temperature, dim=-1)
        if self.beta == 0:
            return _kl(log_p_NV, log_q_NV)
        if self.beta == 1:
            return _kl(log_q_NV, log_p_NV)
        log_m_NV = torch.logaddexp(log_p_NV + math.log(self.beta), log_q_NV + math.log1p(-self.beta))
        return self.beta * _kl(log_p_NV, log_m_NV) + (1 - self.beta) * _kl(log_q_NV, log_m_NV)

    def __call__(self, streams: Streams) -> LossOut:
        divergence_N, logprob_N = require(streams, self.name, "divergence_N", "logprob_N")
        weight_N = optional(streams, self.name, "weight_N")
        if weight_N is None:
            weight_N = torch.ones_like(divergence_N)
        total, count = (weight_N * divergence_N).sum(), float(weight_N.double().sum())
        stats = {
            "loss": Stat(float(total.detach()), count),
            f"divergence/{self.divergence_name}": stat(divergence_N),
            "nll_loss": stat(-logprob_N),
        }
        for metric, stream in (("entropy", "entropy_N"), ("mean_token_accuracy", "correct_N")):
            values_N = optional(streams, self.name, stream)
            if values_N is not None:
                stats[metric] = stat(values_N)
        return LossOut((Term("divergence", 1.0, total, count),), stats)


def _kl(log_a_NV: Tensor, log_b_NV: Tensor) -> Tensor:
    """KL(a ‖ b) = Σᵥ aᵥ (log aᵥ − log bᵥ): [N, V] twice -> [N]."""
    return (log_a_NV.exp() * (log_a_NV - log_b_NV)).sum(-1)
