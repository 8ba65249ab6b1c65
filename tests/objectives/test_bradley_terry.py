import math

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.settings import check_settings
from trimpot.core.tensors import Streams
from trimpot.objectives.reward.bradley_terry import BradleyTerry

NO_TARGETS = torch.tensor([], dtype=torch.long)
REWARD_S = torch.tensor([2.0, 1.0, -1.0, 0.5], dtype=torch.float64)  # differences 1 and −1.5


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def pairs(reward_S: torch.Tensor, **given: torch.Tensor) -> Streams:
    return Streams(NO_TARGETS, len(reward_S), reward_S=reward_S, **given)


def test_loss_is_the_mean_of_minus_log_sigmoid_of_the_differences():
    expected = (-math.log(sigmoid(2.0 - 1.0)) - math.log(sigmoid(-1.0 - 0.5))) / 2
    assert BradleyTerry()(pairs(REWARD_S)).loss().item() == pytest.approx(expected, abs=1e-14)


def test_equal_rewards_give_ln_2():
    assert BradleyTerry()(pairs(torch.full((6,), 3.0).double())).loss().item() == pytest.approx(math.log(2), abs=1e-15)


def test_a_margin_is_subtracted_from_the_difference():
    margin_S = torch.tensor([1.0, 1.0, 0.5, 0.5], dtype=torch.float64)
    expected = (-math.log(sigmoid(1.0 - 1.0)) - math.log(sigmoid(-1.5 - 0.5))) / 2
    out = BradleyTerry()(pairs(REWARD_S, margin_S=margin_S))
    assert out.loss().item() == pytest.approx(expected, abs=1e-14)
    assert out.stats["margin"].value == (1.0 - 1.5) / 2  # the difference itself, as in TRL


def test_centring_adds_the_mean_square_of_the_sums():
    plain = BradleyTerry()(pairs(REWARD_S)).loss().item()
    centred = BradleyTerry(center_coefficient=0.01)(pairs(REWARD_S))
    # sums 2 + 1 = 3 and −1 + 0.5 = −0.5
    assert centred.loss().item() == pytest.approx(plain + 0.01 * (3.0**2 + 0.5**2) / 2, abs=1e-14)
    assert centred.stats["loss"].value == pytest.approx(centred.loss().item(), abs=1e-14)


def test_a_shift_of_all_rewards_is_seen_by_centring_only():
    shifted = REWARD_S + 10
    assert BradleyTerry()(pairs(shifted)).loss().item() == pytest.approx(BradleyTerry()(pairs(REWARD_S)).loss().item())
    centred = BradleyTerry(center_coefficient=0.01)
    assert centred(pairs(shifted)).loss() > centred(pairs(REWARD_S)).loss() + 1


def test_gradient_of_a_pair_is_minus_and_plus_the_probability_of_error():
    reward_S = REWARD_S.clone().requires_grad_()
    BradleyTerry()(pairs(reward_S)).loss().backward()
    first, second = sigmoid(-1.0) / 2, sigmoid(1.5) / 2
    assert reward_S.grad.tolist() == pytest.approx([-first, first, -second, second], abs=1e-15)


def test_gradient_equals_the_naive_formula_and_passes_gradcheck():
    torch.manual_seed(1)
    reward_S = torch.randn(6, dtype=torch.float64, requires_grad=True)
    margin_S = torch.rand(3, dtype=torch.float64).repeat_interleave(2)

    def naive(reward_S: torch.Tensor) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for pair in range(3):
            chosen, rejected = reward_S[2 * pair], reward_S[2 * pair + 1]
            probability = 1 / (1 + torch.exp(-(chosen - rejected - margin_S[2 * pair])))
            total = total - torch.log(probability) + 0.05 * (chosen + rejected) ** 2
        return total / 3

    def ours(reward_S: torch.Tensor) -> torch.Tensor:
        return BradleyTerry(center_coefficient=0.05)(pairs(reward_S, margin_S=margin_S)).loss()

    (ours_grad,) = torch.autograd.grad(ours(reward_S), reward_S)
    (naive_grad,) = torch.autograd.grad(naive(reward_S), reward_S)
    assert torch.allclose(ours_grad, naive_grad, atol=1e-12)
    assert torch.autograd.gradcheck(ours, (reward_S,))


def test_statistics():
    stats = BradleyTerry()(pairs(REWARD_S)).stats
    assert stats["accuracy"].value == 0.5
    assert stats["mean_reward"].value == (2.0 + 1.0 - 1.0 + 0.5) / 4
    assert "chosen_longer" not in stats


def test_chosen_longer_counts_ties_as_half():
    # lengths 2 > 1, 1 < 2, 1 = 1: (1 + 0 + 0.5) / 3
    sequence_N = torch.tensor([0, 0, 1, 2, 3, 3, 4, 5])
    stats = BradleyTerry()(Streams(sequence_N, 6, reward_S=torch.zeros(6))).stats
    assert stats["chosen_longer"].value == 0.5
    assert stats["accuracy"].value == 0.0  # ties are wrong


def test_no_pair_has_no_statistics():
    out = BradleyTerry()(pairs(torch.zeros(0)))
    assert all(stat.value is None for stat in out.stats.values())


def test_an_odd_number_of_sequences_is_refused():
    with pytest.raises(ValueError, match="3 sequences"):
        BradleyTerry()(pairs(torch.zeros(3)))


def test_a_negative_coefficient_is_refused():
    with pytest.raises(UsageError, match=r"reward\.center_coefficient"):
        check_settings(BradleyTerry(center_coefficient=-0.1), "reward")


# Label smoothing


def test_label_smoothing_weighs_both_orders():
    # differences 1 and −1.5
    right, wrong = (
        (-math.log(sigmoid(1.0)), -math.log(sigmoid(-1.5))),
        (-math.log(sigmoid(-1.0)), -math.log(sigmoid(1.5))),
    )
    out = BradleyTerry(label_smoothing=0.2)(pairs(REWARD_S))
    assert out.loss().item() == pytest.approx((0.8 * sum(right) + 0.2 * sum(wrong)) / 2, abs=1e-14)
    assert out.stats["loss"].value == pytest.approx(out.loss().item(), abs=1e-14)
    assert out.stats["accuracy"].value == BradleyTerry()(pairs(REWARD_S)).stats["accuracy"].value


def test_label_smoothing_keeps_margin_and_centring():
    margin_S = torch.tensor([1.0, 1.0, 0.5, 0.5], dtype=torch.float64)
    out = BradleyTerry(center_coefficient=0.01, label_smoothing=0.1)(pairs(REWARD_S, margin_S=margin_S))
    targets = [1.0 - 1.0, -1.5 - 0.5]
    nll = sum(-0.9 * math.log(sigmoid(d)) - 0.1 * math.log(sigmoid(-d)) for d in targets) / 2
    assert out.loss().item() == pytest.approx(nll + 0.01 * (3.0**2 + 0.5**2) / 2, abs=1e-14)


@pytest.mark.parametrize("smoothing", [0.05, 0.2])
def test_the_smoothed_loss_is_least_at_the_log_odds_of_a_right_label(smoothing):
    best = math.log((1 - smoothing) / smoothing)
    reward_S = torch.tensor([best, 0.0], dtype=torch.float64, requires_grad=True)
    BradleyTerry(label_smoothing=smoothing)(pairs(reward_S)).loss().backward()
    assert reward_S.grad.abs().max() < 1e-15


def test_gradient_with_label_smoothing_is_epsilon_less_the_probability_of_error():
    # dL/dr⁺ = ε − σ(−d), and gradcheck
    reward_S = torch.tensor([0.7, 0.2], dtype=torch.float64, requires_grad=True)
    smoothed = BradleyTerry(label_smoothing=0.1)
    smoothed(pairs(reward_S)).loss().backward()
    assert reward_S.grad.tolist() == pytest.approx([0.1 - sigmoid(-0.5), sigmoid(-0.5) - 0.1], abs=1e-15)
    assert torch.autograd.gradcheck(lambda r: smoothed(pairs(r)).loss(), (reward_S.detach().requires_grad_(),))


def test_a_smoothing_above_a_half_is_refused():
    with pytest.raises(UsageError, match=r"reward\.label_smoothing"):
        check_settings(BradleyTerry(label_smoothing=0.6), "reward")
