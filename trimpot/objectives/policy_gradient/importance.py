"""Correction for a sampler that gives its tokens other probabilities than the trainer does, with the same weights.

Shape suffix: N targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trimpot.core.settings import setting
from trimpot.core.stats import Stat
from trimpot.core.tensors import Streams, stat
from trimpot.objectives.policy_gradient.surrogate import limited_exp
from trimpot.objectives.require import optional, require

IMPORTANCE = ("none", "truncate", "mask")
DIFFERENCE = "sampling/sampling_logp_difference"


def importance_setting() -> Any:
    """The field ``importance``."""
    return setting(
        "none",
        "correction for a sampler that disagrees with the trainer; other than none costs a pass per draw",
        "ours: the sampler in this process agrees with the trainer; TRL 1.16 with vLLM: sequence_mask",
        choices=IMPORTANCE,
    )


def importance_cap_setting() -> Any:
    """The field ``importance_cap``."""
    return setting(
        3.0,
        "C: importance weights above it are truncated, or masked (also below 1/C); not read without correction",
        "TRL 1.16 vllm_importance_sampling_clip_max",
        at_least=1.0,
    )


@dataclass(frozen=True)
class Behaviour:
    """The log-probs that the policy's ratio is taken against, the weight of each token, and statistics of both."""

    logprob_N: Tensor
    weight_N: Tensor
    stats: Mapping[str, Stat]


def importance_weights(
    old_logprob_N: Tensor, sampler_logprob_N: Tensor, importance: str, cap: float
) -> tuple[Tensor, Tensor]:
    """How much more often the trainer would have drawn a token than the sampler did, bounded.

    Equation: wₙ = π_old(yₙ)/π_sampler(yₙ); "truncate": min(wₙ, C); "mask": wₙ inside [1/C, C], 0 outside it.
        π_old is the trainer's policy before the first update on the draw, π_sampler the one that drew; C is ``cap``.

    Shapes: all [N]. Returns the weights, without gradient, and which of them the bound changed.
    Units: none.
    Edge cases: no token: empty tensors. Log ratios are cut off at +20.
    Source: "truncate": fengyao.notion.site/off-policy-rl; "mask": ringtech.notion.site/icepop, there with two bounds
        of their own. TRL 1.16 "token_truncate" is the same; its "token_mask" too with clip_min = 1/C (its default
        masks above C only). A token's weight ignores the tokens before it, so the gradient stays biased.

    Example: log ratios 0, ln 2 and −ln 4, C = 1.5:

        >>> import math
        >>> old_logprob_N = torch.tensor([0.0, math.log(2), -math.log(4)])
        >>> weight_N, changed_N = importance_weights(old_logprob_N, torch.zeros(3), "truncate", 1.5)
        >>> [round(weight, 2) for weight in weight_N.tolist()], changed_N.tolist()
        ([1.0, 1.5, 0.25], [False, True, False])
        >>> importance_weights(old_logprob_N, torch.zeros(3), "mask", 1.5)[0].tolist()
        [1.0, 0.0, 0.0]
    """
    weight_N = limited_exp((old_logprob_N - sampler_logprob_N).detach())
    changed_N = weight_N > cap
    if importance == "truncate":
        return weight_N.clamp(max=cap), changed_N
    changed_N = changed_N | (weight_N < 1 / cap)
    return weight_N.masked_fill(changed_N, 0.0), changed_N


def behaviour_of(streams: Streams, objective: str, importance: str, cap: float) -> Behaviour:
    """Without correction the ratio is π/π_sampler and the weight 1; with it π/π_old and π_old/π_sampler, bounded.

    The statistic ``sampling/sampling_logp_difference/mean`` is mean |log π_old − log π_sampler|, as in TRL. Without
    correction the batch has no log π_old: then log π stands for it, the same in the first update on a draw only.
    """
    logprob_N, sampler_logprob_N = require(streams, objective, "logprob_N", "sampler_logprob_N")
    if importance == "none":
        old_logprob_N = optional(streams, objective, "old_logprob_N")
        trainer_N = logprob_N if old_logprob_N is None else old_logprob_N
        stats = {f"{DIFFERENCE}/mean": stat((trainer_N - sampler_logprob_N).abs())}
        return Behaviour(sampler_logprob_N, torch.ones_like(sampler_logprob_N), stats)
    (old_logprob_N,) = require(streams, objective, "old_logprob_N")
    weight_N, changed_N = importance_weights(old_logprob_N, sampler_logprob_N, importance, cap)
    stats = {
        f"{DIFFERENCE}/mean": stat((old_logprob_N - sampler_logprob_N).abs()),
        "sampling/importance_sampling_ratio/mean": stat(weight_N),
        "sampling/importance_masked": stat(changed_N),
    }
    return Behaviour(old_logprob_N, weight_N, stats)


def importance_needs(importance: str) -> tuple[str, ...]:
    """What a correction needs, of a rollout and of the loss alike."""
    return () if importance == "none" else ("old_logprob_N",)


def sampler_difference(old_logprob_N: Tensor, sampler_logprob_N: Tensor) -> dict[str, Stat]:
    """Mean and maximum of |log π_old − log π_sampler| over a whole draw, under TRL's names.

    A maximum does not add up over micro-batches, so a source counts it on the draw, not an objective.

    Shapes: both [N].
    Units: nats.
    Edge cases: no token: count 0.
    Source: TRL 1.16 grpo_trainer.py (``sampling/sampling_logp_difference``).
    """
    difference_N = (old_logprob_N - sampler_logprob_N).abs()
    largest = float(difference_N.max()) if len(difference_N) else 0.0
    return {f"{DIFFERENCE}/mean": stat(difference_N), f"{DIFFERENCE}/max": Stat(largest, min(1, len(difference_N)))}
