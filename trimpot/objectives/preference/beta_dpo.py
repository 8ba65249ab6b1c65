"""β-DPO: DPO with a β that follows the mean margin of the step.

Shape suffixes: N targets, S sequences, P = S / 2 pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch.nn.functional import logsigmoid

from trimpot.core.settings import setting
from trimpot.core.stats import Stat
from trimpot.core.tensors import LossOut, Streams, stat
from trimpot.objectives.preference.pairs import difference, logratio_sums, pair_loss, reference_statistics

MEAN_MARGIN = "beta_dpo/mean_margin"
RUNNING_MARGIN = "beta_dpo/running_margin"
# The bound of the authors' code (junkangwu/beta-DPO at 8280272, trainers.py): β stays above 0.
SMALLEST_BETA = 1e-3

PRESETS: Mapping[str, Mapping[str, float | int | str]] = {
    # arXiv 2407.08639 section 4: M in units of β0 · nats.
    "paper": {"beta": 0.1, "alpha": 0.6, "momentum": 0.9},
    # The authors' code (a = 0.6) leaves β0 out of M, and updates M0 first, which shrinks M − M0 to momentum times it:
    # α = 0.6 / β0 · momentum gives its β_t, M0 here being the one before the update.
    "authors_code": {"beta": 0.1, "alpha": 5.4, "momentum": 0.9},
}


@dataclass(frozen=True)
class BetaDPO:
    """DPO whose β grows when the pairs of a step are told apart more clearly than those before, and shrinks otherwise.

    Equation: L = mean over pairs of −log σ( β_t d ),  β_t = max( β0 [1 + α (M − M0)], 0.001 ),
        d = log π(y⁺|x)/π_ref(y⁺|x) − log π(y⁻|x)/π_ref(y⁻|x),  M = mean of β0 d over the pairs of the step,
        M0 ← μ M0 + (1 − μ) M after the step, 0 at first.
        x is the prompt, y⁺ the chosen and y⁻ the rejected answer; log π(y|x) is summed over the answer's tokens;
        π is the policy, π_ref the frozen reference; σ(x) = 1 / (1 + exp(−x)); β0 is ``beta``, μ ``momentum``.
        β_t has no gradient.

    Shapes: logprob_N, reference_logprob_N, entropy_N [N]; sequences 2i and 2i+1 are pair i.
    Units: log-probs and ``logratio/*`` in nats per answer; ``rewards/*``, M and M0 are β0 times nats; ``beta`` is β_t.
    Raises: ValueError when a needed stream is missing or has the wrong length, or the number of sequences is odd.
    Edge cases: no pair: the loss is 0 and every statistic None. Policy = reference: ln 2. Without the step's mean
        margin M = M0. A margin that is not finite leaves M0 as it was.
    Source: arXiv 2407.08639 section 4 (batch-level β and its moving average). The bound 0.001 is the authors' code's.
        Not here: the paper's β-guided filter, which draws 80 % of the pairs at random and so is no function of the
        streams. TRL 1.16 does not have this loss; at α = 0 it is DPO.
    Fails when: the step has few pairs: M is noise, and so is β_t (see ``beta``). The margin grows steadily: M stays
        above M0 and β_t above β0.

    Example: β0 = 0.1, α = 0.6, M0 = 0; chosen up by 3 nats, rejected down by 2, so that d = 5, M = 0.5, β_t = 0.13:

        >>> import dataclasses, math
        >>> from torch import tensor
        >>> logprob_N, reference_logprob_N = tensor([-1.0, -9.0]), tensor([-4.0, -7.0])
        >>> streams = Streams(tensor([0, 1]), 2, logprob_N=logprob_N, reference_logprob_N=reference_logprob_N)
        >>> step = {MEAN_MARGIN: BetaDPO().step_statistics(streams)[MEAN_MARGIN].value}
        >>> round(math.log(1 + math.exp(-0.1 * (1 + 0.6 * 0.5) * 5)), 4)
        0.4201
        >>> round(BetaDPO()(dataclasses.replace(streams, step=step)).loss().item(), 4)
        0.4201
    """

    name: ClassVar[str] = "beta_dpo"
    stage: ClassVar[str] = "preference"
    needs: ClassVar[tuple[str, ...]] = ("logprob_N", "reference_logprob_N")

    beta: float = setting(0.1, "β0: the β of a step whose margin is as before", "arXiv 2407.08639", above=0.0)
    alpha: float = setting(0.6, "how strongly β follows the margin; 0 is DPO", "arXiv 2407.08639", at_least=0.0)
    momentum: float = setting(
        0.9, "μ: how much of the running mean margin a step keeps", "arXiv 2407.08639", at_least=0.0, at_most=1.0
    )

    def step_statistics(self, streams: Streams) -> Mapping[str, Stat]:
        """M: the mean margin over the step."""
        return {MEAN_MARGIN: stat(self.beta * difference(logratio_sums(streams, self.name)))}

    def initial(self) -> Mapping[str, float]:
        """M0 of the first step."""
        return {RUNNING_MARGIN: 0.0}

    def carry(self, carried: Mapping[str, float], metrics: Mapping[str, float | None]) -> Mapping[str, float]:
        """M0 of the next step; ``rewards/margins`` is M."""
        margin = metrics.get("rewards/margins")
        if margin is None or not math.isfinite(margin):
            return carried
        return {RUNNING_MARGIN: self.momentum * carried[RUNNING_MARGIN] + (1 - self.momentum) * margin}

    def __call__(self, streams: Streams) -> LossOut:
        logratio_S = logratio_sums(streams, self.name)
        beta = self._beta(streams.step)
        loss_P = -logsigmoid(beta * difference(logratio_S))
        stats = {
            **reference_statistics(streams, self.name, self.beta, logratio_S),
            "beta": Stat(beta * len(loss_P), float(len(loss_P))),
        }
        return pair_loss(loss_P, stats)

    def _beta(self, step: Mapping[str, float]) -> float:
        running = step.get(RUNNING_MARGIN, 0.0)
        mean = step.get(MEAN_MARGIN, running)
        return max(self.beta * (1 + self.alpha * (mean - running)), SMALLEST_BETA)
