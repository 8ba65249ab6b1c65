"""The process reward model: is this step right?

Shape suffixes: N steps (one target each), S solutions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from trimpot.core.errors import UsageError, nearest
from trimpot.core.stats import Stat
from trimpot.core.tensors import LossOut, Streams, Term, stat
from trimpot.objectives.require import require

SOLUTION_SCORES = ("min", "product", "last")


@dataclass(frozen=True)
class ProcessReward:
    """Binary cross-entropy of every step's label, all steps counting alike.

    Equation: L = −(1/N) Σₙ [ yₙ log σ(zₙ) + (1 − yₙ) log(1 − σ(zₙ)) ].
        n runs over the steps of all solutions; zₙ is the model's logit at the token that ends step n; yₙ is 1 where the
        step is right and 0 where it is wrong; σ(x) = 1 / (1 + exp(−x)).

    Shapes: reward_N, label_N [N].
    Units: logits (nats): P(step is right) = σ(z).
    Raises: ValueError when reward_N or label_N is missing or has the wrong length.
    Edge cases: no step: the loss is 0 and every statistic None. z = 0: ln 2, and the step counts as judged wrong. No
        wrong step in the batch: ``accuracy/wrong`` is None.
    Source: arXiv 2312.08935 (Math-Shepherd), its loss of the process reward model, there a sum over a solution's steps;
        arXiv 2305.20050 trains on step labels by humans. TRL had ``PRMTrainer`` (gone from 1.16), a token classifier
        with two labels: its cross-entropy is the same, z being the difference of its two logits.
    Fails when: see card process_reward. Most steps are right (``positive_share`` near 1): always saying "right" has
        that accuracy, and ``accuracy/wrong`` shows it.

    Example: two right steps with logits 2 and 0, a wrong one with logit −1:

        >>> import math
        >>> from torch import tensor
        >>> reward_N, label_N = tensor([2.0, 0.0, -1.0]), tensor([1.0, 1.0, 0.0])
        >>> streams = Streams(tensor([0, 0, 0]), sequences=1, reward_N=reward_N, label_N=label_N)
        >>> round((math.log(1 + math.exp(-2)) + math.log(2) + math.log(1 + math.exp(-1))) / 3, 4)
        0.3778
        >>> round(ProcessReward()(streams).loss().item(), 4)
        0.3778
    """

    name: ClassVar[str] = "process_reward"
    stage: ClassVar[str] = "reward"
    needs: ClassVar[tuple[str, ...]] = ("reward_N", "label_N")

    def __call__(self, streams: Streams) -> LossOut:
        reward_N, label_N = require(streams, self.name, "reward_N", "label_N")
        label_N = label_N.to(reward_N.dtype)
        total = binary_cross_entropy_with_logits(reward_N, label_N, reduction="sum")
        count = float(len(reward_N))
        right_N = label_N > 0.5
        correct_N = (reward_N > 0) == right_N
        stats = {
            "loss": Stat(float(total.detach()), count),
            "accuracy": stat(correct_N),
            "accuracy/right": stat(correct_N[right_N]),
            "accuracy/wrong": stat(correct_N[~right_N]),
            "positive_share": stat(right_N),
        }
        return LossOut((Term("cross_entropy", 1.0, total, count),), stats)


def solution_score(step_logits: Tensor, how: str = "min") -> float | None:
    """The score of a whole solution, in [0, 1], from the logits of its steps.

    Equation: pₙ = σ(zₙ); min: minₙ pₙ; product: Πₙ pₙ, the probability that all steps are right if they were
        independent; last: p of the last step.

    Shapes: step_logits [N], in the order of the steps.
    Raises: UsageError for an unknown way; ValueError when the logits are not a vector.
    Edge cases: no step: None. ``product`` falls with the number of steps, so it prefers short solutions.
    Source: arXiv 2305.20050 (product), arXiv 2312.08935 (min).

    Example: logits 0 and ln 3 give p = 1/2 and 3/4: min 0.5, product 0.375, last 0.75.
    """
    if how not in SOLUTION_SCORES:
        raise UsageError("solution score", f"{how!r} is unknown", nearest(how, SOLUTION_SCORES))
    if step_logits.ndim != 1:
        raise ValueError(f"the logits of one solution's steps have shape [steps], not {list(step_logits.shape)}")
    if not len(step_logits):
        return None
    log_p_N = logsigmoid(step_logits.detach().double())
    score = {"min": log_p_N.min(), "product": log_p_N.sum(), "last": log_p_N[-1]}[how]
    return float(score.exp())
