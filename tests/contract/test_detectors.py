"""What every detector of the table promises."""

import dataclasses
import inspect
import math
import re
import sys

import pytest

from trimpot.core.findings import Finding
from trimpot.detectors import DETECTORS
from trimpot.detectors.watch import Watcher, all_detectors

HEADINGS = ("What:", "Threshold:", "Source:", "Mend:", "Edge cases:", "Fails when:")
NAN = float("nan")
FAULTS_OF_THE_START = ("wrong_reference",)
"""Detectors that judge what a run began with: the fault cannot return within the run."""

every = pytest.mark.parametrize("detector", all_detectors(), ids=lambda detector: detector.name)


def rows_of(window, first_step=1):
    """The window as logged rows: (step, metrics)."""
    length = len(window["step"])
    names = [name for name in window if name != "step"]
    return [(first_step + i, {name: window[name][i] for name in names}) for i in range(length)]


def replay(detector, rows, **settings):
    watcher = Watcher((detector,), **settings)
    return [finding for step, metrics in rows for finding in watcher.observe(step, metrics)]


@every
def test_fires_on_the_newest_step_of_its_trips_series(detector):
    finding = detector.scan(detector.trips_on)
    assert isinstance(finding, Finding)
    assert finding.detector == detector.name
    assert finding.step == detector.trips_on["step"][-1]
    assert finding.threshold == detector.threshold
    assert finding.metric in detector.metrics
    assert finding.card == detector.card
    assert finding.message
    assert finding.mend
    assert "\n" not in finding.message + finding.mend


@every
def test_is_pure(detector):
    assert detector.scan(detector.trips_on) == detector.scan(detector.trips_on)


@every
def test_stays_silent_at_every_step_of_its_silent_series(detector):
    assert detector.scan(detector.silent_on) is None
    assert replay(detector, rows_of(detector.silent_on)) == []


@pytest.mark.parametrize("name", [name for name in DETECTORS if name not in FAULTS_OF_THE_START])
def test_fires_again_after_its_own_alarm_when_the_fault_returns(name):
    detector = DETECTORS[name]()
    fault, quiet = rows_of(detector.trips_on), rows_of(detector.silent_on)
    # Quiet long enough for every mean over a window to recover, and too short for a mere repetition.
    quiet = (quiet * 20)[:40]
    metrics = [row for _, row in fault + quiet + fault]
    findings = replay(detector, list(enumerate(metrics, start=1)), repeat_after=10_000)
    assert findings[0].step <= len(fault)
    assert any(finding.step > len(fault) + len(quiet) for finding in findings)


@pytest.mark.parametrize("name", FAULTS_OF_THE_START)
def test_a_fault_of_the_start_lasts_and_is_heard_again_in_the_next_run(name):
    detector = DETECTORS[name]()
    fault, quiet = rows_of(detector.trips_on), rows_of(detector.silent_on)
    watcher = Watcher((detector,), repeat_after=2)
    for rows, heard in ((fault, [1, 3]), (quiet, []), (fault, [1, 3])):
        assert [found.step for step, row in rows for found in watcher.observe(step, row)] == heard


@every
def test_a_nan_in_any_other_metric_does_not_blind_it(detector):
    length = len(detector.trips_on["step"])
    others = {metric for kind in all_detectors() for metric in kind.metrics} - set(detector.metrics)
    blinding = {**detector.trips_on, **{name: [NAN] * length for name in others | {"eval_loss"}}}
    assert detector.scan(blinding) == detector.scan(detector.trips_on)


@every
@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf, None])
def test_a_number_that_is_none_in_its_own_metrics_does_not_raise(detector, value):
    for name in detector.metrics:
        for position in (0, -2, -1):
            series = list(detector.trips_on.get(name, [0.0] * len(detector.trips_on["step"])))
            series[position] = value
            detector.scan({**detector.trips_on, name: series})
    detector.scan(
        {**detector.trips_on, **{name: [value] * len(detector.trips_on["step"]) for name in detector.metrics}}
    )


@every
def test_a_nan_in_its_own_metric_does_not_blind_it_later(detector):
    fault = rows_of(detector.trips_on)
    broken = [(0, {name: NAN for name in detector.metrics})]
    findings = replay(detector, broken + fault + [(step + len(fault), row) for step, row in fault], repeat_after=1)
    assert any(finding.step > 0 for finding in findings)


@every
def test_is_silent_without_its_metrics(detector):
    assert detector.scan({"step": []}) is None
    assert detector.scan({"step": [1.0, 2.0], "unrelated": [3.0, NAN]}) is None
    assert detector.scan({"step": [], **{name: [] for name in detector.metrics}}) is None
    assert detector.scan({"step": [1.0], **{name: [None] for name in detector.metrics}}) is None


@every
def test_its_series_have_one_length_and_only_its_metrics(detector):
    for window in (detector.trips_on, detector.silent_on):
        assert len({len(series) for series in window.values()}) == 1
        assert set(window) <= {"step", *detector.metrics}


@every
def test_documents_itself(detector):
    text = inspect.getdoc(type(detector))
    positions = [text.index(heading) for heading in HEADINGS]
    assert positions == sorted(positions)
    threshold = text[text.index("Threshold:") : text.index("Source:")]
    assert re.search(rf"(?<![\d.]){re.escape(f'{detector.threshold:g}')}(?![\d.]*\d)", threshold)
    assert f"card {detector.card}" in text
    assert re.fullmatch(r"[a-z_]+\.[a-z_]+", detector.card)
    assert "main" not in detector.source.split(), "a source must not move"
    assert len(detector.source) > 5


@every
def test_is_a_frozen_dataclass_with_its_threshold_as_a_field(detector):
    assert type(detector).__dataclass_params__.frozen
    assert "threshold" in {field.name for field in dataclasses.fields(detector)}
    assert len(dataclasses.fields(detector)) <= 12
    other = dataclasses.replace(detector, threshold=detector.threshold)
    assert other == detector


def test_the_table_names_each_detector_by_its_name():
    assert {name: kind().name for name, kind in DETECTORS.items()} == {name: name for name in DETECTORS}


def test_each_detector_has_its_own_file():
    files = {name: sys.modules[kind.__module__].__name__.rsplit(".", 1)[-1] for name, kind in DETECTORS.items()}
    assert files == {name: name for name in DETECTORS}


def test_all_together_say_nothing_about_each_others_silent_series():
    for quiet in all_detectors():
        for detector in all_detectors():
            assert replay(detector, rows_of(quiet.silent_on)) == [], (detector.name, quiet.name)
