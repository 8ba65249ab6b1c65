"""From a logger's rows to a log: steps that rise, our names, numbers only."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimpot.core.errors import UsageError
from trimpot.doctor.log import RawLog, clean, number


def cleaned(rows, **more):
    return clean(RawLog("log.csv", "CSV", rows, **more))


def test_rows_of_one_step_are_put_together_and_others_metrics_left_out():
    log = cleaned([{"step": 1, "loss": 2.0, "epoch": 0.1}, {"step": 1, "grad_norm": 3.0}, {"step": 2, "loss": 1.0}])
    assert log.steps == (1, 2)
    assert log.series == {"loss": (2.0, 1.0), "grad_norm": (3.0, None)}


def test_a_resumed_run_replaces_the_steps_it_takes_again():
    rows = [{"step": step, "loss": float(step)} for step in (1, 2, 3, 4)]
    rows += [{"step": step, "loss": 10.0 * step} for step in (3, 4, 5)]
    log = cleaned(rows)
    assert log.series["loss"] == (1.0, 2.0, 30.0, 40.0, 50.0)
    assert log.notes == ("row 5 goes back from step 4 to 3: read as a resumed run, which replaces them",)


def test_steps_in_disorder_are_refused():
    rows = [{"step": step, "loss": 1.0} for step in (1, 5, 2, 6, 3, 7)]
    with pytest.raises(UsageError, match="steps do not rise: row 3 has step 2 after 5, and 1 more"):
        cleaned(rows)


def test_a_log_without_steps_is_counted_and_rows_without_one_are_left_out():
    assert cleaned([{"loss": 2.0}, {"loss": 1.0}]).steps == (1, 2)
    log = cleaned([{"step": 4, "loss": 2.0}, {"loss": 9.0}, {"step": 5, "loss": 1.0}])
    assert log.series["loss"] == (2.0, 1.0)
    assert log.notes == ("1 rows have no step and are left out",)
    with pytest.raises(UsageError, match=r"row 2 has the step 1\.5, no whole number"):
        cleaned([{"step": 1, "loss": 1.0}, {"step": 1.5, "loss": 1.0}])


def test_no_known_metric_names_the_nearest():
    with pytest.raises(UsageError, match=r"none of its columns.*step, los, grad_nrm.*'loss' for 'los'"):
        cleaned([{"step": 1, "los": 2.0, "grad_nrm": 1.0}])
    with pytest.raises(UsageError, match="Log at least one of: loss"):
        cleaned([{"zzzz": 1}])


def test_a_column_of_nan_counts_as_not_logged_and_a_loss_of_nan_as_a_loss():
    nan = math.nan
    log = cleaned([{"step": 1, "loss": 1.0, "kl": nan}, {"step": 2, "loss": 1.0, "kl": "NaN"}])
    assert not log.has("kl")
    assert log.notes == ("kl has no number in any row and counts as not logged",)
    assert cleaned([{"step": 1, "loss": nan}]).has("loss")
    with pytest.raises(UsageError, match="has no number for kl"):
        cleaned([{"step": 1, "kl": nan}, {"step": 2, "kl": nan}])


def test_texts_of_numbers_are_numbers_and_others_are_none():
    assert number("1e-3") == 0.001
    assert number("-Infinity") == -math.inf
    assert math.isnan(number("NaN"))
    assert [number(value) for value in (True, None, "high", [1], "")] == [None] * 5


@given(
    st.lists(
        st.fixed_dictionaries({"loss": st.floats(-10, 10), "grad_norm": st.floats(0, 10)}), min_size=1, max_size=30
    ),
    st.randoms(use_true_random=False),
)
def test_a_row_for_each_metric_gives_the_same_log_as_a_row_for_each_step(values, random):
    whole = [{"step": step, **row} for step, row in enumerate(values, start=1)]
    apart = []
    for row in whole:
        parts = [{"step": row["step"], name: row[name]} for name in ("loss", "grad_norm")]
        random.shuffle(parts)
        apart += parts
    assert cleaned(apart).series == cleaned(whole).series
    assert cleaned(apart).steps == cleaned(whole).steps


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40))
def test_steps_of_a_log_rise_whatever_it_was_given(steps):
    try:
        log = cleaned([{"step": step, "loss": 1.0} for step in steps])
    except UsageError:
        return
    assert all(earlier < later for earlier, later in zip(log.steps, log.steps[1:], strict=False))
    assert log.steps[-1] == steps[-1]


def test_the_interval_between_rows_is_the_median():
    assert cleaned([{"step": step, "loss": 1.0} for step in (1, 10, 20, 30)]).every == 10
    assert cleaned([{"step": 1, "loss": 1.0}]).every is None
