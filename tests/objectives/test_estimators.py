import doctest
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trimpot.objectives.policy_gradient import estimators as module
from trimpot.objectives.policy_gradient.estimators import (
    discounted_returns,
    explained_variance,
    generalized_advantages,
    token_rewards,
    whiten,
)

# Completion 0 has three tokens, 1 has one, 2 none, 3 has two.
SEQUENCE_N = torch.tensor([0, 0, 0, 1, 3, 3])
REWARD_S = torch.tensor([1.0, -2.0, 7.0, math.nan], dtype=torch.float64)
PENALTY_N = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], dtype=torch.float64)


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_token_rewards_by_hand():
    # the reward on the last token; the completion without tokens and the unscored one have none to give
    expected = [-0.1, -0.2, 1 - 0.3, -2 - 0.4, -0.5, 0 - 0.6]
    assert token_rewards(REWARD_S, SEQUENCE_N, PENALTY_N).tolist() == pytest.approx(expected, abs=1e-15)


def test_generalized_advantages_by_hand():
    reward_N, value_N = tensor(0.1, 0.2, 1.0, -2.0), tensor(0.5, 0.4, 0.6, 0.3)
    # γ = 0.9, λ = 0.5; completion 1 begins anew
    delta = [0.1 + 0.9 * 0.4 - 0.5, 0.2 + 0.9 * 0.6 - 0.4, 1.0 + 0 - 0.6, -2.0 + 0 - 0.3]
    third, second = delta[2], delta[1] + 0.45 * delta[2]
    expected = [delta[0] + 0.45 * second, second, third, delta[3]]
    found = generalized_advantages(reward_N, value_N, SEQUENCE_N[:4], 0.9, 0.5)
    assert found.tolist() == pytest.approx(expected, abs=1e-15)


NUMBERS = st.floats(-3, 3)
COMPLETIONS = st.lists(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=5), min_size=1, max_size=4)


def streams_of(completions):
    flat = [pair for completion in completions for pair in completion]
    sequence_N = torch.repeat_interleave(
        torch.arange(len(completions)), torch.tensor([len(one) for one in completions])
    )
    return tensor(*(reward for reward, _ in flat)), tensor(*(value for _, value in flat)), sequence_N


@given(COMPLETIONS)
def test_lambda_1_without_discount_is_return_minus_value(completions):
    reward_N, value_N, sequence_N = streams_of(completions)
    returns = [sum(r for r, _ in one[at:]) for one in completions for at in range(len(one))]
    assert torch.allclose(discounted_returns(reward_N, sequence_N, 1.0), tensor(*returns), atol=1e-12)
    found = generalized_advantages(reward_N, value_N, sequence_N, 1.0, 1.0)
    assert torch.allclose(found, tensor(*returns) - value_N, atol=1e-12)


@given(COMPLETIONS, st.floats(0.1, 1))
def test_lambda_0_is_the_error_of_one_step(completions, discount):
    reward_N, value_N, sequence_N = streams_of(completions)
    after = [one[at + 1][1] if at + 1 < len(one) else 0.0 for one in completions for at in range(len(one))]
    found = generalized_advantages(reward_N, value_N, sequence_N, discount, 0.0)
    assert torch.allclose(found, reward_N + discount * tensor(*after) - value_N, atol=1e-12)


@given(COMPLETIONS, st.randoms(use_true_random=False))
def test_completions_do_not_touch_each_other(completions, random):
    order = random.sample(range(len(completions)), len(completions))
    together = generalized_advantages(*streams_of(completions), 0.9, 0.7).split([len(one) for one in completions])
    moved = generalized_advantages(*streams_of([completions[i] for i in order]), 0.9, 0.7)
    assert torch.equal(torch.cat([together[i] for i in order]), moved)


def test_a_perfect_critic_leaves_no_advantage():
    reward_N = tensor(0.0, 0.0, 1.0)
    found = generalized_advantages(reward_N, torch.ones(3), SEQUENCE_N[:3], 1.0, 0.95)
    assert found.tolist() == [0.0, 0.0, 0.0]


def test_discounted_returns_by_hand():
    # γ = 0.5: 1 + 0.5 · (2 + 0.5 · 4) = 3; 2 + 0.5 · 4 = 4; 4; the next completion begins anew
    assert discounted_returns(tensor(1, 2, 4, 8), SEQUENCE_N[:4], 0.5).tolist() == [3, 4, 4, 8]


def test_whiten_by_hand_and_with_tokens_that_do_not_count():
    counted_N = torch.tensor([True, True, False, True])
    # 1, 2, 6: mean 3, variance (4 + 1 + 9) / 3
    scale = math.sqrt(14 / 3 + 1e-8)
    found = whiten(tensor(1, 2, 100, 6), counted_N)
    assert found.tolist() == pytest.approx([-2 / scale, -1 / scale, 0, 3 / scale], abs=1e-14)
    assert whiten(tensor(0.1, 0.1, 0.1), torch.ones(3, dtype=torch.bool)).tolist() == [0, 0, 0]
    assert whiten(tensor(5, 6), torch.zeros(2, dtype=torch.bool)).tolist() == [0, 0]


def test_explained_variance_by_hand():
    # returns 1, 2, 6 with variance 14/3; errors 1, 0, −1 with variance 2/3
    assert explained_variance(tensor(1, 2, 6), tensor(0, 2, 7)) == pytest.approx(1 - 2 / 14)
    assert explained_variance(tensor(1, 2, 6), tensor(1, 2, 6)) == 1
    assert explained_variance(tensor(1, 2, 6), tensor(9, 9, 9)) == 0
    assert explained_variance(tensor(1, 2, 6), tensor(6, 2, 1)) < 0
    counted_N = torch.tensor([True, True, True, False])
    assert explained_variance(tensor(1, 2, 6, 50), tensor(0, 2, 7, -50), counted_N) == pytest.approx(1 - 2 / 14)
    assert explained_variance(tensor(3, 3), tensor(1, 2)) is None
    assert explained_variance(tensor(3), tensor(1)) is None


def test_no_token():
    empty, none_N = tensor(), torch.zeros(0, dtype=torch.long)
    assert generalized_advantages(empty, empty, none_N, 1.0, 0.95).tolist() == []
    assert token_rewards(REWARD_S, none_N, empty).tolist() == []
    assert whiten(empty, torch.zeros(0, dtype=torch.bool)).tolist() == []
    assert explained_variance(empty, empty) is None


def test_the_examples_of_the_docstrings():
    result = doctest.testmod(module)
    assert (result.failed, result.attempted) == (0, 10)
