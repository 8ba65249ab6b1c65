"""entropy_collapse: absolute, against the start, and only where there is a reward."""

from trimpot.detectors.entropy_collapse import EntropyCollapse
from trimpot.detectors.windows import make_window


def scan(entropy, reward=0.4):
    return EntropyCollapse().scan(make_window(entropy=entropy, reward=[reward] * len(entropy)))


def test_absolute_needs_no_start():
    assert scan([0.005] * 5).message == "entropy is 0.005 nats per token"
    assert scan([0.01] * 5) is None
    assert scan([0.005] * 4) is None


def test_against_the_start():
    assert "9% of what it was" in scan([1.0] * 5 + [0.09] * 5).message
    assert scan([1.0] * 5 + [0.11] * 5) is None
    assert scan([1.0] * 5 + [0.09] * 4) is None


def test_low_entropy_is_no_fault_without_a_reward():
    assert scan([0.001] * 10, reward=None) is None
