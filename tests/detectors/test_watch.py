"""The watcher: repetition, gaps, rewinding, the bounded window, restoring, foreign logs."""

import time

import pytest

from trimpot.detectors.entropy_collapse import EntropyCollapse
from trimpot.detectors.loss_spike import LossSpike
from trimpot.detectors.truncated_completions import TruncatedCompletions
from trimpot.detectors.watch import Watcher, all_detectors, scan_log

NAN = float("nan")
CUT = "completions/clipped_ratio"


def steps_heard(rows, **settings):
    watcher = Watcher(all_detectors(), **settings)
    return [(f.detector, f.step) for step, metrics in enumerate(rows, 1) for f in watcher.observe(step, metrics)]


def test_a_lasting_condition_is_heard_once_and_again_after_25_steps():
    assert steps_heard([{CUT: 0.9}] * 60) == [("truncated_completions", step) for step in (5, 30, 55)]


def test_a_condition_that_was_absent_is_heard_at_once_when_it_returns():
    rows = [{"loss": 1.0}] * 10 + [{"loss": 9.0}] * 2 + [{"loss": 1.0}, {"loss": 9.0}]
    assert steps_heard(rows) == [("loss_spike", 11), ("loss_spike", 14)]


def test_steps_that_do_not_report_the_metric_do_not_end_the_condition():
    rows = [{CUT: 0.9}] * 5 + [{"loss": 1.0}, {CUT: NAN}, {CUT: 0.9}, {CUT: None, "loss": 1.0}, {CUT: 0.9}]
    assert steps_heard(rows) == [("truncated_completions", 5)]


def test_a_run_of_nan_is_heard_once_and_does_not_blind_the_others():
    rows = [{"loss": 1.0, CUT: 0.0}] * 10 + [{"loss": NAN, CUT: 0.9}] * 10
    assert steps_heard(rows) == [("loss_spike", 11), ("truncated_completions", 12)]


def test_a_spike_that_turns_into_nan_is_heard_again():
    rows = [{"loss": 1.0}] * 10 + [{"loss": 9.0}, {"loss": NAN}, {"loss": 9.0}, {"loss": NAN}]
    assert steps_heard(rows) == [("loss_spike", 11), ("loss_spike", 12)]


def test_feeding_the_log_again_restores_the_state():
    rows = [{"loss": 1.0, CUT: 0.1 * (step % 7), "entropy": 0.5, "reward": 0.1} for step in range(80)]
    rows[40]["loss"] = 9.0
    rows += [{"loss": NAN, CUT: 0.9, "entropy": 0.001, "reward": 0.1}] * 40
    through = Watcher(all_detectors())
    said = [through.observe(step, row) for step, row in enumerate(rows)]
    for cut in (0, 41, 85, 100):
        resumed = Watcher(all_detectors())
        for step, row in enumerate(rows[:cut]):
            resumed.observe(step, row)
        assert [resumed.observe(cut + i, row) for i, row in enumerate(rows[cut:])] == said[cut:]


def test_steps_that_come_again_replace_those_from_before_the_resume():
    watcher = Watcher((LossSpike(),))
    for step in range(1, 13):
        watcher.observe(step, {"loss": 1.0})
    assert [f.step for f in watcher.observe(13, {"loss": 9.0})] == [13]
    assert watcher.observe(12, {"loss": 1.0}) == []
    assert [f.step for f in watcher.observe(13, {"loss": 9.0})] == [13]


def test_the_window_is_bounded_and_keeps_the_start():
    watcher = Watcher((EntropyCollapse(),), limit=32)
    for step in range(200):
        assert watcher.observe(step, {"entropy": 1.0, "reward": 0.0}) == []
    series = watcher._window
    assert {len(values) for values in series.values()} == {32}
    assert (series["step"][0], series["step"][9], series["step"][10], series["step"][-1]) == (0, 9, 178, 199)
    # A slow fall that the newest 32 steps alone would not show.
    heard = [
        finding.step
        for step in range(200, 500)
        for finding in watcher.observe(step, {"entropy": 0.99 ** (step - 200), "reward": 0.0})
    ]
    assert 425 < heard[0] < 440
    with pytest.raises(ValueError, match="limit"):
        Watcher((), limit=10)


def test_does_not_keep_what_it_is_fed():
    row = {CUT: 0.9}
    watcher = Watcher((TruncatedCompletions(),))
    for step in range(4):
        watcher.observe(step, row)
    row[CUT] = 0.0
    assert watcher.observe(4, {CUT: 0.9})


def test_reads_the_log_history_of_trl():
    rows = [{"step": 10 * i, "loss": 2.0, "grad_norm": 1.0, "learning_rate": 1e-5, "epoch": 0.1} for i in range(1, 12)]
    rows.insert(5, {"step": 50, "eval_loss": 1.9, "eval_runtime": 3.0})
    rows.append({"step": 120, "loss": 0.0, "grad_norm": NAN, "note": "text", "done": True})
    rows.append({"step": 120, "train_runtime": 99.0, "train_loss": 1.8})
    found = scan_log(rows)
    assert [(finding.detector, finding.step, finding.metric) for finding in found] == [
        ("loss_spike", 120, "grad_norm"),
        ("nothing_supervised", 120, "loss"),
    ]


def test_a_log_without_steps_is_counted_and_an_empty_one_is_silent():
    assert [finding.step for finding in scan_log([{CUT: 1}] * 6)] == [5]
    assert scan_log([]) == []
    assert scan_log([{CUT: 1}] * 6, (LossSpike(),)) == []


def test_two_thousand_rows_take_seconds_not_minutes():
    rows = [{"loss": 2.0 + 0.01 * (step % 13), "entropy": 0.5, CUT: 0.1} for step in range(2000)]
    start = time.perf_counter()
    assert scan_log(rows) == []
    assert time.perf_counter() - start < 8
