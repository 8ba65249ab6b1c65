"""Identity preference optimisation.

Shape suffixes: N targets, S sequences, P = S / 2 pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.settings import setting
from trimpot.core.tensors import LossOut, Streams
from trimpot.objectives.preference.pairs import (
    difference,
    logratio_sums,
    pair_loss,
    per_token,
    reference_statistics,
)

PRESETS: Mapping[str, Mapping[str, float | int | str]] = {
    # arXiv 2310.12036 eq. 17: h is a difference of log-probs of whole answers.
    "paper": {"normalisation": "sum"},
    # TRL 1.16 DPOTrainer._compute_loss "ipo": each log ratio is divided by its answer's number of tokens.
    "trl": {"normalisation": "mean"},
}


@dataclass(frozen=True)
class IPO:
    """Regresses the log-ratio gap of a pair to a fixed target, so that certain preferences do not drive it to infinity.

    Equation: L = mean over pairs of ( h − 1 / (2β) )²,  h = ρ(y⁺) − ρ(y⁻),  ρ(y) = log π(y|x)/π_ref(y|x).
        y⁺ is the chosen and y⁻ the rejected answer to x; π is the policy, π_ref the frozen reference; β is the
        paper's τ. ``normalisation`` "sum": ρ is summed over the answer's tokens; "mean": it is their mean.

    Shapes: logprob_N, reference_logprob_N, entropy_N [N]; sequences 2i and 2i+1 are pair i.
    Units: h and the target 1/(2β) in nats per answer ("sum") or per token ("mean"); the loss is their square.
        ``logratio/*`` and ``rewards/*`` (β times it) are sums over the answer under both, as in TRL.
    Raises: ValueError when a needed stream is missing or has the wrong length, or the number of sequences is odd.
    Edge cases: no pair: the loss is 0 and every statistic None. Policy = reference: 1 / (4β²).
    Source: arXiv 2310.12036 eq. 17. TRL 1.16 ``DPOTrainer._compute_loss`` (loss type "ipo") gives the value of
        "mean" and says that the paper's authors confirmed it; the paper's equation is "sum".
    Fails when: β does not fit the normalisation: β = 0.1 asks for a gap of 5 nats, per answer or per token. A gap
        beyond the target is pulled back, so ``rewards/margins`` is no measure of progress.

    Example: chosen up by 3 nats, rejected down by 1, β = 0.1, so that h = 3 − −1 = 4 and the target is 5:

        >>> from torch import tensor
        >>> logprob_N, reference_logprob_N = tensor([-1.0, -8.0]), tensor([-4.0, -7.0])
        >>> streams = Streams(tensor([0, 1]), 2, logprob_N=logprob_N, reference_logprob_N=reference_logprob_N)
        >>> round((4 - 1 / (2 * 0.1)) ** 2, 4)
        1.0
        >>> round(IPO(beta=0.1)(streams).loss().item(), 4)
        1.0
    """

    name: ClassVar[str] = "ipo"
    stage: ClassVar[str] = "preference"
    needs: ClassVar[tuple[str, ...]] = ("logprob_N", "reference_logprob_N")

    beta: float = setting(
        0.1, "τ of the paper: the gap of a pair is pulled to 1 / (2β); larger stays closer", "TRL 1.16 beta", above=0.0
    )
    normalisation: str = setting(
        "sum",
        "log ratios summed or averaged over an answer's tokens",
        "arXiv 2310.12036 eq. 17",
        choices=("sum", "mean"),
    )

    def __call__(self, streams: Streams) -> LossOut:
        logratio_S = logratio_sums(streams, self.name)
        gap_P = difference(logratio_S if self.normalisation == "sum" else per_token(streams, logratio_S))
        loss_P = (gap_P - 1 / (2 * self.beta)).square()
        return pair_loss(loss_P, reference_statistics(streams, self.name, self.beta, logratio_S))
