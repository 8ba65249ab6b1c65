"""DPO with an NLL term on the chosen answers.

Shape suffixes: N targets, S sequences, P = S / 2 pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch.nn.functional import logsigmoid

from trimpot.core.settings import setting
from trimpot.core.tensors import LossOut, Streams
from trimpot.objectives.preference.pairs import (
    CHOSEN_NLL,
    difference,
    logratio_sums,
    pair_loss_with_nll,
    pair_term,
    reference_statistics,
)
from trimpot.objectives.require import require

PRESETS: Mapping[str, Mapping[str, float | int | str]] = {
    # arXiv 2404.19733 eq. 1: the NLL of each chosen answer is divided by its own length.
    "paper": {"beta": 0.1, "nll_weight": 1.0, "nll_normalisation": "sequence"},
    # TRL 1.16 DPOTrainer._compute_loss "sft", beside "sigmoid": a mean over the tokens of all chosen answers.
    "trl": {"beta": 0.1, "nll_weight": 1.0, "nll_normalisation": "token"},
}


@dataclass(frozen=True)
class DPOWithSFT:
    """DPO that also fine-tunes on the chosen answer, against the fall of its log-prob.

    Equation: L = mean over pairs of −log σ( β [log π(y⁺|x)/π_ref(y⁺|x) − log π(y⁻|x)/π_ref(y⁻|x)] ) + α · NLL(y⁺).
        x is the prompt, y⁺ the chosen and y⁻ the rejected answer; log π(y|x) is summed over the answer's tokens; π is
        the policy, π_ref the frozen reference; α is ``nll_weight``; σ(x) = 1 / (1 + exp(−x)). NLL(y⁺) is −log π(y⁺|x)
        as a mean over each answer's tokens, then over answers (``nll_normalisation`` "sequence"), or as a mean over
        all tokens of chosen answers ("token").

    Shapes: logprob_N, reference_logprob_N, entropy_N [N]; sequences 2i and 2i+1 are pair i.
    Units: log-probs and ``logratio/*`` in nats per answer; ``rewards/*`` are β times nats; ``nll_loss`` in nats per
        token; ``length_gap`` in tokens.
    Raises: ValueError when a needed stream is missing or has the wrong length, or the number of sequences is odd.
    Edge cases: no pair: the loss is 0 and every statistic None. Policy = reference: ln 2 + α NLL. No statistic ``loss``
        (see ``pairs``).
    Source: arXiv 2404.19733 (iterative RPO) eq. 1. TRL 1.16 ``DPOTrainer._compute_loss`` (loss types "sigmoid" and
        "sft", loss weights 1 and α) gives the value of "token".
    Fails when: the chosen answers are poor: they are imitated. α too small: ``logps/chosen`` falls all the same.

    Example: β = 0.1, α = 1, chosen from −4 to −1, rejected from −7 to −9, one token each:

        >>> import math
        >>> from torch import tensor
        >>> logprob_N, reference_logprob_N = tensor([-1.0, -9.0]), tensor([-4.0, -7.0])
        >>> streams = Streams(tensor([0, 1]), 2, logprob_N=logprob_N, reference_logprob_N=reference_logprob_N)
        >>> round(math.log(1 + math.exp(-0.1 * (3 - -2))) + 1 * 1, 4)
        1.4741
        >>> round(DPOWithSFT(beta=0.1)(streams).loss().item(), 4)
        1.4741
    """

    name: ClassVar[str] = "dpo_sft"
    stage: ClassVar[str] = "preference"
    needs: ClassVar[tuple[str, ...]] = ("logprob_N", "reference_logprob_N")

    beta: float = setting(
        0.1, "how strongly the policy is held to the reference: larger stays closer", "arXiv 2404.19733", above=0.0
    )
    nll_weight: float = setting(1.0, "α: weight of the NLL of chosen answers", "arXiv 2404.19733", at_least=0.0)
    nll_normalisation: str = setting(
        "sequence", "the NLL averaged over answers, or over tokens", "arXiv 2404.19733", choices=("sequence", "token")
    )

    def __call__(self, streams: Streams) -> LossOut:
        logratio_S = logratio_sums(streams, self.name)
        (logprob_N,) = require(streams, self.name, "logprob_N")
        preference = pair_term("preference", 1.0, -logsigmoid(self.beta * difference(logratio_S)))
        nll = CHOSEN_NLL[self.nll_normalisation](streams, logprob_N)
        stats = reference_statistics(streams, self.name, self.beta, logratio_S)
        return pair_loss_with_nll(preference, nll, self.nll_weight, stats)
