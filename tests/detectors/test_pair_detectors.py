"""margin_saturation, reward_drift, wrong_reference: values at and below the cut, gaps, TRL's names."""

import pytest

from trimpot.detectors.margin_saturation import MarginSaturation
from trimpot.detectors.reward_drift import RewardDrift
from trimpot.detectors.watch import scan_log
from trimpot.detectors.windows import make_window
from trimpot.detectors.wrong_reference import WrongReference

NAN = float("nan")


@pytest.mark.parametrize(("margin", "accuracy"), [("rewards__margins", "rewards__accuracies"), ("margin", "accuracy")])
def test_margin_saturation_needs_all_three(margin, accuracy):
    def scan(value, right=1.0, loss=0.001, steps=5):
        return MarginSaturation().scan(
            make_window(**{margin: [value] * steps, accuracy: [right] * steps, "loss": [loss] * steps})
        )

    assert scan(10.1).metric == margin.replace("__", "/")
    assert scan(10.0) is None
    assert scan(10.1, right=0.99) is None
    assert scan(10.1, loss=0.01) is None
    assert scan(10.1, steps=4) is None


def test_margin_saturation_reads_the_log_of_trl_1236():
    # The last losses, accuracies and margins of github.com/huggingface/trl/issues/1236.
    margins = [15.31690788269043, 13.360142707824707, 23.276878356933594, 15.030803680419922, 15.0]
    losses = [0.0, 0.0036, 0.0, 0.0, 0.0]
    rows = [
        {"loss": loss, "rewards/margins": margin, "rewards/accuracies": 1.0}
        for loss, margin in zip(losses, margins, strict=True)
    ]
    assert [found.detector for found in scan_log(rows, (MarginSaturation(),))] == ["margin_saturation"]


def test_reward_drift_needs_a_move_beyond_three_and_beyond_the_margin():
    def scan(late, margin=1.0, early=2.0, steps=10):
        values = [early] * 10 + [late] * steps
        return RewardDrift().scan(make_window(mean_reward=values, margin=[margin] * len(values)))

    assert scan(5.1).value == pytest.approx(3.1)
    assert scan(-1.1).value == pytest.approx(3.1)
    assert scan(5.0) is None
    assert scan(5.1, margin=3.2) is None
    assert scan(9.0, steps=9) is None
    assert scan(2.0, early=2.0) is None


def test_reward_drift_with_gaps():
    values = [0.0, None] * 10 + [4.0, NAN] * 9 + [4.0]
    assert RewardDrift().scan(make_window(mean_reward=values, margin=[1.0] * len(values))).value == pytest.approx(4.0)


def reference(**series):
    return WrongReference().scan(make_window(**series))


def test_wrong_reference_by_the_log_ratio_of_step_1():
    assert reference(logratio__chosen=[0.6], logratio__rejected=[0.0]).value == 0.6
    assert reference(logratio__chosen=[0.0], logratio__rejected=[-0.6]).metric == "logratio/rejected"
    assert reference(logratio__chosen=[0.5], logratio__rejected=[-0.5]) is None
    assert reference(logratio__chosen=[0.0, 9.0], logratio__rejected=[0.0, -9.0]) is None


def test_wrong_reference_lasts_through_the_run():
    assert reference(logratio__chosen=[0.6, 0.7, 0.9]).value == 0.6
    assert reference(logratio__chosen=[0.6, 0.7, None]) is None
    assert reference(logratio__chosen=[NAN, 0.7, 0.9]) is None


def test_wrong_reference_in_a_log_of_trl():
    # The first line of github.com/huggingface/trl/issues/1236: the policy is far from its reference before training.
    first = {
        "rewards/chosen": 9.76550579071045, "rewards/rejected": 5.694394111633301,
        "logps/rejected": -222.74356079101562, "logps/chosen": -379.7199401855469,
    }  # fmt: skip
    detectors = (WrongReference(),)
    (found,) = scan_log([{"step": 1, **first}], detectors)
    assert (found.metric, round(found.value, 2)) == ("rewards/chosen", 97.66)
    # A log that begins with the mean of ten steps does not show step 1.
    assert scan_log([{"step": 10, **first}], detectors) == []
    # The tolerance is 0.5 nats: 0.05 in rewards at beta 0.1.
    for reward, heard in ((0.049, 0), (0.051, 1)):
        row = {"rewards/chosen": reward, "rewards/rejected": 0.0, "logps/chosen": -90.0, "logps/rejected": -80.0}
        assert len(scan_log([row], detectors)) == heard


def test_a_reference_free_objective_has_no_reference_to_be_wrong():
    row = {"rewards/chosen": -9.0, "rewards/rejected": -8.0, "logps/chosen": -90.0, "logps/rejected": -80.0}
    assert scan_log([row], (WrongReference(),)) == []


def test_wrong_reference_by_the_kl_of_a_policy_gradient_run():
    finding = reference(kl=[0.02, 0.02], reward=[0.1, 0.1])
    assert (finding.value, finding.threshold) == (0.02, 0.01)
    assert reference(kl=[0.01, 0.5], reward=[0.1, 0.1]) is None
    assert reference(kl=[0.5]) is None
    assert reference(kl=[0.5, NAN], reward=[0.1, 0.1]) is None
