"""DPO with log ratios averaged over tokens.

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
    difference,
    logratio_sums,
    pair_loss,
    per_token,
    reference_statistics,
)

PRESETS: Mapping[str, Mapping[str, float | int | str]] = {
    # arXiv 2411.15124 (Tülu 3), preference tuning: β = 5 for log ratios per token.
    "paper": {"beta": 5.0},
    # TRL 1.16 DPOConfig.beta: the default for log ratios per answer serves its loss type "sigmoid_norm" too.
    "trl": {"beta": 0.1},
}


@dataclass(frozen=True)
class LengthNormalisedDPO:
    """DPO on log ratios per token, so that a long answer does not weigh more because it is long.

    Equation: L = mean over pairs of −log σ( β/|y⁺| log π(y⁺|x)/π_ref(y⁺|x) − β/|y⁻| log π(y⁻|x)/π_ref(y⁻|x) ).
        x is the prompt, y⁺ the chosen and y⁻ the rejected answer; |y| is the answer's number of tokens, log π(y|x) the
        sum over them; π is the policy, π_ref the frozen reference; σ(x) = 1 / (1 + exp(−x)).

    Shapes: logprob_N, reference_logprob_N, entropy_N [N]; sequences 2i and 2i+1 are pair i.
    Units: ``logratio/*`` in nats per answer and ``rewards/*`` β times that, as in TRL. ``rewards/margins_per_token`` is
        the argument of σ, β times nats per token; ``rewards/accuracies_per_token`` the share of pairs where it is > 0.
    Raises: ValueError when a needed stream is missing or has the wrong length, or the number of sequences is odd.
    Edge cases: no pair: the loss is 0 and every statistic None. Policy = reference: ln 2. Answers of one token: DPO.
    Source: arXiv 2411.15124, preference tuning (length-normalised DPO). TRL 1.16 ``DPOTrainer._compute_loss`` (loss
        type "sigmoid_norm") gives the same value. ``rewards/*_per_token`` are ours.
    Fails when: β is that of DPO: log ratios per token are smaller by the length, and at β = 0.1 the loss hardly moves
        from ln 2.

    Example: chosen up by 2 nats on two tokens, rejected down by 1 on one, β = 0.5, so that 0.5 · (2/2 − −1/1) = 1:

        >>> import math
        >>> from torch import tensor
        >>> logprob_N, reference_logprob_N = tensor([-1.0, -2.0, -4.0]), tensor([-2.0, -3.0, -3.0])
        >>> streams = Streams(tensor([0, 0, 1]), 2, logprob_N=logprob_N, reference_logprob_N=reference_logprob_N)
        >>> round(math.log(1 + math.exp(-0.5 * (2 / 2 - -1 / 1))), 4)
        0.3133
        >>> round(LengthNormalisedDPO(beta=0.5)(streams).loss().item(), 4)
        0.3133
    """

    name: ClassVar[str] = "dpo_length_normalised"
    stage: ClassVar[str] = "preference"
    needs: ClassVar[tuple[str, ...]] = ("logprob_N", "reference_logprob_N")

    beta: float = setting(
        5.0, "how strongly the policy is held to the reference, per token", "arXiv 2411.15124; TRL 1.16: 0.1", above=0.0
    )

    def __call__(self, streams: Streams) -> LossOut:
        logratio_S = logratio_sums(streams, self.name)
        margin_P = self.beta * difference(per_token(streams, logratio_S))
        stats = {
            **reference_statistics(streams, self.name, self.beta, logratio_S),
            "rewards/margins_per_token": stat(margin_P),
            "rewards/accuracies_per_token": stat(margin_P > 0),
        }
        return pair_loss(-logsigmoid(margin_P), stats)
