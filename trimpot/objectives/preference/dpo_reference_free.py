"""DPO without a reference.

Shape suffixes: N targets, S sequences, P = S / 2 pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch.nn.functional import logsigmoid

from trimpot.core.settings import setting
from trimpot.core.tensors import LossOut, Streams
from trimpot.objectives.preference.pairs import difference, logprob_sums, pair_loss, pair_statistics


@dataclass(frozen=True)
class ReferenceFreeDPO:
    """DPO with a reference that finds every answer equally likely: the log-probs themselves are the rewards.

    Equation: L = mean over pairs of −log σ( β [log π(y⁺|x) − log π(y⁻|x)] ).
        x is the prompt, y⁺ the chosen and y⁻ the rejected answer; log π(y|x) is summed over the answer's tokens; π is
        the policy; σ(x) = 1 / (1 + exp(−x)). It is DPO with log π_ref(y|x) = 0.

    Shapes: logprob_N, entropy_N [N]; sequences 2i and 2i+1 are pair i.
    Units: ``logps/*`` in nats per answer; ``rewards/*`` are β times that; ``length_gap`` in tokens.
    Raises: ValueError when logprob_N is missing or has the wrong length, or the number of sequences is odd.
    Edge cases: no pair: the loss is 0 and every statistic None. Both answers equally likely: ln 2; a start at ln 2 is
        not to be expected.
    Source: arXiv 2305.18290 eq. 7 with a constant reference, the option ``reference_free`` of the authors' code. TRL
        1.16 ``CPOTrainer`` (loss type "sigmoid", cpo_alpha 0) gives the same value.
    Fails when: answers differ in length (``length_gap``): the longer one starts with the lower reward. Nothing holds
        the policy back: both ``logps/*`` fall.

    Example: −1 nat for the chosen and −6 for the rejected answer, β = 0.1, so that the argument of σ is 0.5:

        >>> import math
        >>> from torch import tensor
        >>> streams = Streams(tensor([0, 1]), 2, logprob_N=tensor([-1.0, -6.0]))
        >>> round(math.log(1 + math.exp(-0.1 * (-1 - -6))), 4)
        0.4741
        >>> round(ReferenceFreeDPO(beta=0.1)(streams).loss().item(), 4)
        0.4741
    """

    name: ClassVar[str] = "dpo_reference_free"
    stage: ClassVar[str] = "preference"
    needs: ClassVar[tuple[str, ...]] = ("logprob_N",)

    beta: float = setting(0.1, "scale of the reward, the log-prob of the answer", "TRL 1.16 beta", above=0.0)

    def __call__(self, streams: Streams) -> LossOut:
        logprob_S = logprob_sums(streams, self.name)
        reward_S = self.beta * logprob_S
        loss_P = -logsigmoid(difference(reward_S))
        return pair_loss(loss_P, pair_statistics(streams, self.name, reward_S, logprob_S))
