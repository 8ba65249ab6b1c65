"""Robust direct preference optimisation: DPO with an unbiased loss under flipped labels.

Shape suffixes: N targets, S sequences, P = S / 2 pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch.nn.functional import logsigmoid

from trimpot.core.settings import setting
from trimpot.core.tensors import LossOut, Streams
from trimpot.objectives.preference.pairs import difference, logratio_sums, pair_loss, reference_statistics

PRESETS: Mapping[str, Mapping[str, float | int | str]] = {
    # arXiv 2403.00409, experiments: ε = 0.1.
    "paper": {"label_smoothing": 0.1},
    # TRL 1.16 DPOConfig.label_smoothing: without noise the loss is DPO's.
    "trl": {"label_smoothing": 0.0},
}


@dataclass(frozen=True)
class RobustDPO:
    """DPO whose mean under labels flipped with probability ε is DPO's mean under the true labels.

    Equation: L = mean over pairs of [ −(1 − ε) log σ(m) + ε log σ(−m) ] / (1 − 2ε),
        m = β [log π(y⁺|x)/π_ref(y⁺|x) − log π(y⁻|x)/π_ref(y⁻|x)].
        x is the prompt, y⁺ the chosen and y⁻ the rejected answer; log π(y|x) is summed over the answer's tokens;
        π is the policy, π_ref the frozen reference; σ(x) = 1 / (1 + exp(−x)); ε is ``label_smoothing``.

    Shapes: logprob_N, reference_logprob_N, entropy_N [N]; sequences 2i and 2i+1 are pair i.
    Units: log-probs and ``logratio/*`` in nats per answer; ``rewards/*`` are β times nats; ``length_gap`` in tokens.
    Raises: ValueError when a needed stream is missing or has the wrong length, or the number of sequences is odd.
    Edge cases: no pair: the loss is 0 and every statistic None. Policy = reference: ln 2. ε = 0: DPO.
    Source: arXiv 2403.00409 section 3 (the unbiased loss). TRL 1.16 ``DPOTrainer._compute_loss`` (loss type
        "robust") gives the same value.
    Fails when: see card robust_dpo. On fixed pairs the loss falls without bound as m grows, by ε / (1 − 2ε) per unit of
        m, at any ε > 0, so that nothing stops ``rewards/margins``: a right ε bounds only the mean over redrawn labels.
        A negative loss is ordinary.

    Example: β = 0.1, chosen up by 3 nats, rejected down by 2, so that m = 0.5; ε = 0.1:

        >>> import math
        >>> from torch import tensor
        >>> logprob_N, reference_logprob_N = tensor([-1.0, -9.0]), tensor([-4.0, -7.0])
        >>> streams = Streams(tensor([0, 1]), 2, logprob_N=logprob_N, reference_logprob_N=reference_logprob_N)
        >>> round((0.9 * math.log(1 + math.exp(-0.5)) - 0.1 * math.log(1 + math.exp(0.5))) / 0.8, 4)
        0.4116
        >>> round(RobustDPO(beta=0.1, label_smoothing=0.1)(streams).loss().item(), 4)
        0.4116
    """

    name: ClassVar[str] = "robust_dpo"
    stage: ClassVar[str] = "preference"
    needs: ClassVar[tuple[str, ...]] = ("logprob_N", "reference_logprob_N")

    beta: float = setting(
        0.1, "how strongly the policy is held to the reference: larger stays closer", "TRL 1.16 beta", above=0.0
    )
    label_smoothing: float = setting(
        0.1,
        "ε: how likely a label is flipped; at ½ the labels say nothing",
        "arXiv 2403.00409",
        at_least=0.0,
        at_most=0.49,
    )

    def __call__(self, streams: Streams) -> LossOut:
        logratio_S = logratio_sums(streams, self.name)
        margin_P = self.beta * difference(logratio_S)
        right_P, flipped_P = -logsigmoid(margin_P), -logsigmoid(-margin_P)
        epsilon = self.label_smoothing
        loss_P = ((1 - epsilon) * right_P - epsilon * flipped_P) / (1 - 2 * epsilon)
        return pair_loss(loss_P, reference_statistics(streams, self.name, self.beta, logratio_S))
