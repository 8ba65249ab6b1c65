"""One reward out of several reward models.

Shape suffixes: K members of the ensemble, S sequences.
"""

from __future__ import annotations

from torch import Tensor

from trimpot.core.errors import UsageError, nearest

COMBINATIONS = ("mean", "worst", "uncertainty")


def ensemble_reward(rewards_KS: Tensor, combine: str = "mean", uncertainty_weight: float = 0.5) -> Tensor:
    """The ensemble's reward of each sequence, so that what fools one member does not pay.

    Equation: mean: R = r̄ = (1/K) Σₖ rₖ; worst: R = minₖ rₖ; uncertainty: R = r̄ − λ (1/K) Σₖ (rₖ − r̄)².
        rₖ is the reward by member k of K; λ is ``uncertainty_weight``.

    Shapes: rewards_KS [K, S] -> [S].
    Units: the members' own. They must share a zero and a scale: a member that is lower everywhere is always the worst,
        and offsets count as disagreement. Bradley–Terry leaves the zero open; ``center_coefficient`` fixes it.
    Raises: UsageError for an unknown combination; ValueError without a member.
    Edge cases: one member: its own reward, in all three. A NaN of one member makes the sequence's reward NaN.
    Source: arXiv 2310.02743 (worst-case and uncertainty-weighted optimisation; the variance is divided by K).

    Example: rewards 1 and 3 with λ = 0.5: mean 2, worst 1, uncertainty 2 − 0.5·((1−2)² + (3−2)²)/2 = 1.5.
    """
    if combine not in COMBINATIONS:
        raise UsageError("combine", f"{combine!r} is unknown", nearest(combine, COMBINATIONS))
    if rewards_KS.ndim != 2 or not len(rewards_KS):
        raise ValueError(f"an ensemble's rewards have shape [members, sequences], not {list(rewards_KS.shape)}")
    mean_S = rewards_KS.mean(0)
    if combine == "mean":
        return mean_S
    if combine == "worst":
        return rewards_KS.amin(0)
    return mean_S - uncertainty_weight * (rewards_KS - mean_S).square().mean(0)
