"""zero_variance_groups: the threshold, and the mend of each cause."""

import pytest

from trimpot.detectors.windows import make_window
from trimpot.detectors.zero_variance_groups import CAUSES, ZeroVarianceGroups

DETECTOR = ZeroVarianceGroups()


def scan(fractions, **causes):
    series = {f"zero_variance__{name}": [value] * len(fractions) for name, value in causes.items()}
    return DETECTOR.scan(make_window(frac_reward_zero_std=fractions, **series))


NAMES = ("all_right", "all_wrong", "all_clipped", "unscored")


@pytest.mark.parametrize("cause", NAMES)
def test_names_the_largest_cause_and_its_mend(cause):
    shares = {name: 0.7 if name == cause else 0.1 for name in NAMES}
    finding = scan([0.9] * 5, **shares)
    why, mend = CAUSES[f"zero_variance/{cause}"]
    assert why in finding.message
    assert finding.mend == mend


def test_a_cut_answer_is_wrong_because_it_is_cut():
    assert "cut" in scan([0.9] * 5, all_wrong=0.9, all_clipped=0.9).message


def test_what_could_not_be_scored_is_the_reward_functions():
    finding = scan([1.0] * 5, unscored=1.0)
    assert finding.message.endswith("; mostly fewer than two completions could be scored")
    assert "reward/error_rate" in finding.mend
    assert "reward function" in finding.mend


def test_silent_where_groups_of_one_log_nothing():
    assert scan([None] * 5) is None


def test_without_causes_the_general_mend():
    finding = scan([0.9] * 5)
    assert finding.message == "90% of groups have one reward for all completions"
    assert finding.mend == DETECTOR.mend
    assert scan([0.9] * 5, all_right=0.0).mend == DETECTOR.mend


def test_threshold_is_reached_at_its_value():
    assert scan([1.0, 1.0, 1.0, 1.0, 0.0])
    assert scan([1.0, 1.0, 1.0, 0.9, 0.0]) is None
    assert scan([1.0] * 4) is None
