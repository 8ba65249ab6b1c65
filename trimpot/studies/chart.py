"""The picture of a study's evidence: a metric against a knob, each seed as a dot, the mean with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt

from trimpot.knobs.evidence import Evidence
from trimpot.statistics.intervals import mean_interval
from trimpot.studies.measures import select
from trimpot.studies.study import Chart

WIDTH, HEIGHT = 460, 300
BESIDE = 1.1
"""Factor on a knob with a logarithmic axis by which each group is drawn to the right of the one before, so that
intervals do not hide each other."""

COLOURS = ["#3f80cc", "#cf4a3c", "#6a9a3b", "#8a63b8", "#c98a1b"]


def draw(evidence: Evidence, chart: Chart, path: Path) -> Path:
    """Writes the chart as SVG or PNG, by the ending of ``path``.

    Means and 95% t intervals are over seeds. On a logarithmic axis they are taken on the logarithm, as the tests of a
    log slope do, so the point is the geometric mean, and a value that is not positive cannot be drawn.
    """
    arms = select(evidence.arms, chart.where)
    points = _along(evidence, chart, arms) if chart.along else _beside(evidence, chart, arms)
    seeds = [{**point.place, "x": x, "y": y} for point in points for x, y in point.values]
    means = [{**point.place, **_mean([y for _, y in point.values], chart.log)} for point in points]
    x = alt.X("x:Q", title=chart.knob_title, scale=alt.Scale(nice=False, padding=16, zero=False))
    x = x.axis(format="~g", grid=False) if chart.along else _knob_axis(evidence, chart, arms)
    size = {"scale_factor": 2} if path.suffix == ".png" else {}
    _layers(seeds, means, x, evidence, chart).save(str(path), **size)
    return path


@dataclass(frozen=True)
class _Point:
    """Where a mean is drawn (x, group, order in its line), and (x, y) of each seed."""

    place: Mapping[str, Any]
    values: Sequence[tuple[Any, float]]


def _beside(evidence: Evidence, chart: Chart, arms: Sequence[str]) -> list[_Point]:
    """A point for each arm, at its knob's value; groups stand a little apart."""
    groups = list(dict.fromkeys(_group(evidence.arms[arm], chart) for arm in arms))
    log = _is_log([evidence.arms[arm][chart.knob] for arm in arms])
    points = []
    for arm in arms:
        group, x = _group(evidence.arms[arm], chart), evidence.arms[arm][chart.knob]
        if log:
            x = float(x) * BESIDE ** groups.index(group)
        ys = [by[chart.metric] for by in evidence.results[arm].values() if chart.metric in by]
        points.append(_Point({"x": x, "group": group, "order": x}, [(x, y) for y in ys if y > 0 or not chart.log]))
    return points


def _along(evidence: Evidence, chart: Chart, arms: Sequence[str]) -> list[_Point]:
    """For each arm a point at each of the points of its run, at the mean of the metric ``knob``."""
    points = []
    for arm in arms:
        for order in chart.along:
            names = [f"{name}@{order:g}" for name in (chart.knob, chart.metric)]
            found = [[by[name] for name in names] for by in evidence.results[arm].values() if by.keys() >= set(names)]
            values = [(x, y) for x, y in found if y > 0 or not chart.log]
            x = math.fsum(x for x, _ in values) / len(values) if values else None
            points.append(_Point({"x": x, "group": _group(evidence.arms[arm], chart), "order": order}, values))
    return points


def _mean(values: Sequence[float], log: bool) -> dict[str, float | None]:
    """The mean as y with its interval, low and high; of logarithms the geometric mean."""
    found = mean_interval([math.log(value) for value in values] if log else values)
    ends = {"y": found.value, "low": found.low, "high": found.high}
    return {name: math.exp(end) if log and end is not None else end for name, end in ends.items()}


def _group(knobs: Mapping[str, float | str], chart: Chart) -> str:
    value = "" if chart.group is None else knobs[chart.group]
    return value if isinstance(value, str) else f"{value:g}"


def _is_log(values: Sequence[float | str]) -> bool:
    """Whether every value is a number above 0."""
    return all(not isinstance(value, str) and value > 0 for value in values)


def _knob_axis(evidence: Evidence, chart: Chart, arms: Sequence[str]) -> Any:
    """The knob's axis: words in the order of the arms, numbers with a tick at each."""
    values = list(dict.fromkeys(evidence.arms[arm][chart.knob] for arm in arms))
    if any(isinstance(value, str) for value in values):
        return alt.X("x:N", title=chart.knob_title, sort=values).axis(labelAngle=0, labelLimit=WIDTH // len(values))
    scale = alt.Scale(type="log" if _is_log(values) else "linear", nice=False, padding=16, zero=False)
    return alt.X("x:Q", title=chart.knob_title, scale=scale).axis(values=values, format="~g", grid=False)


def _layers(
    seeds: list[dict[str, Any]], means: list[dict[str, Any]], x: Any, evidence: Evidence, chart: Chart
) -> Any:  # fmt: skip
    scale = alt.Scale(type="log" if chart.log else "linear", nice=False, padding=10, zero=False)
    y = alt.Y("y:Q", title=chart.metric_title, scale=scale).axis(format="~g", tickCount=5, grid=False)
    colour = alt.Color("group:N", title=chart.group_title, scale=alt.Scale(range=COLOURS))
    if len({row["group"] for row in means}) == 1:
        colour = colour.legend(None)
    drawn = alt.Chart(alt.Data(values=[row for row in means if row["y"] is not None])).encode(x=x, y=y, color=colour)
    dots = alt.Chart(alt.Data(values=seeds)).mark_circle(size=22, opacity=0.35).encode(x=x, y=y, color=colour)
    interval = drawn.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q", title=chart.metric_title), y2="high:Q")
    # Words have no order in which a line could go from one to the next.
    words = any(isinstance(row["x"], str) for row in means)
    joined = [] if words else [drawn.mark_line(strokeWidth=1.5).encode(order="order:Q")]
    points = drawn.mark_point(filled=True, size=70, opacity=1)
    mean = "geometric mean" if chart.log else "mean"
    subtitle = f"{len(evidence.seeds)} seeds, {mean} with 95% t interval; {evidence.conditions.budget} budget"
    title = alt.TitleParams(evidence.question, subtitle=subtitle, anchor="start", fontSize=13, limit=WIDTH + 120)
    layers = alt.layer(dots, *joined, interval, points)
    return layers.properties(width=WIDTH, height=HEIGHT, title=title).configure_view(stroke=None)
