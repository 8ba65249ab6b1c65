"""truncated_completions: the mean of five steps."""

from trimpot.detectors.truncated_completions import TruncatedCompletions
from trimpot.detectors.windows import make_window


def scan(values):
    return TruncatedCompletions().scan(make_window(completions__clipped_ratio=values))


def test_the_mean_of_five_steps():
    assert scan([0.0, 0.5, 0.5, 0.5, 0.5]).message == "40% of completions were cut at the token limit"
    assert scan([0.0, 0.0, 0.0, 0.5, 1.0]) is None  # the mean is 0.3 itself
    assert scan([1.0] * 4) is None
    assert scan([1.0] * 5 + [None]) is None  # nothing is known about the newest step
