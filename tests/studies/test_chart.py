"""The charts of evidence: every mean is drawn where it lies, on axes that fit the knob."""

import dataclasses
import math
import re

import pytest

from trimpot.knobs.evidence import Conditions, Evidence
from trimpot.studies import chart as module
from trimpot.studies.chart import draw
from trimpot.studies.study import Chart


def evidence(arms, results):
    conditions = Conditions("tiny", "small", "quick", {}, {}, None, "now", 1.0)
    seeds = tuple(int(seed) for seed in next(iter(results.values())))
    return Evidence("toy", "A question?", "hash", seeds, arms, results, (), {}, None, conditions)


def by_seed(metric, *values):
    return {str(seed): {metric: value} for seed, value in enumerate(values)}


NUMBERS = evidence(
    {"a": {"knob": 0.1}, "b": {"knob": 1.0}, "c": {"knob": 10.0}},
    {"a": by_seed("y", 1.0, 4.0), "b": by_seed("y", 2.0, 8.0), "c": by_seed("y", 3.0, 27.0)},
)
CHART = Chart("y", "knob", metric_title="the metric", knob_title="the knob")


@pytest.fixture
def layers(monkeypatch):
    """What is handed to the drawing: dots, means and the axis of the knob."""
    seen = {}
    original = module._layers

    def watching(seeds, means, x, evidence, chart):
        seen.update(seeds=seeds, means=means, x=x.to_dict())
        return original(seeds, means, x, evidence, chart)

    monkeypatch.setattr(module, "_layers", watching)
    return seen


def test_means_are_geometric_on_a_logarithmic_axis(tmp_path, layers):
    path = draw(NUMBERS, CHART, tmp_path / "chart.svg")
    assert [row["y"] for row in layers["means"]] == pytest.approx([2.0, 4.0, 9.0])
    assert [row["x"] for row in layers["means"]] == pytest.approx([0.1, 1.0, 10.0])
    assert layers["x"]["scale"]["type"] == "log"
    assert len(layers["seeds"]) == 6
    text = path.read_text()
    assert text.startswith("<svg")
    assert "the metric" in text
    assert "geometric mean" in text


def test_means_are_plain_on_a_linear_axis(tmp_path, layers):
    draw(NUMBERS, dataclasses.replace(CHART, log=False), tmp_path / "chart.svg")
    assert [row["y"] for row in layers["means"]] == [2.5, 5.0, 15.0]


def test_a_knob_that_can_be_0_has_a_linear_axis(tmp_path, layers):
    arms = {"a": {"knob": 0.0}, "b": {"knob": 0.4}}
    draw(evidence(arms, {"a": by_seed("y", 1.0), "b": by_seed("y", 2.0)}), CHART, tmp_path / "chart.svg")
    assert layers["x"]["scale"]["type"] == "linear"
    assert [row["x"] for row in layers["means"]] == [0.0, 0.4]


def test_words_stand_side_by_side_in_the_order_of_the_arms(tmp_path, layers):
    arms = {"a": {"knob": "sigmoid"}, "b": {"knob": "ipo"}}
    path = draw(evidence(arms, {"a": by_seed("y", 1.0, 2.0), "b": by_seed("y", 2.0, 3.0)}), CHART, tmp_path / "c.svg")
    assert layers["x"]["type"] == "nominal"
    assert layers["x"]["sort"] == ["sigmoid", "ipo"]
    text = path.read_text()
    assert re.search(r"sigmoid.*ipo", text, re.DOTALL)


def test_groups_of_numbers_and_words_are_named(tmp_path, layers):
    arms = {f"{knob} {group}": {"knob": knob, "group": group} for knob in (1.0, 2.0) for group in ("all", 0.2)}
    chart = dataclasses.replace(CHART, group="group", group_title="the group")
    draw(evidence(arms, {arm: by_seed("y", 1.0, 2.0) for arm in arms}), chart, tmp_path / "chart.svg")
    assert {row["group"] for row in layers["means"]} == {"all", "0.2"}


def test_a_run_is_followed_along_its_points(tmp_path, layers):
    runs = {"0": {"kl@1": 1.0, "kl@2": 3.0, "y@1": 0.5, "y@2": 0.25}, "1": {"kl@1": 2.0, "kl@2": 5.0, "y@1": 0.75}}
    chart = dataclasses.replace(CHART, knob="kl", along=(1.0, 2.0), log=False)
    draw(evidence({"a": {"knob": 1.0}}, {"a": runs}), chart, tmp_path / "chart.svg")
    assert [(row["x"], row["y"], row["order"]) for row in layers["means"]] == [(1.5, 0.625, 1.0), (3.0, 0.25, 2.0)]
    assert [(row["x"], row["y"]) for row in layers["seeds"]] == [(1.0, 0.5), (2.0, 0.75), (3.0, 0.25)]


def test_what_has_no_logarithm_and_what_is_missing_is_not_drawn(tmp_path, layers):
    results = {"a": {"0": {"y": -1.0}, "1": {"y": math.e}}, "b": {"0": {"other": 1.0}}}
    draw(evidence({"a": {"knob": 1.0}, "b": {"knob": 2.0}}, results), CHART, tmp_path / "chart.png")
    assert [row["y"] for row in layers["seeds"]] == [math.e]
    assert [row["y"] for row in layers["means"]] == [pytest.approx(math.e), None]
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
