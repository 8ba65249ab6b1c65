"""Supervised fine-tuning: token-mean cross-entropy.

Shape suffixes: N targets, S sequences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from trimpot.core.stats import Stat
from trimpot.core.tensors import LossOut, Streams, Term, stat
from trimpot.objectives.require import optional, require


@dataclass(frozen=True)
class SupervisedFineTuning:
    """Cross-entropy of the supervised tokens, every token counting alike (times its row's weight).

    Equation: L = −Σₙ wₙ log π(yₙ | y₍<ₙ₎) / Σₙ wₙ.
        n runs over the targets of the whole step; yₙ is the target token, y₍<ₙ₎ all tokens before it in its
        sequence; π is the policy; wₙ the weight of the token's row (1 where the batch has no weights).

    Shapes: logprob_N, weight_N, entropy_N, correct_N, end_N, answer_N [N].
    Units: nats per token. Perplexity is exp(L).
    Raises: ValueError when logprob_N is missing or a stream has the wrong length.
    Edge cases: no target, or all weights 0: the loss is 0 and the statistic ``loss`` None.
        ``entropy`` and ``mean_token_accuracy`` are unweighted means over tokens, as in TRL; ``num_target_tokens``
        is the mean number of targets per sequence, and its total the number of targets. ``end_token_logprob`` is the
        mean log-prob of the targets that end a turn; ``prompt_tokens_share`` the share of targets outside answers
        (with answer_N only, which ``ChatTemplate.chat`` gives under masks of answers).
    Source: maximum likelihood. TRL 1.16 ``SFTTrainer.compute_loss`` (loss type "nll") gives the same value at
        weights of 1; row weights are ours.
    Fails when: see card sft.mask. Nothing is supervised (TRL then reports 0.0; see trl#6668), or rows differ so much in
        length that long ones set the gradient: every token counts alike, not every row.

    Example: log-probs −1, −2 and −3 with weights 1, 1, 2:

        >>> from torch import tensor
        >>> logprob_N, weight_N = tensor([-1.0, -2.0, -3.0]), tensor([1.0, 1.0, 2.0])
        >>> streams = Streams(tensor([0, 0, 1]), sequences=2, logprob_N=logprob_N, weight_N=weight_N)
        >>> (1 * 1 + 1 * 2 + 2 * 3) / (1 + 1 + 2)
        2.25
        >>> SupervisedFineTuning()(streams).loss().item()
        2.25
    """

    name: ClassVar[str] = "sft"
    stage: ClassVar[str] = "sft"
    needs: ClassVar[tuple[str, ...]] = ("logprob_N",)

    def __call__(self, streams: Streams) -> LossOut:
        (logprob_N,) = require(streams, self.name, "logprob_N")
        weight_N = optional(streams, self.name, "weight_N")
        if weight_N is None:
            weight_N = torch.ones_like(logprob_N)
        total, count = -(weight_N * logprob_N).sum(), float(weight_N.double().sum())
        stats = {
            "loss": Stat(float(total.detach()), count),
            "num_target_tokens": Stat(float(len(logprob_N)), float(streams.sequences)),
        }
        end_N = optional(streams, self.name, "end_N")
        if end_N is not None:
            ends_N = end_N.bool()
            stats["end_token_logprob"] = stat(logprob_N[ends_N])
            stats["end_tokens_per_sequence"] = Stat(float(ends_N.sum()), float(streams.sequences))
        answer_N = optional(streams, self.name, "answer_N")
        if answer_N is not None:
            stats["prompt_tokens_share"] = stat(1.0 - answer_N.double())
        for metric, stream in (("entropy", "entropy_N"), ("mean_token_accuracy", "correct_N")):
            values_N = optional(streams, self.name, stream)
            if values_N is not None:
                stats[metric] = stat(values_N)
        return LossOut((Term("cross_entropy", 1.0, total, count),), stats)
