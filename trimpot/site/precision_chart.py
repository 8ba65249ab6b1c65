"""The pictures of the probes of precision and recomputation, from their JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import altair as alt

WIDTH, HEIGHT = 420, 240
BINS = (-60, 20)
"""Binary orders that are drawn; what lies outside is drawn at the ends."""
UNITS = 1e6


def draw_precision(found: Mapping[str, Any], path: Path) -> Path:
    """Writes three panels: each mode's loss less fp32's over the steps with the band, histograms of gradient magnitudes
    by group with the limits of float16, and the scale of the loss where it is dynamic.
    """
    panels = [_gaps(found), _histogram(found)]
    if any(mode["scaling"] == "dynamic" for mode in found["modes"]):
        panels.append(_scales(found))
    return _save(alt.vconcat(*panels).resolve_scale(color="independent"), path)


def draw_recompute(found: Mapping[str, Any], path: Path) -> Path:
    """Writes bars of the bytes that layers keep and of the peak, one pair for each way to recompute."""
    rows = [
        {"mode": _label(one), "what": what, "bytes": one[key] / UNITS}
        for one in found["modes"]
        for key, what in (("kept", "kept by layers"), ("peak", "peak"))
    ]
    bars = alt.Chart(alt.Data(values=rows)).mark_bar().encode(
        alt.X("bytes:Q", title="MB", axis=alt.Axis(grid=False, format="~s")),
        alt.Y("mode:N", sort=[_label(one) for one in found["modes"]], title=None),
        alt.Color("what:N", title=None),
        yOffset="what:N",
    )  # fmt: skip
    return _save(bars.properties(width=WIDTH, height=160, title=f"{found['layers']} layers"), path)


def _label(one: Mapping[str, Any]) -> str:
    return f"every {one['every']}" if one["mode"] == "every" else str(one["mode"])


def _gaps(found: Mapping[str, Any]) -> Any:
    base = found["modes"][0]["measured"]
    lines = [
        {"step": step, "gap": value - base[step - 1], "mode": mode["name"]}
        for mode in found["modes"]
        for step, value in enumerate(mode["measured"], start=1)
        if value is not None
    ]
    band = [
        {"step": step, "low": low - base[step - 1], "high": high - base[step - 1]}
        for step, (low, high) in enumerate(found["band"], start=1)
    ]
    step = alt.X("step:Q", title="step", axis=alt.Axis(tickMinStep=1, grid=False))
    area = alt.Chart(alt.Data(values=band)).mark_area(opacity=0.15, color="grey")
    area = area.encode(step, alt.Y("low:Q", title="loss less fp32's"), y2="high:Q")
    curves = alt.Chart(alt.Data(values=lines)).mark_line(strokeWidth=1.4)
    curves = curves.encode(step, alt.Y("gap:Q"), alt.Color("mode:N", title="mode"))
    title = "Loss on measured rows; grey: fp32 in other orders, 95%"
    return alt.layer(area, curves).properties(width=WIDTH, height=HEIGHT, title=title)


def _histogram(found: Mapping[str, Any]) -> Any:
    rows = []
    for group in found["gradients"]:
        total = sum(group["bins"].values())
        inside: dict[int, int] = {}
        for order, count in group["bins"].items():
            place = min(max(int(order), BINS[0]), BINS[1])
            inside[place] = inside.get(place, 0) + count
        rows += [{"order": place, "share": count / total, "group": group["group"]} for place, count in inside.items()]
    order = alt.X("order:Q", title="binary order of the gradient, log2", axis=alt.Axis(grid=False))
    share = alt.Y("share:Q", title="share", axis=alt.Axis(format="%", grid=False))
    lines = alt.Chart(alt.Data(values=rows)).mark_line(strokeWidth=1.4, interpolate="step")
    lines = lines.encode(order, share, alt.Color("group:N", title="gradients of"))
    limits = [{"order": -24, "limit": "2^-24, smallest"}, {"order": -14, "limit": "2^-14, smallest normal"}]
    rules = alt.Chart(alt.Data(values=limits)).mark_rule(strokeDash=[4, 3]).encode(alt.X("order:Q"))
    words = alt.Chart(alt.Data(values=limits)).mark_text(align="left", dx=3, baseline="top", fontSize=9)
    words = words.encode(alt.X("order:Q"), y=alt.value(0), text="limit:N")
    return alt.layer(lines, rules, words).properties(
        width=WIDTH, height=HEIGHT, title="Gradients in fp32, and fp16's limits"
    )


def _scales(found: Mapping[str, Any]) -> Any:
    rows = [
        {"step": step, "scale": scale, "mode": mode["name"]}
        for mode in found["modes"]
        if mode["scaling"] == "dynamic"
        for step, scale in enumerate(mode["scale"], start=1)
    ]
    chart = alt.Chart(alt.Data(values=rows)).mark_line(interpolate="step-after", strokeWidth=1.4).encode(
        alt.X("step:Q", title="step", axis=alt.Axis(tickMinStep=1, grid=False)),
        alt.Y("scale:Q", title="loss scale", scale=alt.Scale(type="log", base=2), axis=alt.Axis(grid=False)),
        alt.Color("mode:N", title="mode"),
    )  # fmt: skip
    return chart.properties(width=WIDTH, height=HEIGHT // 2, title="Dynamic scale")


def _save(chart: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = {"scale_factor": 2} if path.suffix == ".png" else {}
    chart.configure_view(stroke=None).save(str(path), **size)
    return path
