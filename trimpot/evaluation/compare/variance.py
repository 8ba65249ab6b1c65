"""Where the variance of one side's scores comes from: items, clusters, templates, graders, training seeds, samples."""

from __future__ import annotations

import json
from collections.abc import Sequence

import polars as pl

from trimpot.core.seeds import seed_for
from trimpot.evaluation.compare.frames import check_tasks, with_counted
from trimpot.evaluation.compare.result import SideVariance
from trimpot.statistics.components import variance_components
from trimpot.store.outcomes import UNPERTURBED

FROM_SLICES = ("template", "grader")
"""Slices that are sources of variance where items have them."""


def variances(frames: Sequence[pl.DataFrame], side: str) -> tuple[SideVariance, ...]:
    """The split of each metric group's variance, of items as they stand; none where nothing can be told apart.

    Factors: the item, its cluster (where it has others), the slices "template" and "grader", and the training seed (the
    file). What is left, "residual", is the sample: what the same model answers to the same question another time. With
    one answer to each item there is nothing to split, and there is no entry.
    """
    tasks = check_tasks((side, frame) for frame in frames)
    parts = [
        with_counted(frame, tasks).with_columns(pl.lit(number).alias("seed")) for number, frame in enumerate(frames)
    ]
    scored = pl.concat(parts).filter((pl.col("perturbation") == UNPERTURBED) & pl.col("counted").is_not_null())
    found = []
    for (group,), rows in scored.group_by("metric_group", maintain_order=True):
        factors = _factors(rows)
        if rows.height > len(set(factors["item"])):
            components = variance_components(rows["counted"].to_list(), factors, seed_for(0, "variance", str(group)))
            found.append(SideVariance(side, str(group), components))
    return tuple(found)


def _factors(rows: pl.DataFrame) -> dict[str, list[object]]:
    """Name -> the value of every row; only what has more than one value."""
    item = list(zip(rows["task"].to_list(), rows["item"].to_list(), strict=True))
    found: dict[str, list[object]] = {"item": list(item)}
    clusters = rows["cluster"].to_list()
    if 1 < len(set(clusters)) < len(set(item)):
        found["cluster"] = clusters
    texts = {text: json.loads(text) for text in rows["slices"].unique().to_list()}
    for name in FROM_SLICES:
        values = [texts[text].get(name) for text in rows["slices"].to_list()]
        if len(set(values)) > 1 and None not in values:
            found[name] = values
    if rows["seed"].n_unique() > 1:
        found["seed"] = rows["seed"].to_list()
    return found
