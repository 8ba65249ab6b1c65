"""Direct preference optimisation.

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
class DPO:
    """Fits the policy to preference pairs: a classification loss on the pair's implicit rewards.

    Equation: L = mean over pairs of −log σ( β [log π(y⁺|x)/π_ref(y⁺|x) − log π(y⁻|x)/π_ref(y⁻|x)] ).
        x is the prompt, y⁺ the chosen and y⁻ the rejected answer; log π(y|x) is summed over the answer's tokens;
        π is the policy, π_ref the frozen reference; σ(x) = 1 / (1 + exp(−x)). A larger β punishes distance from
        the reference more: the implicit reward of an answer is β log π/π_ref.

    Shapes: logprob_N, reference_logprob_N, entropy_N [N]; sequences 2i and 2i+1 are pair i.
    Units: log-probs and ``logratio/*`` in nats per answer; ``rewards/*`` are β times nats; ``length_gap`` in tokens.
    Raises: ValueError when a needed stream is missing or has the wrong length, or the number of sequences is odd.
    Edge cases: no pair: the loss is 0 and every statistic None. Policy = reference: ln 2, margin 0.
        A margin of 0 counts as wrong in ``rewards/accuracies``, as in TRL.
    Source: arXiv 2305.18290 eq. 7. TRL 1.16 ``DPOTrainer._compute_loss`` (loss type "sigmoid") gives the same
        value. ``length_gap`` and ``logratio/*`` are ours: log π/π_ref on the data is no KL, as the policy did not
        sample it.
    Fails when: see card dpo.beta. ``rewards/margins`` rises while ``logps/chosen`` falls.

    Example: β = 0.1, chosen up by 3 nats, rejected down by 2, so that the argument of σ is 0.1 · (3 − −2) = 0.5:

        >>> import math
        >>> from torch import tensor
        >>> logprob_N, reference_logprob_N = tensor([-1.0, -9.0]), tensor([-4.0, -7.0])
        >>> streams = Streams(tensor([0, 1]), 2, logprob_N=logprob_N, reference_logprob_N=reference_logprob_N)
        >>> round(math.log(1 + math.exp(-0.5)), 4)
        0.4741
        >>> round(DPO(beta=0.1)(streams).loss().item(), 4)
        0.4741
    """

    name: ClassVar[str] = "dpo"
    stage: ClassVar[str] = "preference"
    needs: ClassVar[tuple[str, ...]] = ("logprob_N", "reference_logprob_N")

    beta: float = setting(
        0.1,
        "how strongly the policy is held to the reference: larger stays closer",
        "arXiv 2305.18290 app. B (TL;DR: 0.5); TRL 1.16 the same",
        above=0.0,
    )

    def __call__(self, streams: Streams) -> LossOut:
        logratio_S = logratio_sums(streams, self.name)
        loss_P = -logsigmoid(self.beta * difference(logratio_S))
        return pair_loss(loss_P, reference_statistics(streams, self.name, self.beta, logratio_S))
