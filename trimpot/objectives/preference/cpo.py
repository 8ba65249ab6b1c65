"""Contrastive preference optimisation: reference-free DPO with an NLL term.

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
    logprob_sums,
    pair_loss_with_nll,
    pair_statistics,
    pair_term,
)
from trimpot.objectives.require import require

PRESETS: Mapping[str, Mapping[str, float | int | str]] = {
    # arXiv 2401.08417 section 3: L_NLL = −E[log π(y⁺|x)], the sum over an answer's tokens.
    "paper": {"beta": 0.1, "nll_weight": 1.0, "nll_normalisation": "sum"},
    # TRL 1.16 CPOTrainer.concatenated_forward: a mean over the tokens of all chosen answers; CPOConfig cpo_alpha.
    "trl": {"beta": 0.1, "nll_weight": 1.0, "nll_normalisation": "token"},
}


@dataclass(frozen=True)
class CPO:
    """Prefers the chosen answer without a reference, and holds the policy to it by its NLL.

    Equation: L = mean over pairs of −log σ( β log π(y⁺|x) − β log π(y⁻|x) ) + α · NLL(y⁺).
        x is the prompt, y⁺ the chosen and y⁻ the rejected answer; log π(y|x) is summed over the answer's tokens; π is
        the policy; α is ``nll_weight``; σ(x) = 1 / (1 + exp(−x)). NLL(y⁺) is −log π(y⁺|x) averaged over all tokens of
        chosen answers (``nll_normalisation`` "token"), or summed per answer and averaged over answers ("sum").

    Shapes: logprob_N, entropy_N [N]; sequences 2i and 2i+1 are pair i.
    Units: ``logps/*`` in nats per answer; ``rewards/*`` are β times that; ``nll_loss`` in nats per token ("token") or
        per answer ("sum"); ``length_gap`` in tokens.
    Raises: ValueError when logprob_N is missing or has the wrong length, or the number of sequences is odd.
    Edge cases: no pair: the loss is 0 and every statistic None. Both answers equally likely: ln 2 + α NLL. No statistic
        ``loss`` (see ``pairs``).
    Source: arXiv 2401.08417 eq. 3 and section 3. TRL 1.16 ``CPOTrainer.get_batch_loss_metrics`` (loss type "sigmoid")
        gives the value of "token"; the paper's equation is "sum".
    Fails when: answers differ in length (``length_gap``): log π is a sum over tokens, so that at the start the shorter
        answer of a pair is the likelier one whatever it says.

    Example: −1 nat for the chosen and −3 for the rejected answer, one token each, β = 0.1, α = 1:

        >>> import math
        >>> from torch import tensor
        >>> streams = Streams(tensor([0, 1]), 2, logprob_N=tensor([-1.0, -3.0]))
        >>> round(math.log(1 + math.exp(-0.1 * (-1 - -3))) + 1 * 1, 4)
        1.5981
        >>> round(CPO(beta=0.1)(streams).loss().item(), 4)
        1.5981
    """

    name: ClassVar[str] = "cpo"
    stage: ClassVar[str] = "preference"
    needs: ClassVar[tuple[str, ...]] = ("logprob_N",)

    beta: float = setting(
        0.1, "scale of the reward, the log-prob of the answer", "arXiv 2401.08417; TRL 1.16", above=0.0
    )
    nll_weight: float = setting(1.0, "α: weight of the NLL of chosen answers", "TRL 1.16 cpo_alpha", at_least=0.0)
    nll_normalisation: str = setting(
        "token", "the NLL averaged over tokens, or summed per answer", "TRL 1.16 CPOTrainer", choices=("token", "sum")
    )

    def __call__(self, streams: Streams) -> LossOut:
        logprob_S = logprob_sums(streams, self.name)
        (logprob_N,) = require(streams, self.name, "logprob_N")
        reward_S = self.beta * logprob_S
        preference = pair_term("preference", 1.0, -logsigmoid(difference(reward_S)))
        nll = CHOSEN_NLL[self.nll_normalisation](streams, logprob_N)
        stats = pair_statistics(streams, self.name, reward_S, logprob_S)
        return pair_loss_with_nll(preference, nll, self.nll_weight, stats)
