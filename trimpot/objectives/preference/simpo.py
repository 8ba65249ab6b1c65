"""Simple preference optimisation, without a reference.

Shape suffixes: N targets, S sequences, P = S / 2 pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch.nn.functional import logsigmoid

from trimpot.core.settings import setting
from trimpot.core.tensors import LossOut, Streams
from trimpot.objectives.preference.pairs import difference, logprob_sums, pair_loss, pair_statistics, per_token

PRESETS: Mapping[str, Mapping[str, float | int | str]] = {
    # princeton-nlp/SimPO at 005072f, README: Llama3-Base has β = 2 and γ/β = 0.5, which is also the advised start.
    "paper": {"beta": 2.0, "gamma": 1.0},
    # TRL 1.16 CPOConfig beta and simpo_gamma; its loss type "simpo" also adds an NLL term unless cpo_alpha is 0.
    "trl": {"beta": 0.1, "gamma": 0.5},
}


@dataclass(frozen=True)
class SimPO:
    """Asks for a margin between the length-normalised log-probs of a pair; there is no reference.

    Equation: L = mean over pairs of −log σ( β/|y⁺| log π(y⁺|x) − β/|y⁻| log π(y⁻|x) − γ ).
        x is the prompt, y⁺ the chosen and y⁻ the rejected answer; |y| is the answer's number of tokens, log π(y|x)
        the sum over them; π is the policy; γ is the target margin; σ(x) = 1 / (1 + exp(−x)).

    Shapes: logprob_N, entropy_N [N]; sequences 2i and 2i+1 are pair i.
    Units: ``logps/*`` in nats per token, as in TRL; ``rewards/*`` are β times that; γ as ``rewards/margins``.
    Raises: ValueError when logprob_N is missing or has the wrong length, or the number of sequences is odd.
    Edge cases: no pair: the loss is 0 and every statistic None. Both answers equally likely per token: ln(1 + e^γ).
        ``rewards/accuracies`` counts a pair as right when it wins at all, not by γ, as in TRL.
    Source: arXiv 2405.14734 eq. 6. TRL 1.16 ``CPOTrainer`` (loss type "simpo", cpo_alpha 0) gives the same value.
    Fails when: the learning rate is high: nothing holds the policy back, and ``logps/chosen`` falls while
        ``rewards/margins`` rises; the authors' README warns of incoherent text at 1e-5.

    Example: per token −0.5 for the chosen and −1 for the rejected answer, β = 2, γ = 1, so that 2 · 0.5 − 1 = 0:

        >>> import math
        >>> from torch import tensor
        >>> streams = Streams(tensor([0, 0, 1]), 2, logprob_N=tensor([-0.25, -0.75, -1.0]))
        >>> round(math.log(1 + math.exp(-(2 * -0.5 - 2 * -1 - 1))), 4)
        0.6931
        >>> round(SimPO(beta=2.0, gamma=1.0)(streams).loss().item(), 4)
        0.6931
    """

    name: ClassVar[str] = "simpo"
    stage: ClassVar[str] = "preference"
    needs: ClassVar[tuple[str, ...]] = ("logprob_N",)

    beta: float = setting(
        2.0,
        "scale of the reward, the mean log-prob per token",
        "arXiv 2405.14734 (2 to 2.5; later 10); TRL 0.1",
        above=0.0,
    )
    gamma: float = setting(
        1.0, "margin that the chosen answer's reward must win by", "authors' README: γ/β = 0.5; TRL 0.5", at_least=0.0
    )

    def __call__(self, streams: Streams) -> LossOut:
        logprob_S = per_token(streams, logprob_sums(streams, self.name))
        reward_S = self.beta * logprob_S
        loss_P = -logsigmoid(difference(reward_S) - self.gamma)
        return pair_loss(loss_P, pair_statistics(streams, self.name, reward_S, logprob_S))
