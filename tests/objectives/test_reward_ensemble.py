import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trimpot.core.errors import UsageError
from trimpot.objectives.reward.ensemble import COMBINATIONS, ensemble_reward

REWARD_KS = torch.tensor([[1.0, -2.0, 0.5], [3.0, -2.0, 1.0], [2.0, 4.0, 0.0]], dtype=torch.float64)
MEMBERS = st.lists(st.lists(st.floats(-50, 50), min_size=3, max_size=3), min_size=1, max_size=5)


def test_hand_values():
    assert ensemble_reward(REWARD_KS, "mean").tolist() == pytest.approx([2.0, 0.0, 0.5], abs=1e-15)
    assert ensemble_reward(REWARD_KS, "worst").tolist() == [1.0, -2.0, 0.0]
    # variances over the members: (1 + 1 + 0)/3, (4 + 4 + 16)/3, (0 + 0.25 + 0.25)/3
    expected = [2.0 - 0.5 * 2 / 3, 0.0 - 0.5 * 8.0, 0.5 - 0.5 * 0.5 / 3]
    assert ensemble_reward(REWARD_KS, "uncertainty", 0.5).tolist() == pytest.approx(expected, abs=1e-15)


@given(MEMBERS)
def test_worst_is_below_the_mean_and_no_weight_gives_the_mean(rewards):
    reward_KS = torch.tensor(rewards, dtype=torch.float64)
    mean_S = ensemble_reward(reward_KS, "mean")
    assert (ensemble_reward(reward_KS, "worst") <= mean_S + 1e-9).all()
    assert torch.equal(ensemble_reward(reward_KS, "uncertainty", 0.0), mean_S)
    assert (ensemble_reward(reward_KS, "uncertainty", 1.0) <= mean_S).all()
    shuffled = reward_KS[torch.randperm(len(reward_KS), generator=torch.Generator().manual_seed(0))]
    for combine in COMBINATIONS:
        assert torch.allclose(ensemble_reward(shuffled, combine), ensemble_reward(reward_KS, combine), atol=1e-9)


@pytest.mark.parametrize("combine", COMBINATIONS)
def test_one_member_is_itself_and_a_nan_stays_with_its_sequence(combine):
    assert torch.equal(ensemble_reward(REWARD_KS[:1], combine), REWARD_KS[0])
    broken = REWARD_KS.clone()
    broken[1, 2] = float("nan")
    assert ensemble_reward(broken, combine).isnan().tolist() == [False, False, True]


def test_bad_input_is_named():
    with pytest.raises(UsageError, match=r"combine: 'wurst' is unknown\. Did you mean 'worst'"):
        ensemble_reward(REWARD_KS, "wurst")
    for shape in ((3,), (0, 3)):
        with pytest.raises(ValueError, match="members, sequences"):
            ensemble_reward(torch.zeros(shape))
