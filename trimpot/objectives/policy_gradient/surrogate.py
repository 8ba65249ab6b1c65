"""The parts of policy-gradient losses: probability ratio, clipped surrogate, normalisation, and their statistics.

Shape suffixes: N targets, S sequences (completions).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trimpot.core.settings import setting
from trimpot.core.stats import Stat
from trimpot.core.tensors import LossOut, Streams, Term, stat
from trimpot.objectives.require import optional

NORMALISATIONS = ("sequence", "token", "fixed")
LOG_RATIO_LIMIT = 20.0
"""Log ratios are cut off here, so that exp stays finite in float32: as verl does, but from above only."""


def clip_low_setting(default: float = 0.2, origin: str = "TRL 1.16 epsilon") -> Any:
    """The field ``clip_low``."""
    return setting(default, "ε_low: the ratio has no effect below 1 − ε_low", origin, above=0.0, at_most=1.0)


def clip_high_setting(default: float = 0.2, origin: str = "TRL 1.16 epsilon") -> Any:
    """The field ``clip_high``."""
    return setting(default, "ε_high: the ratio has no effect above 1 + ε_high", origin, above=0.0)


def limited_exp(log_ratio: Tensor) -> Tensor:
    """exp of a log ratio cut off at +20, with no gradient above it. Any shape."""
    return torch.exp(log_ratio.clamp(max=LOG_RATIO_LIMIT))


def sequence_mean(streams: Streams, values_N: Tensor) -> Tensor:
    """[N] -> [S]: the mean of each sequence's targets; 0 for a sequence without targets."""
    return streams.sum_by_sequence(values_N) / streams.lengths_S().clamp(min=1)


def clipped_surrogate(ratio: Tensor, advantage: Tensor, low: float, high: float) -> Tensor:
    """What the update would gain, without reward for going further than the clip.

    Equation: min(ρ A, clip(ρ, 1 − low, 1 + high) A).

    Shapes: ratio and advantage alike; so is the result.
    Units: those of the advantage.
    Source: arXiv 1707.06347 eq. 7; two bounds: arXiv 2503.14476 eq. 8.
    """
    return torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)


@dataclass(frozen=True)
class Normaliser:
    """How a sum over tokens becomes a mean: Σₙ shareₙ · valueₙ / count."""

    share_N: Tensor
    count: float

    def total(self, values_N: Tensor) -> Tensor:
        """The sum before it is divided by the count."""
        return (self.share_N * values_N).sum()

    def stat(self, values_N: Tensor) -> Stat:
        return Stat(float((self.share_N * values_N.detach()).double().sum()), self.count)


def normaliser(streams: Streams, like_N: Tensor, normalisation: str, limit: int | None = None) -> Normaliser:
    """What the sum over tokens is divided by.

    "sequence": the mean over completions of the mean over their tokens; "token": the mean over all tokens;
    "fixed": the sum over all tokens / (S · ``limit``), S the number of completions.

    Shapes: like_N [N] gives the dtype of the shares.
    Edge cases: a completion without targets counts in S.
    Source: arXiv 2402.03300 eq. 3; arXiv 2503.14476 eq. 8; arXiv 2503.20783 sec. 3.
    """
    share_N, sequences = torch.ones_like(like_N), float(streams.sequences)
    if normalisation == "sequence":
        return Normaliser(share_N / streams.lengths_S()[streams.sequence_N], sequences)
    if normalisation == "fixed":
        assert limit is not None  # an objective with this setting refuses to be made without it
        return Normaliser(share_N, sequences * limit)
    return Normaliser(share_N, float(len(share_N)))


def clip_statistics(ratio_N: Tensor, advantage_N: Tensor, low: float, high: float, over: Normaliser) -> dict[str, Stat]:
    """TRL's clip ratios: the share of tokens (or completions, by ``over``) whose clipping stops their gradient."""
    low_N = (ratio_N < 1 - low) & (advantage_N < 0)
    high_N = (ratio_N > 1 + high) & (advantage_N > 0)
    return {
        "clip_ratio/low_mean": over.stat(low_N),
        "clip_ratio/high_mean": over.stat(high_N),
        "clip_ratio/region_mean": over.stat(low_N | high_N),
        "sampling/ratio_mean": over.stat(ratio_N),
    }


def loss_out(streams: Streams, objective: str, terms: Sequence[Term], stats: Mapping[str, Stat]) -> LossOut:
    """The loss with its own statistic, and the policy's entropy where the batch has it. All terms have one count."""
    everything = dict(stats)
    entropy_N = optional(streams, objective, "entropy_N")
    if entropy_N is not None:
        everything["entropy"] = stat(entropy_N)
    everything["loss"] = Stat(sum(float(term.weight * term.total.detach()) for term in terms), terms[0].count)
    return LossOut(tuple(terms), everything)
