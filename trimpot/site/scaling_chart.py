"""The picture of a fitted scaling law: measured losses, the law through them, and what it predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt
import numpy as np

from trimpot.core.errors import UsageError
from trimpot.statistics.scaling_forms import SYMBOLS
from trimpot.statistics.scaling_laws import Fit, HeldOut

WIDTH, HEIGHT, POINTS, MOST_LINES = 460, 300, 60, 6
ENDINGS = (".svg", ".png")
FITTED, HELD_OUT = "fitted", "held out"
COLOUR = "#3f80cc"


def draw_scaling(found: Fit | HeldOut, path: Path) -> Path:
    """Writes loss against tokens (parameters or compute, where the law reads that alone), one line a model size.

    With more than six sizes, lines are drawn for six of them, evenly chosen. Held-out runs have the interval in which
    they were predicted.

    Raises:
        UsageError: the ending of ``path`` is neither .svg nor .png.
    """
    check_ending(path)
    fit = found.fit if isinstance(found, HeldOut) else found
    heading = alt.TitleParams(
        fit.form.equation, subtitle=_subtitle(found), anchor="start", fontSize=13, limit=WIDTH + 120
    )
    layers = alt.layer(*_layers(fit, found)).properties(width=WIDTH, height=HEIGHT, title=heading)
    size = {"scale_factor": 2} if path.suffix == ".png" else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    layers.configure_view(stroke=None).save(str(path), **size)
    return path


def check_ending(path: Path) -> None:
    """Raises UsageError unless the file is to be SVG or PNG."""
    if path.suffix not in ENDINGS:
        raise UsageError(str(path), f"cannot draw a {path.suffix or 'file without ending'}", "Give .svg or .png.")


def _layers(fit: Fit, found: Fit | HeldOut) -> list[Any]:
    """Lines of the law, intervals of held-out runs, and all runs as points."""
    variable, joint = fit.form.variables[-1], len(fit.form.variables) == 2
    rows = _rows(fit, found, variable, joint)
    title = f"{SYMBOLS[variable]}, {variable}" if variable != "compute" else "C, floating-point operations"
    x = alt.X("x:Q", title=title, scale=alt.Scale(type="log", nice=False, padding=16))
    x = x.axis(format=".0e" if variable == "compute" else "~s", grid=False, tickCount=6)
    y = alt.Y("y:Q", title="loss", scale=alt.Scale(type="log", nice=False, padding=10, zero=False))
    y = y.axis(format=".3~g", grid=False, tickCount=6)
    colour = alt.Color("size:Q", title="parameters", scale=alt.Scale(type="log", scheme="viridis"))
    colour = colour.legend(format="~s") if joint else alt.value(COLOUR)
    lines = [row for size in _sizes(rows, joint) for row in _line(fit, rows, variable, size)]
    curve = alt.Chart(alt.Data(values=lines)).mark_line(strokeWidth=1.2).encode(x=x, y=y, color=colour, detail="size:N")
    dots = alt.Chart(alt.Data(values=rows)).mark_point(size=36, strokeWidth=1.3, opacity=0.9)
    dots = dots.encode(x=x, y=y, color=colour)
    if not isinstance(found, HeldOut):
        return [curve, dots]
    shape = alt.Shape("kind:N", title=None, scale=alt.Scale(domain=[FITTED, HELD_OUT], range=["circle", "diamond"]))
    out = alt.Chart(alt.Data(values=[row for row in rows if row["low"] is not None]))
    bars = out.mark_rule(strokeWidth=2).encode(x=x, y=alt.Y("low:Q", title="loss"), y2="high:Q", color=colour)
    return [curve, bars, dots.encode(shape=shape)]


def _rows(fit: Fit, found: Fit | HeldOut, x: str, joint: bool) -> list[dict[str, Any]]:
    def row(point: dict[str, float], loss: float, kind: str) -> dict[str, Any]:
        return {"x": point[x], "y": loss, "size": point["parameters"] if joint else 1.0, "kind": kind,
                "low": None, "high": None}  # fmt: skip

    rows = [row(fit.runs.point(place), float(fit.runs.loss[place]), FITTED) for place in range(len(fit.runs))]
    if isinstance(found, HeldOut):
        for place, one in enumerate(found.predicted):
            out = row(found.held_out.point(place), float(found.held_out.loss[place]), HELD_OUT)
            rows.append({**out, "low": one.low, "high": one.high})
    return rows


def _sizes(rows: list[dict[str, Any]], joint: bool) -> list[float]:
    sizes = sorted({row["size"] for row in rows})
    if not joint or len(sizes) <= MOST_LINES:
        return sizes
    return [sizes[place] for place in np.linspace(0, len(sizes) - 1, MOST_LINES).round().astype(int)]


def _line(fit: Fit, rows: list[dict[str, Any]], x: str, size: float) -> list[dict[str, Any]]:
    """The law over the range of all runs, for one size."""
    values = np.geomspace(min(row["x"] for row in rows), max(row["x"] for row in rows), POINTS)
    losses = fit.law({x: values} if len(fit.form.variables) == 1 else {"parameters": np.full(POINTS, size), x: values})
    return [{"x": float(at), "y": float(loss), "size": size} for at, loss in zip(values, losses, strict=True)]


def _subtitle(found: Fit | HeldOut) -> str:
    fit = found.fit if isinstance(found, HeldOut) else found
    text = f"{len(fit.runs)} runs; {len(fit.draws)} resamples"
    if not isinstance(found, HeldOut):
        return text
    inside = sum(found.inside)
    return f"{text}; {inside} of {len(found.inside)} held-out runs in their {fit.level:.0%} intervals"
