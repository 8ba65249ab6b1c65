import json
import math

import pytest
import vl_convert
from hypothesis import given
from hypothesis import strategies as st

from trimpot.site.charts import MOST_POINTS, accuracy_chart, curve_chart, slice_chart, thin
from trimpot.site.summary import Alarm, Curve, summarise


@pytest.fixture(scope="module")
def summary(constructed_run):
    return summarise(constructed_run)


def drawn(spec):
    assert "$schema" not in spec
    json.dumps(spec, allow_nan=False)
    return vl_convert.vegalite_to_svg({**spec, "width": 300})


def test_accuracy_chart_shows_each_evaluated_stage(summary):
    svg = drawn(accuracy_chart(summary))
    assert all(f">{name}<" in svg for name in ("base", "sft", "preference", "policy_gradient"))
    assert ">reward<" not in svg


def test_slice_chart_shows_each_slice(summary):
    svg = drawn(slice_chart(summary))
    assert ">task: syllogisms<" in svg
    assert ">difficulty: hard<" in svg


def test_curve_marks_its_own_alarms_only():
    curve = Curve("entropy", (1, 2, 3), (1.0, math.nan, 0.5))
    alarms = [Alarm("s", 2, "collapse", name, 0.1, 0.3, "", "", "") for name in ("entropy", "kl")]
    spec = curve_chart("s", curve, alarms)
    drawn(spec)
    assert [layer["data"]["values"] for layer in spec["layer"] if layer["mark"]["type"] == "rule"] == [
        [{"step": 2, "alarm": "collapse"}]
    ]
    assert {"step": 2, "value": None} in spec["layer"][0]["data"]["values"]
    assert "layer" not in curve_chart("s", curve, alarms[1:])


@given(st.lists(st.floats(allow_nan=True), max_size=3000))
def test_thinning_keeps_the_extremes_and_the_order(values):
    points = thin(Curve("loss", tuple(range(len(values))), tuple(values)))
    assert len(points) <= max(MOST_POINTS, 1)
    assert [step for step, _ in points] == sorted({step for step, _ in points})
    finite = [value for value in values if math.isfinite(value)]
    shown = [value for _, value in points if value is not None]
    assert (min(shown, default=None), max(shown, default=None)) == (
        min(finite, default=None),
        max(finite, default=None),
    )


def test_a_spike_is_seen_in_a_long_run():
    values = [1.0] * 10_000
    values[5_001] = 50.0
    points = thin(Curve("loss", tuple(range(10_000)), tuple(values)))
    assert (5_001, 50.0) in points
    assert len(points) <= MOST_POINTS
