"""Conservative direct preference optimisation: DPO with smoothed labels.

Shape suffixes: N targets, S sequences, P = S / 2 pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch.nn.functional import logsigmoid

from trimpot.core.settings import setting
from trimpot.core.tensors import LossOut, Streams
from trimpot.objectives.preference.pairs import difference, logratio_sums, pair_loss, reference_statistics


@dataclass(frozen=True)
class ConservativeDPO:
    """DPO that takes each label as right with probability 1 − ε only, so that the margin has a finite optimum.

    Equation: L = mean over pairs of −(1 − ε) log σ(m) − ε log σ(−m),
        m = β [log π(y⁺|x)/π_ref(y⁺|x) − log π(y⁻|x)/π_ref(y⁻|x)].
        x is the prompt, y⁺ the chosen and y⁻ the rejected answer; log π(y|x) is summed over the answer's tokens;
        π is the policy, π_ref the frozen reference; σ(x) = 1 / (1 + exp(−x)); ε is ``label_smoothing``. The loss of
        a pair is least at m = log (1 − ε)/ε.

    Shapes: logprob_N, reference_logprob_N, entropy_N [N]; sequences 2i and 2i+1 are pair i.
    Units: log-probs and ``logratio/*`` in nats per answer; ``rewards/*`` are β times nats; ``length_gap`` in tokens.
    Raises: ValueError when a needed stream is missing or has the wrong length, or the number of sequences is odd.
    Edge cases: no pair: the loss is 0 and every statistic None. Policy = reference: ln 2. ε = 0: DPO.
    Source: Mitchell, "A note on DPO with noisy preferences & relationship to IPO" (2023), the cDPO loss. TRL 1.16
        has it as ``DPOTrainer`` loss type "aot_unpaired" on a batch of one pair, where sorting does nothing, and in
        ``CPOTrainer.cpo_loss`` ("sigmoid", label_smoothing); both give the same value.
    Fails when: ε is larger than the share of wrong labels: the margin stops early (ε = 0.1 at m = 2.2). Its mean is
        biased under flipped labels, unlike ``robust_dpo``.

    Example: β = 0.1, chosen up by 3 nats, rejected down by 2, so that m = 0.5; ε = 0.1:

        >>> import math
        >>> from torch import tensor
        >>> logprob_N, reference_logprob_N = tensor([-1.0, -9.0]), tensor([-4.0, -7.0])
        >>> streams = Streams(tensor([0, 1]), 2, logprob_N=logprob_N, reference_logprob_N=reference_logprob_N)
        >>> round(0.9 * math.log(1 + math.exp(-0.5)) + 0.1 * math.log(1 + math.exp(0.5)), 4)
        0.5241
        >>> round(ConservativeDPO(beta=0.1, label_smoothing=0.1)(streams).loss().item(), 4)
        0.5241
    """

    name: ClassVar[str] = "cdpo"
    stage: ClassVar[str] = "preference"
    needs: ClassVar[tuple[str, ...]] = ("logprob_N", "reference_logprob_N")

    beta: float = setting(
        0.1, "how strongly the policy is held to the reference: larger stays closer", "TRL 1.16 beta", above=0.0
    )
    label_smoothing: float = setting(0.1, "ε: how likely a label is wrong", "ours; 0 is DPO", at_least=0.0, at_most=0.5)

    def __call__(self, streams: Streams) -> LossOut:
        logratio_S = logratio_sums(streams, self.name)
        margin_P = self.beta * difference(logratio_S)
        right_P, wrong_P = -logsigmoid(margin_P), -logsigmoid(-margin_P)
        loss_P = (1 - self.label_smoothing) * right_P + self.label_smoothing * wrong_P
        return pair_loss(loss_P, reference_statistics(streams, self.name, self.beta, logratio_S))
