"""What every policy-gradient objective has in common, whatever its equation."""

import dataclasses
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trimpot.core.tensors import Streams
from trimpot.objectives.policy_gradient.cispo import CISPO
from trimpot.objectives.policy_gradient.dapo import DAPO
from trimpot.objectives.policy_gradient.dr_grpo import DrGRPO
from trimpot.objectives.policy_gradient.grpo import GRPO
from trimpot.objectives.policy_gradient.gspo import GSPO
from trimpot.objectives.policy_gradient.ppo import PPO
from trimpot.objectives.policy_gradient.reinforce_plus_plus import ReinforcePlusPlus
from trimpot.objectives.policy_gradient.remax import ReMax
from trimpot.objectives.policy_gradient.rloo import RLOO
from trimpot.objectives.policy_gradient.rollouts import Rollouts

# Each with its weight of a token in REINFORCE, L = −Σₙ weight Aₙ log π(yₙ): what the sum is divided by.
WEIGHTS = {
    "sequence": lambda sequence_N, lengths_S: 1 / lengths_S[sequence_N] / len(lengths_S),
    "token": lambda sequence_N, lengths_S: torch.full_like(sequence_N, 1, dtype=torch.float64) / len(sequence_N),
    "completion": lambda sequence_N, lengths_S: torch.ones_like(sequence_N).double() / len(lengths_S),
    "fixed": lambda sequence_N, lengths_S: torch.ones_like(sequence_N).double() / len(lengths_S) / 10,
}
METHODS = [
    (GRPO(), "token"),
    (GRPO(normalisation="sequence"), "sequence"),
    (GRPO(importance="truncate"), "token"),
    (DrGRPO(completion_limit=10), "fixed"),
    (DAPO(importance="mask"), "token"),
    (GSPO(), "sequence"),
    (CISPO(), "token"),
    (RLOO(), "completion"),
    (ReMax(kl=0.1), "completion"),
    (ReinforcePlusPlus(), "token"),
    (ReinforcePlusPlus(baseline="group"), "token"),
    (PPO(), "token"),
]
IDS = [f"{objective.name}-{number}" for number, (objective, _) in enumerate(METHODS)]
every_method = pytest.mark.parametrize(("objective", "weights"), METHODS, ids=IDS)
LENGTHS = st.lists(st.lists(st.integers(1, 4), min_size=2, max_size=3), min_size=1, max_size=3)
SEEDS = st.integers(0, 2**32)


def rollouts_of(lengths: list[list[int]], seed: int) -> Rollouts:
    """Groups of completions of these lengths with random rewards, log-probs and values; some are not scored."""
    flat = [length for group in lengths for length in group]
    generator = torch.Generator().manual_seed(seed)

    def uniform(size: int, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(size, dtype=torch.float64, generator=generator)

    sampler_N = uniform(sum(flat), -3, -0.1)
    reward_S = uniform(len(flat), 0, 1)
    return Rollouts(
        sequence_N=torch.repeat_interleave(torch.arange(len(flat)), torch.tensor(flat)),
        groups=tuple(len(group) for group in lengths),
        reward_S=torch.where(uniform(len(flat), 0, 1) < 0.1, torch.nan, reward_S),
        finished_S=torch.ones(len(flat)).bool(),
        sampler_logprob_N=sampler_N,
        old_logprob_N=sampler_N.clone(),
        reference_logprob_N=sampler_N + uniform(len(sampler_N), -1, 1),
        value_N=uniform(len(sampler_N), -1, 1),
        greedy_reward_P=uniform(len(lengths), 0, 1),
    )


@every_method
@settings(max_examples=15, deadline=None)
@given(lengths=LENGTHS, seed=SEEDS)
def test_on_policy_the_gradient_is_reinforce_with_the_methods_advantages(objective, weights, lengths, seed):
    rollouts = rollouts_of(lengths, seed)
    made = objective.advantages(rollouts)
    logprob_N = rollouts.sampler_logprob_N.clone().requires_grad_()
    value_N = rollouts.value_N.clone().requires_grad_()
    streams = Streams(
        rollouts.sequence_N, len(rollouts.reward_S), logprob_N, sampler_logprob_N=rollouts.sampler_logprob_N,
        old_logprob_N=rollouts.old_logprob_N, value_N=value_N, **made,
    )  # fmt: skip
    (gradient,) = torch.autograd.grad(objective(streams).loss(), logprob_N)
    lengths_S = torch.bincount(rollouts.sequence_N).double()
    expected = -WEIGHTS[weights](rollouts.sequence_N, lengths_S) * made["advantage_N"]
    assert torch.allclose(gradient, expected, atol=1e-12)


@every_method
@settings(max_examples=15, deadline=None)
@given(lengths=LENGTHS, seed=SEEDS)
def test_the_order_of_completions_in_a_group_does_not_matter(objective, weights, lengths, seed):
    rollouts = rollouts_of(lengths, seed)
    order, start = [], 0
    for size in rollouts.groups:
        order += random.Random(seed).sample(range(start, start + size), size)
        start += size
    tokens = torch.cat([torch.nonzero(rollouts.sequence_N == old).flatten() for old in order])
    sizes = torch.bincount(rollouts.sequence_N)[order]
    moved = dataclasses.replace(
        rollouts,
        sequence_N=torch.repeat_interleave(torch.arange(len(order)), sizes),
        reward_S=rollouts.reward_S[order],
        **{
            name: getattr(rollouts, name)[tokens]
            for name in ("sampler_logprob_N", "old_logprob_N", "reference_logprob_N", "value_N")
        },
    )
    here, there = objective.advantages(rollouts), objective.advantages(moved)
    assert here.keys() == there.keys()
    for name, values_N in here.items():
        assert torch.allclose(values_N[tokens], there[name], atol=1e-9), name


@every_method
def test_an_unscored_completion_has_advantages_of_exactly_zero(objective, weights):
    rollouts = rollouts_of([[2, 3, 1], [2, 2, 4]], seed=1)
    reward_S = torch.tensor([1.0, torch.nan, 0.0, torch.nan, 0.3, 0.9], dtype=torch.float64)
    made = objective.advantages(dataclasses.replace(rollouts, reward_S=reward_S))
    unscored_N = torch.isnan(reward_S)[rollouts.sequence_N]
    assert (made["advantage_N"][unscored_N] == 0).all()
    assert made["advantage_N"][~unscored_N].abs().max() > 0
    assert all(torch.isfinite(values_N).all() for values_N in made.values())


@every_method
def test_everything_it_reads_of_the_rollouts_is_announced(objective, weights):
    rollouts = rollouts_of([[2, 3], [1, 2]], seed=0)
    optional = ("old_logprob_N", "reference_logprob_N", "value_N", "greedy_reward_P")
    others = {name: None for name in optional if name not in objective.rollout_needs}
    advantages = objective.advantages(dataclasses.replace(rollouts, **others))["advantage_N"]
    assert advantages.shape == rollouts.sequence_N.shape


@every_method
def test_idle_completions_may_be_skipped_where_it_says_so(objective, weights):
    """Leaving out a completion whose advantages are 0 changes no total of the loss."""
    rollouts = rollouts_of([[2, 3], [1, 2]], seed=0)
    logprob_N = rollouts.sampler_logprob_N + 0.1
    advantage_N = torch.tensor([0.0, 0, 1, 1, 1, -1, 0.5, 0.5], dtype=torch.float64)
    kept = advantage_N != 0

    def policy_total(tokens: Tensor, sequence_N: Tensor, sequences: int) -> float:
        given = {
            "logprob_N": logprob_N, "sampler_logprob_N": rollouts.sampler_logprob_N, "advantage_N": advantage_N,
            "old_logprob_N": rollouts.old_logprob_N, "value_N": logprob_N, "old_value_N": logprob_N + 1,
            "return_N": logprob_N - 1,
        }  # fmt: skip
        out = objective(Streams(sequence_N, sequences, **{name: values[tokens] for name, values in given.items()}))
        return float(sum(term.weight * term.total for term in out.terms))

    whole = policy_total(torch.ones(8).bool(), rollouts.sequence_N, 4)
    live = policy_total(kept, rollouts.sequence_N[kept] - 1, 3)
    assert (abs(whole - live) < 1e-12) == objective.skips_idle
