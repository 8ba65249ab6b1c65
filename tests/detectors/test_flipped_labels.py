"""flipped_labels: what shows with trusted pairs and without, by simulated accuracies of a known share of flips."""

import random

import pytest

from trimpot.detectors.flipped_labels import FlippedLabels
from trimpot.detectors.windows import make_window

LN_2 = 0.6931471805599453


def scan(trusted, training, loss=0.5, name="accuracy"):
    series = {name.replace("/", "__"): training, "loss": [loss] * len(training)}
    if trusted is not None:
        series["held_out__gold_accuracy"] = trusted
    return FlippedLabels().scan(make_window(**series))


def noisy(value, steps, seed=0):
    """Accuracies of batches of 32 pairs around ``value``."""
    draw = random.Random(seed)
    return [sum(draw.random() < value for _ in range(32)) / 32 for _ in range(steps)]


@pytest.mark.parametrize("name", ["accuracy", "rewards/accuracies"])
@pytest.mark.parametrize("share", [0.3, 0.4, 1.0])
def test_with_trusted_pairs_a_share_of_flips_is_estimated(name, share):
    # A model that follows the majority of the labels: right on trusted pairs in 0.9 of cases, or in 0.1.
    right = 0.9 if share < 0.5 else 0.1
    training = noisy(right * (1 - share) + (1 - right) * share, 20)
    finding = scan([right] * 20, training, name=name)
    assert finding.value == pytest.approx(share, abs=0.1)
    assert finding.metric == "held_out/gold_accuracy"


@pytest.mark.parametrize("right", [0.6, 0.75, 0.95])
@pytest.mark.parametrize("seed", range(5))
def test_clean_labels_are_silent(right, seed):
    training = noisy(right, 20, seed)
    assert scan([right] * 20, training) is None


def test_memorised_pairs_are_no_flips():
    assert scan([0.8] * 20, [1.0] * 20) is None


def test_the_threshold_on_the_share():
    # h = 0.9: a gap of 0.16 is a share of 0.2, and a little more is above it.
    assert scan([0.9] * 10, [0.75] * 10) is None
    assert scan([0.9] * 10, [0.73] * 10).value == pytest.approx(0.2125)


def test_ten_common_steps_are_needed_and_gaps_left_out():
    assert scan([0.9] * 9, [0.6] * 9) is None
    assert scan([0.9, None, float("nan")] * 9 + [0.9], [0.6] * 28)
    assert scan([0.9] * 20 + [None], [0.6] * 21) is None


def test_half_of_the_labels_flipped_looks_like_a_coin():
    finding = scan(None, noisy(0.5, 30), loss=LN_2 + 0.01)
    assert (finding.metric, finding.threshold) == ("accuracy", 0.6)
    assert scan(None, noisy(0.5, 29), loss=LN_2 + 0.01) is None
    assert scan(None, noisy(0.5, 30), loss=LN_2 - 0.01) is None
    assert scan(None, noisy(0.7, 30), loss=LN_2 + 0.01) is None


def test_all_labels_flipped_leave_no_trace_in_the_training_log():
    assert scan(None, noisy(0.9, 40), loss=0.3) is None


def test_a_loss_that_does_not_start_at_ln_2_is_not_compared_with_a_coin():
    """SimPO starts at ln(1 + e^γ) = 1.31 for γ = 1; a slow start under it is ordinary."""
    accuracy = [0.46 + 0.1 * step / 30 + 0.01 * (step % 3) for step in range(30)]
    slow = {"rewards__accuracies": accuracy, "loss": [1.31 - 0.003 * step for step in range(30)]}
    assert FlippedLabels().scan(make_window(**slow)) is None
    coin = {"rewards__accuracies": accuracy, "loss": [0.694] * 30}
    assert FlippedLabels().scan(make_window(**coin)) is not None
