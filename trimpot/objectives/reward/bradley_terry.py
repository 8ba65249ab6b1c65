"""The Bradley–Terry reward model, with margin and centring.

Shape suffixes: S sequences, P = S / 2 pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn.functional import logsigmoid

from trimpot.core.settings import setting
from trimpot.core.stats import Stat
from trimpot.core.tensors import LossOut, Streams, Term, stat
from trimpot.objectives.require import optional, require, require_pairs


@dataclass(frozen=True)
class BradleyTerry:
    """Negative log-likelihood that the chosen answer beats the rejected one under the reward model.

    Equation: L = mean over pairs of [ −log σ(r⁺ − r⁻ − m) + c · (r⁺ + r⁻)² ].
        r⁺, r⁻ are the rewards of the chosen and the rejected answer; m is the pair's margin (0 where the batch
        has none); c is ``center_coefficient``; σ(x) = 1 / (1 + exp(−x)).

    Shapes: reward_S, margin_S [S]; sequences 2i and 2i+1 are pair i, both carry the pair's margin.
    Units: rewards and margins are log-odds (nats): a difference of d means P(chosen beats rejected) = σ(d).
    Raises: ValueError when reward_S is missing, a stream has the wrong length or the number of sequences is odd.
    Edge cases: no pair: the loss is 0 and every statistic None. r⁺ = r⁻ = 0 without margin: ln 2.
        A tie (r⁺ = r⁻) counts as wrong in ``accuracy``, as in TRL.
    Source: arXiv 2307.09288 eq. 2 (margin), arXiv 2312.09244 eq. 2 (centring). TRL 1.16
        ``RewardTrainer.compute_loss`` gives the same value. ``chosen_longer`` is ours: the accuracy of always
        preferring the longer answer (a tie counts one half), which ``accuracy`` has to beat.
    Fails when: length decides (``accuracy`` is no better than ``chosen_longer``), or the mean reward drifts:
        without centring L does not change when a constant is added to all rewards. No card of its own yet.

    Example: rewards 1.5 and 0.5, margin 1, so that the argument of σ is 1.5 − 0.5 − 1 = 0:

        >>> import math
        >>> from torch import tensor
        >>> reward_S, margin_S, no_targets = tensor([1.5, 0.5]), tensor([1.0, 1.0]), tensor([], dtype=torch.long)
        >>> streams = Streams(no_targets, sequences=2, reward_S=reward_S, margin_S=margin_S)
        >>> round(math.log(2) + 0.01 * (1.5 + 0.5) ** 2, 4)
        0.7331
        >>> round(BradleyTerry(center_coefficient=0.01)(streams).loss().item(), 4)
        0.7331
    """

    name: ClassVar[str] = "bradley_terry"
    stage: ClassVar[str] = "reward"
    needs: ClassVar[tuple[str, ...]] = ("reward_S",)

    center_coefficient: float = setting(
        0.0,
        "weight of the squared sum of a pair's rewards, which keeps the mean reward near 0",
        "TRL 1.16 center_rewards_coefficient None; it recommends 1e-2 (arXiv 2312.09244)",
        at_least=0.0,
    )

    def __call__(self, streams: Streams) -> LossOut:
        require_pairs(streams, self.name)
        (reward_S,) = require(streams, self.name, "reward_S")
        margin_S = optional(streams, self.name, "margin_S")
        chosen_P, rejected_P = reward_S[0::2], reward_S[1::2]
        difference_P = chosen_P - rejected_P
        target_P = difference_P if margin_S is None else difference_P - margin_S[0::2]

        likelihood, centring = -logsigmoid(target_P).sum(), (chosen_P + rejected_P).square().sum()
        count = float(len(chosen_P))
        terms = [Term("bradley_terry", 1.0, likelihood, count)]
        if self.center_coefficient > 0:
            terms.append(Term("centring", self.center_coefficient, centring, count))
        stats = {
            "loss": Stat(float((likelihood + self.center_coefficient * centring).detach()), count),
            "accuracy": stat(difference_P > 0),
            "margin": stat(difference_P),
            "mean_reward": stat(reward_S),
        }
        if len(streams.sequence_N):
            lengths_S = streams.lengths_S()
            stats["chosen_longer"] = stat((1 + torch.sign(lengths_S[0::2] - lengths_S[1::2])) / 2)
        return LossOut(tuple(terms), stats)
