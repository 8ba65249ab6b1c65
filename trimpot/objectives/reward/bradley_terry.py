"""The Bradley–Terry reward model, with margin, centring and label smoothing.

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

    Equation: L = mean over pairs of [ −(1 − ε) log σ(d) − ε log σ(−d) + c · (r⁺ + r⁻)² ], d = r⁺ − r⁻ − m.
        r⁺, r⁻ are the rewards of the chosen and the rejected answer; m is the pair's margin (0 where the batch
        has none); ε is ``label_smoothing``, the probability that a label is wrong; c is ``center_coefficient``;
        σ(x) = 1 / (1 + exp(−x)).

    Shapes: reward_S, margin_S [S]; sequences 2i and 2i+1 are pair i, both carry the pair's margin.
    Units: rewards and margins are log-odds (nats): P(chosen beats rejected) = σ(r⁺ − r⁻).
    Raises: ValueError when reward_S is missing, a stream has the wrong length or the number of sequences is odd.
    Edge cases: no pair: the loss is 0 and every statistic None. r⁺ = r⁻ = 0 without margin: ln 2. ε > 0: the loss
        of a pair is least at d = log (1 − ε)/ε, and never 0. ε = 1/2: labels say nothing, d goes to 0.
        A tie (r⁺ = r⁻) counts as wrong in ``accuracy``, as in TRL.
    Source: arXiv 2307.09288 eq. 2 (margin), arXiv 2312.09244 eq. 2 (centring), arXiv 2401.06080 (label smoothing,
        there without margin). TRL 1.16 ``RewardTrainer.compute_loss`` gives the same value at ε = 0; it has no
        smoothing. ``chosen_longer`` is ours: the accuracy of always preferring the longer answer (a tie counts one
        half), which ``accuracy`` has to beat.
    Fails when: see cards reward.data, reward.center and reward.label_noise. Length decides (``accuracy`` is no
        better than ``chosen_longer``), or the mean reward drifts: without centring L does not change when a constant is
        added to all rewards.

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
    label_smoothing: float = setting(
        0.0, "ε: how likely a label is wrong; keeps margins finite", "TRL 1.16 has none", at_least=0.0, at_most=0.5
    )

    def __call__(self, streams: Streams) -> LossOut:
        require_pairs(streams, self.name)
        (reward_S,) = require(streams, self.name, "reward_S")
        margin_S = optional(streams, self.name, "margin_S")
        chosen_P, rejected_P = reward_S[0::2], reward_S[1::2]
        difference_P = chosen_P - rejected_P
        target_P = difference_P if margin_S is None else difference_P - margin_S[0::2]

        likelihood, centring = -logsigmoid(target_P).sum(), (chosen_P + rejected_P).square().sum()
        if self.label_smoothing > 0:
            flipped = -logsigmoid(-target_P).sum()
            likelihood = (1 - self.label_smoothing) * likelihood + self.label_smoothing * flipped
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
