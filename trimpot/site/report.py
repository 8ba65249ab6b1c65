"""Renders a run's summary as report.html: one file, opens offline, readable without JavaScript."""

from __future__ import annotations

import json
from pathlib import Path

import altair as alt
import vl_convert

from trimpot.core.hashing import bytes_hash
from trimpot.site import charts, text
from trimpot.site.charts import Spec
from trimpot.site.pages import environment
from trimpot.site.summary import RunSummary, StageSummary, summarise
from trimpot.store.atomic import write_text
from trimpot.store.run_folder import RunFolder


def write_report(run: RunFolder) -> Path:
    """Writes report.html into the run folder and returns its path.

    Raises:
        UsageError: a file of the run cannot be read, or the disk is full.
    """
    write_text(run.report_path, render(summarise(run)))
    return run.report_path


def render(summary: RunSummary) -> str:
    """The whole page. Text of models and rows is escaped, and a content policy forbids any script but ours."""
    specs = chart_specs(summary)
    bundle = _bundle() if specs else ""
    # Derived from the content, so that no text within it can name it, and the same run gives the same page.
    nonce = bytes_hash([repr(summary).encode(), json.dumps(specs).encode()])
    templates = environment()
    templates.globals["curve_id"] = curve_id
    template = templates.get_template("report.html.j2")
    return template.render(run=summary, specs=specs, bundle=bundle, nonce=nonce, text=text)


def chart_specs(summary: RunSummary) -> dict[str, Spec]:
    """Vega-Lite specifications by the id of the element they are drawn in."""
    specs: dict[str, Spec] = {}
    if summary.evaluated:
        specs["chart-accuracy"] = charts.accuracy_chart(summary)
    if summary.slices:
        specs["chart-slices"] = charts.slice_chart(summary)
    for stage in summary.stages:
        for number, curve in enumerate(stage.curves):
            specs[curve_id(stage, number)] = charts.curve_chart(stage.name, curve, stage.alarms)
    return specs


def _bundle() -> str:
    """vega, vega-lite and vega-embed as one script, of the version that altair writes for."""
    version = "v" + ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)
    # Within the page's script element these three would end it, or start what ends it elsewhere.
    return script.replace("</script", r"<\/script").replace("<script", r"<\script").replace("<!--", r"<\!--")


def curve_id(stage: StageSummary, number: int) -> str:
    """The id of the element that shows a curve of a stage."""
    return f"chart-{stage.name}-{number}"
