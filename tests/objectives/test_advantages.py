import doctest
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trimpot.core.errors import UsageError
from trimpot.objectives.policy_gradient import advantages as module
from trimpot.objectives.policy_gradient.advantages import (
    group_advantages,
    leave_one_out,
    reward_minus_greedy,
    zero_variance_cause,
)

REWARDS = torch.tensor([0.0, 0.0, 3.0, 1.0, 2.0], dtype=torch.float64)
GROUPS = [3, 2]


def test_group_scale_by_hand():
    # group 1: mean 1, std √((1 + 1 + 4) / 2) = √3; group 2: mean 1.5, std √((0.25 + 0.25) / 1) = √0.5
    first, second = math.sqrt(3) + 1e-4, math.sqrt(0.5) + 1e-4
    expected = [-1 / first, -1 / first, 2 / first, -0.5 / second, 0.5 / second]
    assert group_advantages(REWARDS, GROUPS, "group").tolist() == pytest.approx(expected, abs=1e-14)


def test_batch_scale_by_hand():
    # all: mean 1.2, squares 1.44 + 1.44 + 3.24 + 0.04 + 0.64 = 6.8, std √(6.8 / 4)
    divisor = math.sqrt(6.8 / 4) + 1e-4
    expected = [value / divisor for value in (-1, -1, 2, -0.5, 0.5)]
    assert group_advantages(REWARDS, GROUPS, "batch").tolist() == pytest.approx(expected, abs=1e-14)


def test_no_scale_by_hand():
    assert group_advantages(REWARDS, GROUPS, "none").tolist() == [-1, -1, 2, -0.5, 0.5]


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_equal_rewards_give_exactly_zero(scale):
    # the mean of three times 0.1 is not 0.1 in floating point; dividing the residue by 1e-4 would enlarge it
    rewards = torch.tensor([0.1, 0.1, 0.1, 0.0, 1.0], dtype=torch.float64)
    assert float(rewards[:3].mean()) != 0.1
    assert group_advantages(rewards, [3, 2], scale)[:3].tolist() == [0.0, 0.0, 0.0]


def test_dtype_and_empty():
    assert group_advantages(torch.tensor([0, 1]), [2]).dtype == torch.float32
    assert group_advantages(REWARDS, GROUPS).dtype == torch.float64
    assert group_advantages(torch.zeros(0), []).tolist() == []


GROUPS_OF_REWARDS = st.lists(st.lists(st.floats(-5, 5), min_size=2, max_size=5), min_size=1, max_size=4)


@given(GROUPS_OF_REWARDS, st.sampled_from(["group", "batch", "none"]))
def test_every_group_sums_to_zero_and_keeps_its_order(groups, scale):
    rewards = torch.tensor([reward for group in groups for reward in group], dtype=torch.float64)
    advantages = group_advantages(rewards, [len(group) for group in groups], scale)
    for group, part in zip(groups, advantages.split([len(group) for group in groups]), strict=True):
        assert abs(float(part.sum())) < 1e-9
        best = max(range(len(group)), key=group.__getitem__)
        assert float(part[best]) >= float(part.max()) - 1e-9


@given(GROUPS_OF_REWARDS)
def test_leave_one_out_is_the_centred_reward_times_n_over_n_minus_1(groups):
    sizes = [len(group) for group in groups]
    rewards = torch.tensor([reward for group in groups for reward in group], dtype=torch.float64)
    factor = torch.tensor([size / (size - 1) for size in sizes for _ in range(size)], dtype=torch.float64)
    expected = group_advantages(rewards, sizes, "none") * factor
    assert torch.allclose(leave_one_out(rewards, sizes), expected, atol=1e-12)


@given(GROUPS_OF_REWARDS, st.randoms(use_true_random=False), st.sampled_from(["group", "batch", "none", "others"]))
def test_the_order_of_completions_within_a_group_does_not_matter(groups, random, scale):
    def advantages(groups):
        rewards = torch.tensor([reward for group in groups for reward in group], dtype=torch.float64)
        sizes = [len(group) for group in groups]
        both = leave_one_out(rewards, sizes) if scale == "others" else group_advantages(rewards, sizes, scale)
        return both.split(sizes)

    orders = [random.sample(range(len(group)), len(group)) for group in groups]
    shuffled = advantages([[group[i] for i in order] for group, order in zip(groups, orders, strict=True)])
    for part, moved, order in zip(advantages(groups), shuffled, orders, strict=True):
        assert torch.allclose(part[order], moved, atol=1e-9)


@given(GROUPS_OF_REWARDS, st.sampled_from(["group", "none", "others"]))
def test_a_group_that_comes_twice_changes_no_advantage(groups, scale):
    def advantages(groups):
        rewards = torch.tensor([reward for group in groups for reward in group], dtype=torch.float64)
        sizes = [len(group) for group in groups]
        return leave_one_out(rewards, sizes) if scale == "others" else group_advantages(rewards, sizes, scale)

    once, twice = advantages(groups), advantages([*groups, groups[0]])
    assert torch.allclose(twice[: len(once)], once, atol=1e-12)
    assert torch.allclose(twice[len(once) :], once[: len(groups[0])], atol=1e-12)


@given(GROUPS_OF_REWARDS)
def test_a_group_does_not_depend_on_the_others_unless_the_batch_scales(groups):
    rewards = torch.tensor([reward for group in groups for reward in group], dtype=torch.float64)
    alone = group_advantages(torch.tensor(groups[0], dtype=torch.float64), [len(groups[0])])
    together = group_advantages(rewards, [len(group) for group in groups])
    assert torch.allclose(together[: len(groups[0])], alone, atol=1e-12)


def test_a_group_of_one_is_refused():
    with pytest.raises(UsageError, match="group 1 has 1 completion"):
        group_advantages(torch.zeros(3), [2, 1])


@pytest.mark.parametrize("value", [-math.inf, math.inf])
def test_an_infinite_reward_is_named_by_its_index(value):
    rewards = REWARDS.clone()
    rewards[3] = value
    for advantages in (group_advantages, leave_one_out):
        with pytest.raises(UsageError, match=r"rewards\[3\]: the reward of completion 3 is -?inf"):
            advantages(rewards, GROUPS)
    with pytest.raises(UsageError, match=r"rewards\[3\]"):
        reward_minus_greedy(rewards, torch.zeros(2), GROUPS)


def test_an_unscored_completion_is_left_out_of_mean_and_std():
    rewards = torch.tensor([0.0, 3.0, math.nan, 1.0, math.nan, math.nan], dtype=torch.float64)
    # group 1: mean 1.5, std √(2 · 2.25 / 1); group 2 has one score; the batch: 0, 3, 1: mean 4/3, std √(14/3 / 2)
    group, batch = math.sqrt(4.5) + 1e-4, math.sqrt(14 / 6) + 1e-4
    assert group_advantages(rewards, [3, 3]).tolist() == pytest.approx([-1.5 / group, 1.5 / group, 0, 0, 0, 0])
    expected = pytest.approx([-1.5 / batch, 1.5 / batch, 0, 0, 0, 0], abs=1e-14)
    assert group_advantages(rewards, [3, 3], "batch").tolist() == expected
    assert group_advantages(rewards, [3, 3], "none").tolist() == [-1.5, 1.5, 0, 0, 0, 0]
    assert leave_one_out(rewards, [3, 3]).tolist() == [-3, 3, 0, 0, 0, 0]


def test_leave_one_out_by_hand():
    # the others' means: (0 + 3) / 2, (0 + 3) / 2, 0; 2, 1
    assert leave_one_out(REWARDS, GROUPS).tolist() == [0 - 1.5, 0 - 1.5, 3 - 0, 1 - 2, 2 - 1]
    assert leave_one_out(torch.tensor([0.1, 0.1, 0.1], dtype=torch.float64), [3]).tolist() == [0.0, 0.0, 0.0]


def test_reward_minus_greedy_by_hand():
    greedy = torch.tensor([1.0, math.nan], dtype=torch.float64)
    rewards = torch.tensor([0.0, math.nan, 3.0, 1.0, 2.0], dtype=torch.float64)
    # the greedy completion of the second prompt has no score, so nothing there has an advantage
    assert reward_minus_greedy(rewards, greedy, GROUPS).tolist() == [-1, 0, 2, 0, 0]
    assert reward_minus_greedy(torch.tensor([2.0]), torch.tensor([0.5]), [1]).tolist() == [1.5]
    nothing = reward_minus_greedy(torch.zeros(0, dtype=torch.float64), torch.zeros(0), [])
    assert (nothing.shape, nothing.dtype) == ((0,), torch.float64)
    with pytest.raises(UsageError, match="1 greedy rewards for 2 prompts"):
        reward_minus_greedy(rewards, greedy[:1], GROUPS)
    with pytest.raises(UsageError, match="greedy_reward_P: that of prompt 0 is inf"):
        reward_minus_greedy(rewards, torch.tensor([math.inf, 0.0]), GROUPS)


def test_groups_must_add_up():
    with pytest.raises(UsageError, match="groups of 4 completions"):
        group_advantages(REWARDS, [2, 2])


def test_an_unknown_scale_names_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'batch'"):
        group_advantages(REWARDS, GROUPS, "bach")


def test_bug_10_zero_variance_groups_name_their_cause():
    rewards = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 1.0, 1.0])
    clipped = [True, True, True, False, True, False, False, False, True, True, True, True]
    causes = zero_variance_cause(rewards, clipped, [2] * 6)
    # differing rewards are no zero-variance group, clipped or not; all clipped wins over right and wrong
    assert causes == [None, "all_right", "all_wrong", "all_wrong", "all_clipped", "all_clipped"]


def test_cause_agrees_with_zero_advantages():
    rewards = torch.tensor([0.1, 0.1, 0.1, 0.1, 0.1, 0.2])
    advantages = group_advantages(rewards, [3, 3]).split(3)
    causes = zero_variance_cause(rewards, torch.zeros(6, dtype=torch.bool), [3, 3])
    assert [cause is not None for cause in causes] == [not bool(part.any()) for part in advantages] == [True, False]


def test_cause_where_scores_are_missing():
    rewards = torch.tensor([math.nan, math.nan, math.nan, 1.0, math.nan, 1.0, 1.0, math.nan, 0.0, 1.0])
    # of the third group only what has a score says whether all were cut off
    clipped = [True, True, True, True, False, True, True, True, True, True]
    assert zero_variance_cause(rewards, clipped, [2, 2, 3, 3]) == ["unscored", "unscored", "all_clipped", None]
    clipped[4:7] = [True, False, True]
    assert zero_variance_cause(rewards, clipped, [2, 2, 3, 3])[2] == "all_right"


def test_full_reward_has_a_tolerance_of_1e_6():
    nearly = torch.tensor([1 - 5e-7, 1 - 5e-7, 1 - 2e-6, 1 - 2e-6], dtype=torch.float64)
    assert zero_variance_cause(nearly, [False] * 4, [2, 2]) == ["all_right", "all_wrong"]


def test_clipped_needs_one_entry_per_reward():
    with pytest.raises(UsageError, match="1 entries for 2 rewards"):
        zero_variance_cause(torch.zeros(2), [True], [2])


def test_the_examples_of_the_docstrings():
    result = doctest.testmod(module)
    assert (result.failed, result.attempted) == (0, 5)
