import doctest
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trimpot.core.errors import UsageError
from trimpot.objectives.policy_gradient import advantages as module
from trimpot.objectives.policy_gradient.advantages import group_advantages, zero_variance_cause

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
def test_a_group_does_not_depend_on_the_others_unless_the_batch_scales(groups):
    rewards = torch.tensor([reward for group in groups for reward in group], dtype=torch.float64)
    alone = group_advantages(torch.tensor(groups[0], dtype=torch.float64), [len(groups[0])])
    together = group_advantages(rewards, [len(group) for group in groups])
    assert torch.allclose(together[: len(groups[0])], alone, atol=1e-12)


def test_a_group_of_one_is_refused():
    with pytest.raises(UsageError, match="group 1 has 1 completion"):
        group_advantages(torch.zeros(3), [2, 1])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_reward_that_is_not_finite_is_named_by_its_index(value):
    rewards = REWARDS.clone()
    rewards[3] = value
    with pytest.raises(UsageError, match=r"rewards\[3\]: the reward of completion 3 is (nan|inf)"):
        group_advantages(rewards, GROUPS)


def test_groups_must_add_up():
    with pytest.raises(UsageError, match="groups of 4 completions"):
        group_advantages(REWARDS, [2, 2])


def test_an_unknown_scale_names_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'batch'"):
        group_advantages(REWARDS, GROUPS, "bach")


def test_cause_of_each_kind_of_group():
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


def test_full_reward_has_a_tolerance_of_1e_6():
    nearly = torch.tensor([1 - 5e-7, 1 - 5e-7, 1 - 2e-6, 1 - 2e-6], dtype=torch.float64)
    assert zero_variance_cause(nearly, [False] * 4, [2, 2]) == ["all_right", "all_wrong"]


def test_clipped_needs_one_entry_per_reward():
    with pytest.raises(UsageError, match="1 entries for 2 rewards"):
        zero_variance_cause(torch.zeros(2), [True], [2])


def test_the_examples_of_the_docstrings():
    result = doctest.testmod(module)
    assert (result.failed, result.attempted) == (0, 3)
