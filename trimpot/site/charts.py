"""Charts as Vega-Lite specifications, made by altair. Colours of text and lines follow the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt

from trimpot.site.summary import Alarm, Curve, RunSummary

ACCENT, ALARM = "#3f80cc", "#cf4a3c"
MOST_POINTS = 400
Spec = dict[str, Any]


def accuracy_chart(run: RunSummary) -> Spec:
    """Accuracy of each evaluated stage with its interval, in the order of the stages."""
    rows = [
        {
            "stage": run.label(stage.name),
            "accuracy": found.value,
            "low": found.low,
            "high": found.high,
            "items": found.n,
        }
        for stage in run.stages
        if stage.evaluation and (found := stage.evaluation.accuracy).value is not None
    ]
    order = [row["stage"] for row in rows]
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("stage:N", sort=order, title=None),
        tooltip=["stage:N", alt.Tooltip("accuracy:Q", format=".1%"), alt.Tooltip("low:Q", format=".1%"),
                 alt.Tooltip("high:Q", format=".1%"), "items:Q"],
    )  # fmt: skip
    scale, axis = alt.Scale(domain=[0, 1]), alt.Axis(format="%", tickCount=6)
    interval = base.mark_rule(strokeWidth=2, color=ACCENT).encode(
        x=alt.X("low:Q", scale=scale, axis=axis, title="accuracy, with 95% interval"), x2="high:Q"
    )
    value = base.mark_point(filled=True, size=90, color=ACCENT, opacity=1).encode(x=alt.X("accuracy:Q", scale=scale))
    return _spec(interval + value, "Accuracy by stage with 95% Wilson intervals", 40 * len(rows))


def curve_chart(stage: str, curve: Curve, alarms: Sequence[Alarm]) -> Spec:
    """One metric over the steps of its stage; a dashed line at each step where a detector fired on it."""
    rows = [{"step": step, "value": value} for step, value in thin(curve)]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("step:Q", title=None, axis=alt.Axis(tickMinStep=1, tickCount=5, format="~s")),
        y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=4, format="~g")),
        tooltip=["step:Q", alt.Tooltip("value:Q", format=".4g")],
    )
    chart: Any = base.mark_line(color=ACCENT, strokeWidth=1.5, point=_dots(len(rows)))
    fired = [{"step": alarm.step, "alarm": alarm.detector} for alarm in alarms if alarm.metric == curve.name]
    if fired:
        mark = alt.Chart(alt.Data(values=fired)).mark_rule(color=ALARM, strokeDash=[4, 3], strokeWidth=1.5)
        chart = chart + mark.encode(x="step:Q", tooltip=["alarm:N", "step:Q"])
    return _spec(chart, f"{curve.name} over the steps of {stage}", 110)


def _dots(count: int) -> Any:
    """A line through few points shows them; a single one would not be seen otherwise."""
    return alt.OverlayMarkDef(color=ACCENT, size=18, filled=True) if count <= 12 else False


def slice_chart(run: RunSummary) -> Spec:
    """Accuracy by slice and stage as a heat map with the number in each cell."""
    rows, stages = run.slices, [run.label(name) for name in run.evaluated]
    cells = [
        {"slice": f"{row.name}: {row.value}", "stage": stage, "accuracy": found.value, "items": found.n}
        for row in rows
        for stage, found in zip(stages, row.cells, strict=True)
        if found.value is not None
    ]
    order = [f"{row.name}: {row.value}" for row in rows]
    base = alt.Chart(alt.Data(values=cells)).encode(
        x=alt.X("stage:N", sort=stages, title=None, axis=alt.Axis(orient="top", labelAngle=0)),
        y=alt.Y("slice:N", sort=order, title=None, axis=alt.Axis(labelLimit=260)),
        tooltip=["slice:N", "stage:N", alt.Tooltip("accuracy:Q", format=".1%"), "items:Q"],
    )
    colour = alt.Color("accuracy:Q", scale=alt.Scale(domain=[0, 1], range=["#eef3f9", "#1c4f8f"]), legend=None)
    dark = alt.condition("datum.accuracy > 0.66", alt.value("#ffffff"), alt.value("#1c2733"))
    shade = base.mark_rect(cornerRadius=2, opacity=1).encode(color=colour)
    text = base.mark_text().encode(text=alt.Text("accuracy:Q", format=".0%"), color=dark)
    return _spec(shade + text, "Accuracy by slice and stage", 26 * len(rows))


def thin(curve: Curve, most: int = MOST_POINTS) -> list[tuple[int, float | None]]:
    """At most ``most`` points: of each stretch of steps its lowest and highest value, so that no spike is lost.

    A value that is not finite becomes None, a gap in the line.
    """
    points = list(zip(curve.steps, curve.values, strict=True))
    if len(points) > most:
        width = -(-len(points) // (most // 2))
        kept = []
        for start in range(0, len(points), width):
            stretch = points[start : start + width]
            finite = [point for point in stretch if math.isfinite(point[1])] or stretch[:1]
            low, high = min(finite, key=lambda point: point[1]), max(finite, key=lambda point: point[1])
            kept.extend(sorted({low, high}))
        points = kept
    return [(step, value if math.isfinite(value) else None) for step, value in points]


def _spec(chart: Any, description: str, height: int) -> Spec:
    spec: Spec = chart.properties(width="container", height=height, description=description).to_dict()
    # The page says how charts look, and which version draws them is in the bundle: no address is needed.
    del spec["$schema"], spec["config"]
    return spec
