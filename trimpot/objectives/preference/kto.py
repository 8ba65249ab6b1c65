"""Kahneman–Tversky optimisation: preferences without pairs.

Shape suffixes: N targets, S sequences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from trimpot.core.settings import setting
from trimpot.core.stats import Stat
from trimpot.core.tensors import LossOut, Streams, Term, stat
from trimpot.objectives.require import optional, require

KL = "kto/kl"


@dataclass(frozen=True)
class KTO:
    """Raises answers that somebody found good and lowers those found bad, each against a common baseline.

    Equation: L = mean over answers of λ_y [1 − v(x, y)],  v = σ(β (ρ − z)) if y is desirable, σ(β (z − ρ)) if not,
        ρ = log π(y|x)/π_ref(y|x),  z = max(0, mean of log π(y′|x)/π_ref(y′|x) over the step's mismatched answers).
        y is the answer to x, y′ the answer to another prompt; log π(y|x) is summed over the answer's tokens; π is the
        policy, π_ref the frozen reference; λ_y is ``desirable_weight`` or ``undesirable_weight``;
        σ(x) = 1 / (1 + exp(−x)). z has no gradient.

    Shapes: logprob_N, reference_logprob_N, entropy_N [N]; kind_S [S]: 1 desirable, 0 undesirable, −1 mismatched (in the
        baseline only). Sequences need not come in pairs.
    Units: log-probs, ``logratio/*`` and ``kl`` (z) in nats per answer; ``rewards/*`` are β times nats. ``*/chosen`` is
        over desirable, ``*/rejected`` over undesirable answers. ``entropy`` is per token of both.
    Raises: ValueError when a needed stream is missing or has the wrong length.
    Edge cases: no answer: the loss is 0 and every statistic None. Policy = reference: λ_y / 2. Without mismatched
        answers z = 0 and ``kl`` is None.
    Source: arXiv 2402.01306 eq. 7. TRL 1.16 ``KTOTrainer._compute_loss`` gives the same value on the same batch;
        it estimates z per process and micro-batch, ours over the whole step. TRL's ``rewards/margins``, a difference of
        two means over different answers, does not add up over micro-batches and is left out.
    Fails when: the kinds are unbalanced: the rarer one counts for little (the paper's eq. 8, as TRL 1.16 reads it, asks
        for n⁺ λ⁺ / (n⁻ λ⁻) of 1 to 4/3). ``kl`` is 0: answers are then compared with the reference alone.

    Example: β = 0.1, one desirable answer up by 5 nats, one undesirable up by 2, a mismatched one up by 1 (z = 1):

        >>> import dataclasses, math
        >>> from torch import tensor
        >>> logprob_N, reference_logprob_N = tensor([-4.0, -7.0, -8.0]), tensor([-9.0, -9.0, -9.0])
        >>> kind_S = tensor([1.0, 0.0, -1.0])
        >>> streams = Streams(tensor([0, 1, 2]), 3, logprob_N, reference_logprob_N, kind_S=kind_S)
        >>> step = {KL: KTO().step_statistics(streams)[KL].value}
        >>> round((1 / (1 + math.exp(0.1 * (5 - 1))) + 1 / (1 + math.exp(0.1 * (1 - 2)))) / 2, 4)
        0.4631
        >>> round(KTO(beta=0.1)(dataclasses.replace(streams, step=step)).loss().item(), 4)
        0.4631
    """

    name: ClassVar[str] = "kto"
    stage: ClassVar[str] = "preference"
    needs: ClassVar[tuple[str, ...]] = ("logprob_N", "reference_logprob_N", "kind_S")

    beta: float = setting(
        0.1, "how strongly the policy is held to the reference: larger stays closer", "TRL 1.16 beta", above=0.0
    )
    desirable_weight: float = setting(
        1.0, "λ⁺: weight of a desirable answer", "TRL 1.16 desirable_weight", at_least=0.0
    )
    undesirable_weight: float = setting(
        1.0, "λ⁻: weight of an undesirable answer", "TRL 1.16 undesirable_weight", at_least=0.0
    )

    def step_statistics(self, streams: Streams) -> Mapping[str, Stat]:
        """z before its bound at 0: the mean log ratio of the step's mismatched answers."""
        logratio_S, kind_S = self._logratios(streams)
        return {KL: stat(logratio_S[kind_S < 0])}

    def __call__(self, streams: Streams) -> LossOut:
        logratio_S, kind_S = self._logratios(streams)
        # In this order max keeps a NaN, which then shows in the loss.
        baseline = max(streams.step.get(KL, 0.0), 0.0)
        desirable_S, scored_S = kind_S > 0, kind_S >= 0
        sign_S = torch.where(desirable_S, logratio_S.new_tensor(1.0), -1.0)
        weight_S = torch.where(desirable_S, logratio_S.new_tensor(self.desirable_weight), self.undesirable_weight)
        # 1 − σ(x) = σ(−x), which keeps its digits when x is large.
        loss_S = (weight_S * torch.sigmoid(-self.beta * sign_S * (logratio_S - baseline)))[scored_S]
        count = float(len(loss_S))
        stats = {
            "loss": stat(loss_S),
            "kl": Stat(baseline * count, count) if KL in streams.step else Stat(0.0, 0.0),
            **self._statistics(streams, logratio_S, desirable_S, scored_S),
        }
        return LossOut((Term("preference", 1.0, loss_S.sum(), count),), stats)

    def _logratios(self, streams: Streams) -> tuple[Tensor, Tensor]:
        logprob_N, reference_logprob_N, kind_S = require(streams, self.name, *self.needs)
        return streams.sum_by_sequence(logprob_N - reference_logprob_N), kind_S

    def _statistics(
        self, streams: Streams, logratio_S: Tensor, desirable_S: Tensor, scored_S: Tensor
    ) -> dict[str, Stat]:
        (logprob_N,) = require(streams, self.name, "logprob_N")
        entropy_N = optional(streams, self.name, "entropy_N")
        logprob_S = streams.sum_by_sequence(logprob_N)
        stats: dict[str, Stat] = {}
        for side, of_side_S in (("chosen", desirable_S), ("rejected", scored_S & ~desirable_S)):
            stats[f"rewards/{side}"] = stat(self.beta * logratio_S[of_side_S])
            stats[f"logps/{side}"] = stat(logprob_S[of_side_S])
            stats[f"logratio/{side}"] = stat(logratio_S[of_side_S])
        if entropy_N is not None:
            stats["entropy"] = stat(entropy_N[scored_S[streams.sequence_N]])
        return stats
