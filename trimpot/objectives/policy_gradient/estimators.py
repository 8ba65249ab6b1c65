"""Rewards, returns and advantages of single tokens, and how well a critic predicts them.

Shape suffixes: N sampled tokens, S completions. The tokens of a completion stand together, in order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trimpot.objectives.policy_gradient.advantages import ZERO_SPREAD

WHITEN_OFFSET = 1e-8
"""Added to the variance before dividing, as in TRL's masked_whiten (OpenRLHF 0.11 takes it as the least variance)."""


def token_rewards(reward_S: Tensor, sequence_N: Tensor, penalty_N: Tensor) -> Tensor:
    """The reward of each token: that of the completion on its last token, less each token's penalty.

    Shapes: reward_S [S]; sequence_N, penalty_N and the result [N].
    Units: those of the reward.
    Edge cases: an unscored completion (NaN): 0 in place of its reward. A completion without tokens: left out.
    Source: arXiv 1909.08593 sec. 2 (the penalty); arXiv 2501.03262 (on every token).

    Example: a completion of two tokens with reward 1 and penalties 0.1, 0.2; 1 − 0.2 = 0.8:

        >>> rewards = token_rewards(torch.tensor([1.0]), torch.tensor([0, 0]), torch.tensor([0.1, 0.2]))
        >>> [round(reward, 4) for reward in rewards.tolist()]
        [-0.1, 0.8]
    """
    lengths_S = torch.bincount(sequence_N, minlength=len(reward_S))
    last_S = lengths_S.cumsum(0) - 1
    spoken_S = lengths_S > 0
    rewards_N = -penalty_N.to(reward_S.dtype)
    return rewards_N.index_add(0, last_S[spoken_S], reward_S.nan_to_num(nan=0.0)[spoken_S])


def generalized_advantages(
    reward_N: Tensor, value_N: Tensor, sequence_N: Tensor, discount: float, decay: float
) -> Tensor:
    """Generalized advantage estimation: how much better than the critic expected it went from each token on.

    Equation: Aₜ = Σ_{l ≥ 0} (γλ)ˡ δₜ₊ₗ, δₜ = rₜ + γ V(sₜ₊₁) − V(sₜ).
        rₜ is the reward of token t, V(sₜ) the critic's value before it, 0 after the last token; γ is ``discount``,
        λ ``decay``; the sum ends with the completion.

    Shapes: all [N]; so is the result.
    Units: those of the reward.
    Edge cases: λ = 0: δₜ. λ = 1, γ = 1: the sum of the rewards from t on, less V(sₜ). No token: an empty tensor.
        A completion that was cut off ends with value 0 too, as in TRL and OpenRLHF.
    Source: arXiv 1506.02438 eq. 16 to 18.

    Example: two tokens, reward 1 at the end, values 0.5 and 0.6, γ = 1, λ = 0.5: δ = 0.1 and 0.4, and
        0.1 + 0.5 · 0.4 = 0.3:

        >>> reward_N, value_N = torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.6])
        >>> advantages = generalized_advantages(reward_N, value_N, torch.tensor([0, 0]), 1.0, 0.5)
        >>> [round(advantage, 4) for advantage in advantages.tolist()]
        [0.3, 0.4]
    """
    if not len(reward_N):
        return torch.zeros_like(reward_N)
    lengths_S = torch.bincount(sequence_N)
    start_S = lengths_S.cumsum(0) - lengths_S
    place = (sequence_N, torch.arange(len(sequence_N), device=sequence_N.device) - start_S[sequence_N])
    shape = (len(lengths_S), int(lengths_S.max()))
    reward_SL, value_SL, advantage_SL = (reward_N.new_zeros(shape) for _ in range(3))
    reward_SL[place], value_SL[place] = reward_N, value_N.to(reward_N.dtype)
    # Columns after a completion's end hold zeros: reward, value and so advantage 0.
    next_value_S, next_advantage_S = reward_N.new_zeros(2, len(lengths_S))
    for column in reversed(range(shape[1])):
        delta_S = reward_SL[:, column] + discount * next_value_S - value_SL[:, column]
        next_advantage_S = delta_S + discount * decay * next_advantage_S
        next_value_S, advantage_SL[:, column] = value_SL[:, column], next_advantage_S
    return advantage_SL[place]


def discounted_returns(reward_N: Tensor, sequence_N: Tensor, discount: float) -> Tensor:
    """Gₜ = Σ_{l ≥ 0} γˡ rₜ₊ₗ to the end of the completion. All [N]; no token: an empty tensor.

    Example: rewards −0.1 and 0.8, γ = 0.5: −0.1 + 0.5 · 0.8 = 0.3:

        >>> returns = discounted_returns(torch.tensor([-0.1, 0.8]), torch.tensor([0, 0]), 0.5)
        >>> [round(one, 4) for one in returns.tolist()]
        [0.3, 0.8]
    """
    return generalized_advantages(reward_N, torch.zeros_like(reward_N), sequence_N, discount, 1.0)


def whiten(values_N: Tensor, counted_N: Tensor) -> Tensor:
    """Values with mean 0 and variance 1 over the tokens that count; 0 on the others.

    Equation: (x − mean(x)) / √(var(x) + 1e-8), the variance with n in its denominator.

    Shapes: values_N, counted_N (bool) and the result [N].
    Units: standard deviations.
    Edge cases: all values equal, or none counted: exactly 0.
    Source: OpenRLHF 0.11 (experience_maker.py), there with max(var, 1e-8); TRL's masked_whiten adds 1e-8 to a variance
        with n − 1.

    Example: 1 and 3: mean 2, variance ((−1)² + 1²) / 2 = 1; the third does not count:

        >>> values_N = whiten(torch.tensor([1.0, 3.0, 9.0]), torch.tensor([True, True, False]))
        >>> [round(value, 4) for value in values_N.tolist()]
        [-1.0, 1.0, 0.0]
    """
    counted = values_N[counted_N]
    if not len(counted) or float(counted.max() - counted.min()) <= ZERO_SPREAD:
        return torch.zeros_like(values_N)
    scale = torch.rsqrt(counted.var(correction=0) + WHITEN_OFFSET)
    return torch.where(counted_N, (values_N - counted.mean()) * scale, 0.0)


def explained_variance(return_N: Tensor, value_N: Tensor, counted_N: Tensor | None = None) -> float | None:
    """The share of the returns' variance that the critic foresaw: 1 perfect, 0 a constant, below 0 worse than one.

    Equation: 1 − Var(return − value) / Var(return), over the tokens that count.

    Shapes: all [N]; ``counted_N`` (bool) leaves out the tokens of unscored completions. None: all count.
    Units: none.
    Edge cases: fewer than two tokens, or returns that are all equal: None.
    Source: openai/baselines common/math_util.py (explained_variance); ratios of variances do not add up over
        micro-batches, so it is computed on the draw.

    Example: returns 0 and 2, values 0 and 1: errors 0 and 1, 1 − 0.25 / 1 = 0.75:

        >>> explained_variance(torch.tensor([0.0, 2.0]), torch.tensor([0.0, 1.0]))
        0.75
    """
    returns, values = return_N.double(), value_N.double()
    if counted_N is not None:
        returns, values = returns[counted_N], values[counted_N]
    if len(returns) < 2 or float(returns.max() - returns.min()) <= ZERO_SPREAD:
        return None
    return 1 - float((returns - values).var(correction=0) / returns.var(correction=0))
