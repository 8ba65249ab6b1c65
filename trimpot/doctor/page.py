"""The doctor's report as one HTML file: findings with their curves, what was looked at and what was not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt
import jinja2
import vl_convert
from markupsafe import Markup

from trimpot.doctor.examine import Diagnosis, Examination
from trimpot.doctor.log import Log
from trimpot.doctor.sparkline import stretches
from trimpot.doctor.text import checked_text, evidence_text, verdict
from trimpot.store.atomic import write_text

WIDTH, HEIGHT, POINTS = 680, 170, 400
CURVE, FIRED, TEXT = "#3f80cc", "#cf4a3c", "#7a828c"
TEMPLATES = Path(__file__).parent / "templates"


def write_page(path: Path, examinations: Sequence[Examination]) -> None:
    """Writes the page: no script in it, and nothing loaded from anywhere.

    Raises:
        UsageError: the disk is full.
    """
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = templates.get_template("doctor.html.j2").render(
        examinations=examinations, verdict=verdict, checked_text=checked_text, evidence_text=evidence_text, chart=chart
    )
    write_text(path, page)


def chart(one: Diagnosis, log: Log) -> Markup:
    """The curve of a finding's metric as SVG, shaded where the detector fired; NaN is a gap in it."""
    rows = [{"step": step, "value": value} for step, value in thin(log, one.finding.metric)]
    x = alt.X("step:Q", title="step", axis=alt.Axis(tickMinStep=1, tickCount=6, format="~s", grid=False))
    y = alt.Y("value:Q", title=one.column, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5, format="~g"))
    points: Any = alt.OverlayMarkDef(color=CURVE, size=18, filled=True) if len(rows) <= 60 else False
    line = alt.Chart(alt.Data(values=rows)).mark_line(color=CURVE, strokeWidth=1.5, point=points).encode(x=x, y=y)
    half = (log.every or 1) / 2
    span = alt.Chart(alt.Data(values=[{"from": one.first - half, "to": one.last + half}]))
    shade = span.mark_rect(color=FIRED, opacity=0.16).encode(x=alt.X("from:Q", title="step"), x2="to:Q")
    whole = alt.layer(shade, line).properties(width=WIDTH, height=HEIGHT, background="transparent")
    axis = {"labelColor": TEXT, "titleColor": TEXT, "gridColor": TEXT, "gridOpacity": 0.2, "domainColor": TEXT}
    spec = whole.configure_view(stroke=None).configure_axis(tickColor=TEXT, **axis).to_dict()
    version = "v" + ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    return Markup(vl_convert.vegalite_to_svg(spec, vl_version=version))


def thin(log: Log, metric: str) -> list[tuple[int, float | None]]:
    """At most ``POINTS`` points: of each stretch of rows the least and the greatest value, so that no spike is lost."""
    series = log.series.get(metric, ())
    pairs = (
        [(step, value) for step, value in zip(log.steps, series, strict=True) if value is not None] if series else []
    )
    kept: list[tuple[int, float | None]] = []
    for places in stretches(list(range(len(pairs))), POINTS // 2):
        part = [pairs[place] for place in places]
        finite = [pair for pair in part if math.isfinite(pair[1])]
        if len(finite) < len(part):
            kept.append((part[0][0], None))
        if finite:
            kept += sorted({min(finite, key=lambda pair: pair[1]), max(finite, key=lambda pair: pair[1])})
    return kept
