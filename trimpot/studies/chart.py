"""The picture of a study's evidence: a metric against a knob, each seed as a dot, the mean with its interval."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import altair as alt

from trimpot.knobs.evidence import Evidence
from trimpot.statistics.intervals import mean_interval
from trimpot.studies.measures import select
from trimpot.studies.study import Chart

WIDTH, HEIGHT = 460, 300
BESIDE = 1.1
"""Factor on the knob by which each group is drawn to the right of the one before, so that intervals do not hide."""

COLOURS = ["#3f80cc", "#cf4a3c", "#6a9a3b", "#8a63b8"]


def draw(evidence: Evidence, chart: Chart, path: Path) -> Path:
    """Writes the chart as SVG or PNG, by the ending of ``path``.

    Means and 95% t intervals are taken over seeds on the logarithm, as the tests of a log slope do, so the point is the
    geometric mean. A value that is not positive cannot be drawn.
    """
    seeds, means = [], []
    arms = select(evidence.arms, chart.where)
    groups = sorted({evidence.arms[arm][chart.group] for arm in arms})
    for arm in arms:
        knobs = evidence.arms[arm]
        beside = BESIDE ** groups.index(knobs[chart.group])
        place = {"x": knobs[chart.knob] * beside, "group": f"{knobs[chart.group]:g}"}
        values = [by[chart.metric] for by in evidence.results[arm].values() if by[chart.metric] > 0]
        seeds += [{**place, "y": value} for value in values]
        found = mean_interval([math.log(value) for value in values])
        ends = {"y": found.value, "low": found.low, "high": found.high}
        means.append({**place, **{name: None if end is None else math.exp(end) for name, end in ends.items()}})
    _layers(seeds, means, evidence, chart).save(str(path), **({"scale_factor": 2} if path.suffix == ".png" else {}))
    return path


def _layers(seeds: list[dict[str, Any]], means: list[dict[str, Any]], evidence: Evidence, chart: Chart) -> Any:
    ticks = sorted({values[chart.knob] for values in evidence.arms.values()})
    x = alt.X("x:Q", title=chart.knob_title, scale=alt.Scale(type="log", nice=False, padding=16))
    x = x.axis(values=ticks, format="~g", grid=False)
    y = alt.Y("y:Q", title=chart.metric_title, scale=alt.Scale(type="log", nice=False, padding=10)).axis(
        format="~g", tickCount=5, grid=False
    )
    colour = alt.Color("group:N", title=chart.group_title, scale=alt.Scale(range=COLOURS))
    if len({row["group"] for row in means}) == 1:
        colour = colour.legend(None)
    drawn = alt.Chart(alt.Data(values=[row for row in means if row["y"] is not None])).encode(x=x, y=y, color=colour)
    dots = alt.Chart(alt.Data(values=seeds)).mark_circle(size=22, opacity=0.35).encode(x=x, y=y, color=colour)
    interval = drawn.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q", title=chart.metric_title), y2="high:Q")
    subtitle = f"{len(evidence.seeds)} seeds, geometric mean with 95% t interval; {evidence.conditions.budget} budget"
    title = alt.TitleParams(evidence.question, subtitle=subtitle, anchor="start", fontSize=13, limit=WIDTH + 120)
    layers = alt.layer(
        dots, drawn.mark_line(strokeWidth=1.5), interval, drawn.mark_point(filled=True, size=70, opacity=1)
    )
    return layers.properties(width=WIDTH, height=HEIGHT, title=title).configure_view(stroke=None)
