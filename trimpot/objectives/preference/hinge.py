"""Hinge loss on the pair's implicit rewards.

Shape suffixes: N targets, S sequences, P = S / 2 pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import relu

from trimpot.core.settings import setting
from trimpot.core.tensors import LossOut, Streams
from trimpot.objectives.preference.pairs import difference, logratio_sums, pair_loss, reference_statistics


@dataclass(frozen=True)
class HingeDPO:
    """DPO with a hinge in place of the logistic loss: a pair that wins by the margin has no gradient any more.

    Equation: L = mean over pairs of max(0, 1 − m),  m = β [log π(y⁺|x)/π_ref(y⁺|x) − log π(y⁻|x)/π_ref(y⁻|x)].
        x is the prompt, y⁺ the chosen and y⁻ the rejected answer; log π(y|x) is summed over the answer's tokens;
        π is the policy, π_ref the frozen reference. 1/β is the gap in nats at which a pair is done.

    Shapes: logprob_N, reference_logprob_N, entropy_N [N]; sequences 2i and 2i+1 are pair i.
    Units: log-probs and ``logratio/*`` in nats per answer; ``rewards/*`` are β times nats; ``length_gap`` in tokens.
    Raises: ValueError when a needed stream is missing or has the wrong length, or the number of sequences is odd.
    Edge cases: no pair: the loss is 0 and every statistic None. Policy = reference: 1. m = 1: no gradient.
    Source: arXiv 2305.10425 (SLiC-HF) eq. 1 for the hinge, which has there no reference, a margin δ of its own and an
        NLL term on a target answer; arXiv 2309.06657 puts the log ratios to the reference into it ("hinge-norm").
        TRL 1.16 ``DPOTrainer._compute_loss`` (loss type "hinge") gives the same value.
    Fails when: all pairs win by the margin: the loss and the gradient are exactly 0.

    Example: β = 0.1, chosen up by 3 nats, rejected down by 2, so that m = 0.1 · (3 − −2) = 0.5:

        >>> from torch import tensor
        >>> logprob_N, reference_logprob_N = tensor([-1.0, -9.0]), tensor([-4.0, -7.0])
        >>> streams = Streams(tensor([0, 1]), 2, logprob_N=logprob_N, reference_logprob_N=reference_logprob_N)
        >>> round(max(0, 1 - 0.1 * (3 - -2)), 4)
        0.5
        >>> round(HingeDPO(beta=0.1)(streams).loss().item(), 4)
        0.5
    """

    name: ClassVar[str] = "hinge"
    stage: ClassVar[str] = "preference"
    needs: ClassVar[tuple[str, ...]] = ("logprob_N", "reference_logprob_N")

    beta: float = setting(
        0.1, "1/β is the log-ratio gap in nats at which a pair has no gradient any more", "TRL 1.16 beta", above=0.0
    )

    def __call__(self, streams: Streams) -> LossOut:
        logratio_S = logratio_sums(streams, self.name)
        loss_P = relu(1 - self.beta * difference(logratio_S))
        return pair_loss(loss_P, reference_statistics(streams, self.name, self.beta, logratio_S))
