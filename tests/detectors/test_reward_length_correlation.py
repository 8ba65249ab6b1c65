"""reward_length_correlation: the mean's size, either sign, gaps."""

from trimpot.detectors.reward_length_correlation import RewardLengthCorrelation
from trimpot.detectors.windows import make_window


def scan(values):
    return RewardLengthCorrelation().scan(make_window(reward_length_correlation=values))


def test_either_sign():
    assert scan([0.6] * 10).message.startswith("longer answers")
    assert scan([-0.6] * 10).message.startswith("shorter answers")
    assert scan([0.5] * 10) is None
    assert scan([0.6, -0.6] * 10) is None


def test_gaps_are_left_out_and_ten_values_are_needed():
    assert scan([0.6] * 9) is None
    assert scan([0.6, None, float("nan")] * 9 + [0.6]).value == 0.6
