"""Charts of the results, as SVG files that say which results they were drawn from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt

ACCENT, OTHER, TARGET = "#3f80cc", "#9aa5b1", "#cf4a3c"
WIDTH = 460
Data = Sequence[Mapping[str, Any]]


def charts(results: Mapping[str, Any]) -> dict[str, Any]:
    """The charts that these results can fill, by the name of their file."""
    pairs = [row for row in results["rows"] if row["peer"] is not None and row["same_work"]]
    details = {row["job"]: row["details"] for row in results["rows"]}
    drawn: dict[str, Any] = {}
    if pairs:
        drawn["ratios"] = ratio_chart(pairs, results["targets"])
        drawn["memory"] = memory_chart(pairs)
    if "scaling" in details:
        drawn["scaling"] = scaling_chart(details["scaling"])
    if "operators" in details:
        drawn["operators"] = operator_chart(details["operators"]["operators"])
    return drawn


def stamp(results: Mapping[str, Any]) -> str:
    """A hash of the results: what a chart's file ends with, so that one of other results is known."""
    text = json.dumps(results, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def draw(results: Mapping[str, Any], folder: Path) -> None:
    """Writes all charts, and removes those that these results cannot fill."""
    folder.mkdir(parents=True, exist_ok=True)
    found = charts(results)
    for old in folder.glob("*.svg"):
        if old.stem not in found:
            old.unlink()
    for name, chart in found.items():
        path = folder / f"{name}.svg"
        chart.configure_view(stroke=None).save(str(path))
        path.write_text(f"{path.read_text().rstrip()}\n<!-- results {stamp(results)} -->\n")


def name_of(row: Mapping[str, Any]) -> str:
    """A row in a few words."""
    return f"{row['job']}: {row['peer']}"


def ratio_chart(pairs: Data, targets: Data) -> Any:
    """How many times the peer's rate trimpot's is: every repeat a dot, the median a bar, the target a line."""
    order = [name_of(row) for row in pairs]
    medians = [{"row": name_of(row), "ratio": row["ratio"]} for row in pairs]
    repeats = [{"row": name_of(row), "ratio": ratio} for row in pairs for ratio in row["ratios"]]
    limits = [
        {"row": name_of(row), "limit": target["limit"]}
        for row in pairs
        for target in targets
        if target["kind"] == "ratio" and target["job"] == row["job"] and row["peer"] in target["peers"]
    ]
    y = alt.Y("row:N", sort=order, title=None, axis=alt.Axis(labelLimit=330))
    x = alt.X("ratio:Q", title="trimpot's rate in multiples of the peer's", scale=alt.Scale(zero=True))
    bars = _data(medians).mark_bar(color=ACCENT, opacity=0.75).encode(x=x, y=y)
    dots = _data(repeats).mark_point(color="#1c2733", size=18, filled=True).encode(x=x, y=y)
    lines = _data(limits).mark_tick(color=TARGET, thickness=2, size=20).encode(x=alt.X("limit:Q"), y=y)
    title = alt.TitleParams("Against the peer", subtitle="median of the repeats (dots); target in red", anchor="start")
    return (bars + dots + lines).properties(width=WIDTH, height=24 * len(order), title=title)


def memory_chart(pairs: Data) -> Any:
    """Peak memory of both sides of every row."""
    order = [name_of(row) for row in pairs]
    values = [
        {"row": name_of(row), "who": who, "gigabytes": row[key] / 1e9}
        for row in pairs
        for who, key in (("peer", "their_memory_bytes"), ("trimpot", "our_memory_bytes"))
    ]
    colour = alt.Color("who:N", title=None, scale=alt.Scale(domain=["peer", "trimpot"], range=[OTHER, ACCENT]))
    return (
        _data(values)
        .mark_bar()
        .encode(
            x=alt.X("gigabytes:Q", title="peak memory of the process, GB"),
            y=alt.Y("row:N", sort=order, title=None, axis=alt.Axis(labelLimit=330)),
            yOffset=alt.YOffset("who:N", sort=["peer", "trimpot"]),
            color=colour,
        )
        .properties(width=WIDTH, height=34 * len(order), title=alt.TitleParams("Peak memory", anchor="start"))
    )


def scaling_chart(curves: Mapping[str, Data]) -> Any:
    """Rates against length, batch and group, side by side."""
    panels = (
        (curves["length"], "length", "tokens_per_second", "tokens of a row", "training, tokens/s"),
        (curves["batch"], "batch", "tokens_per_second", "rows of a step", "training, tokens/s"),
        (curves["group"], "group", "sampled_tokens_per_second", "completions of a prompt", "sampling, tokens/s"),
        (curves["group"], "group", "trained_completions_per_second", "completions of a prompt",
         "training, completions/s"),
    )  # fmt: skip
    drawn = [_curve(*panel) for panel in panels]
    return (drawn[0] | drawn[1]) & (drawn[2] | drawn[3])


def operator_chart(operators: Data) -> Any:
    """The share of a training step that each operator takes for itself."""
    order = [line["operator"] for line in operators]
    values = [{"operator": line["operator"], "share": line["share"]} for line in operators]
    x = alt.X("share:Q", title="share of the step", axis=alt.Axis(format="%"))
    y = alt.Y("operator:N", sort=order, title=None, axis=alt.Axis(labelLimit=400))
    title = alt.TitleParams("Where a training step spends its time", anchor="start")
    return _data(values).mark_bar(color=ACCENT).encode(x=x, y=y).properties(width=WIDTH, title=title)


def _curve(points: Data, x: str, y: str, x_title: str, y_title: str) -> Any:
    axis = alt.Axis(values=[point[x] for point in points], format="d", grid=False)
    return (
        _data([{x: point[x], y: point[y]} for point in points])
        .mark_line(color=ACCENT, point=alt.OverlayMarkDef(color=ACCENT, size=30, filled=True))
        .encode(
            x=alt.X(f"{x}:Q", title=x_title, scale=alt.Scale(type="log", base=2), axis=axis),
            y=alt.Y(f"{y}:Q", title=y_title, scale=alt.Scale(zero=True)),
        )
        .properties(width=WIDTH // 2, height=160)
    )


def _data(values: Data) -> alt.Chart:
    return alt.Chart(alt.Data(values=[dict(value) for value in values]))
