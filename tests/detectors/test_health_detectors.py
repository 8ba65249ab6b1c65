"""Detectors of the health probe's metrics: what trips them, what does not, and at which cut."""

import pytest

from trimpot.detectors.dead_units import DeadUnits
from trimpot.detectors.nonfinite_activations import NonfiniteActivations
from trimpot.detectors.update_ratio import UpdateRatio
from trimpot.detectors.watch import Watcher
from trimpot.detectors.windows import make_window

KINDS = (UpdateRatio, DeadUnits, NonfiniteActivations)
NAN = float("nan")


def ratios(*values):
    return UpdateRatio().scan(make_window(health__update_ratio=list(values)))


@pytest.mark.parametrize("kind", KINDS)
def test_it_trips_on_its_series_at_the_newest_step_and_stays_silent_on_the_other(kind):
    detector = kind()
    finding = detector.scan(detector.trips_on)
    assert finding is not None
    assert (finding.step, finding.threshold) == (detector.trips_on["step"][-1], detector.threshold)
    (metric,) = detector.metrics
    watcher = Watcher((detector,))
    quiet = detector.silent_on
    for step, value in zip(quiet["step"], quiet[metric], strict=True):
        assert watcher.observe(int(step), {metric: value}) == []


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_nothing_without_its_metric_or_at_a_step_that_was_not_looked_at(kind):
    detector = kind()
    (metric,) = detector.metrics
    assert detector.scan({"step": []}) is None
    assert detector.scan({"step": [1.0], metric: [None]}) is None
    assert detector.scan({**detector.trips_on, metric: [*detector.trips_on[metric][:-1], None]}) is None
    assert detector.scan({**detector.trips_on, metric: [*detector.trips_on[metric][:-1], NAN]}) is None


def test_a_median_above_a_tenth_is_too_large_and_one_large_step_is_not():
    assert ratios(0.01, 0.2, 0.3).value == 0.2
    assert ratios(0.01, 0.2, 0.1) is None
    assert ratios(0.2, 0.3) is None


def test_updates_that_were_always_tiny_are_said_and_those_of_a_schedule_at_its_end_are_not():
    finding = ratios(1e-6, 2e-6, None, 3e-6)
    assert (finding.value, finding.threshold) == (2e-6, 1e-5)
    assert "3e-06" in finding.message
    assert ratios(1e-3, 1e-6, 2e-6, 3e-6) is None


def test_dead_units_count_by_the_mean_of_two_looks():
    detector = DeadUnits()
    assert detector.scan(make_window(health__dead_units=[0.0, 0.5])).value == 0.25
    assert detector.scan(make_window(health__dead_units=[0.0, 0.4])) is None
    assert detector.scan(make_window(health__dead_units=[0.9])) is None
