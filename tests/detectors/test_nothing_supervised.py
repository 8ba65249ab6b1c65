"""nothing_supervised: counted targets decide, else a loss of exactly 0.0."""

from trimpot.detectors.nothing_supervised import NothingSupervised
from trimpot.detectors.windows import make_window

DETECTOR = NothingSupervised()


def scan(**series):
    return DETECTOR.scan(make_window(**series))


def test_counted_targets_decide():
    assert scan(num_target_tokens=[0.0], loss=[1.3]).metric == "num_target_tokens"
    assert scan(num_target_tokens=[1.0], loss=[0.0]) is None


def test_zero_loss_in_a_log_that_counts_no_targets():
    assert scan(loss=[2.0, 0.0]).metric == "loss"
    assert scan(loss=[2.0, -0.0])
    assert scan(loss=[0.0, 2.0]) is None
    assert scan(loss=[2.0, 1e-12]) is None


def test_zero_loss_is_ordinary_where_advantages_cancel_or_margins_saturate():
    assert scan(loss=[0.0], reward=[0.3]) is None
    assert scan(loss=[0.0], rewards__margins=[12.0]) is None
    assert scan(loss=[0.0], margin=[12.0]) is None


def test_a_count_that_is_nan_leaves_the_loss():
    assert scan(num_target_tokens=[float("nan")], loss=[0.0]).metric == "loss"
