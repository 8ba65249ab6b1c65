"""Odds-ratio preference optimisation: fine-tuning and preference in one loss, without a reference.

Shape suffixes: N targets, S sequences, P = S / 2 pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch.nn.functional import logsigmoid

from trimpot.core.settings import setting
from trimpot.core.tensors import LossOut, Streams, stat
from trimpot.objectives.preference.pairs import (
    CHOSEN_NLL,
    difference,
    log_odds,
    logprob_sums,
    pair_loss_with_nll,
    pair_statistics,
    pair_term,
    per_token,
)
from trimpot.objectives.require import require

PRESETS: Mapping[str, Mapping[str, float | int | str]] = {
    # arXiv 2403.07691: L_SFT of an answer is a mean over its tokens; λ = 0.1 as for its Mistral models.
    "paper": {"beta": 0.1, "nll_normalisation": "sequence"},
    # TRL 1.16 ORPOTrainer.concatenated_forward and ORPOConfig: a mean over the tokens of the batch.
    "trl": {"beta": 0.1, "nll_normalisation": "token"},
}


@dataclass(frozen=True)
class ORPO:
    """Fine-tunes on the chosen answers and pushes the odds of the rejected ones down, relative to the chosen.

    Equation: L = NLL(y⁺) + λ · mean over pairs of −log σ( log odds(y⁺|x) − log odds(y⁻|x) ),
        odds(y|x) = p / (1 − p),  log p = (1/|y|) log π(y|x).
        x is the prompt, y⁺ the chosen and y⁻ the rejected answer; |y| is the answer's number of tokens, log π(y|x) the
        sum over them; π is the policy; λ is ``beta``; σ(x) = 1 / (1 + exp(−x)). NLL(y⁺) is −log π(y⁺|x) averaged over
        all tokens of chosen answers (``nll_normalisation`` "token"), or per answer first ("sequence").

    Shapes: logprob_N, entropy_N [N]; sequences 2i and 2i+1 are pair i.
    Units: ``logps/*`` in nats per token, as in TRL; ``rewards/*`` are β times that; ``nll_loss`` in nats per token;
        ``log_odds_chosen`` is the mean log odds ratio, ``log_odds_ratio`` the mean log σ of it (TRL's names).
    Raises: ValueError when logprob_N is missing or has the wrong length, or the number of sequences is odd.
    Edge cases: no pair: the loss is 0 and every statistic None. Both answers equally likely per token: NLL + λ ln 2.
        A p above 1 − 2⁻²³ counts as 1 − 2⁻²³ in the odds, without gradient. No statistic ``loss`` (see ``pairs``).
    Source: arXiv 2403.07691 eq. 4, 6 and 7. TRL 1.16 ``ORPOTrainer.get_batch_loss_metrics`` gives the same value up to
        float32, in which it computes the odds; its NLL takes in the prompt's tokens too (as the authors' code does,
        xfactlab/orpo at 0f0abfe, unless disable_prompt_loss), ours the targets only.
    Fails when: λ is too small to be seen beside the NLL: ``nll_loss`` falls and ``log_odds_chosen`` stays. The NLL
        term holds the policy to the chosen answers, so poor ones are learned as such.

    Example: p = ½ for the chosen and ¼ for the rejected answer, so the odds are 1 and ⅓ and their ratio 3; λ = 0.1:

        >>> import math
        >>> from torch import tensor
        >>> streams = Streams(tensor([0, 1]), 2, logprob_N=tensor([0.5, 0.25]).log())
        >>> round(math.log(2) + 0.1 * math.log(1 + 1 / 3), 4)
        0.7219
        >>> round(ORPO(beta=0.1)(streams).loss().item(), 4)
        0.7219
    """

    name: ClassVar[str] = "orpo"
    stage: ClassVar[str] = "preference"
    needs: ClassVar[tuple[str, ...]] = ("logprob_N",)

    beta: float = setting(
        0.1, "λ: weight of the odds ratio beside the NLL", "arXiv 2403.07691; TRL 1.16 beta", above=0.0
    )
    nll_normalisation: str = setting(
        "token",
        "the NLL averaged over tokens, or over answers",
        "TRL 1.16",
        choices=("token", "sequence"),
    )

    def __call__(self, streams: Streams) -> LossOut:
        logprob_S = per_token(streams, logprob_sums(streams, self.name))
        (logprob_N,) = require(streams, self.name, "logprob_N")
        odds_ratio_P = difference(log_odds(logprob_S))
        ratio_P = logsigmoid(odds_ratio_P)
        stats = {
            **pair_statistics(streams, self.name, self.beta * logprob_S, logprob_S),
            "log_odds_ratio": stat(ratio_P),
            "log_odds_chosen": stat(odds_ratio_P),
        }
        nll = CHOSEN_NLL[self.nll_normalisation](streams, logprob_N)
        return pair_loss_with_nll(pair_term("odds_ratio", self.beta, -ratio_P), nll, 1.0, stats)
