"""A plan for a comparison, with its spread read from evaluations that are there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from trimpot.core.errors import UsageError
from trimpot.evaluation.compare.rows import select
from trimpot.evaluation.compare.settings import CompareSettings
from trimpot.evaluation.compare.table import pair
from trimpot.statistics.clustered import icc

CORRELATION = 0.5
"""Of two models' scores on the same items, where only one was evaluated. Ours; measure it with two evaluations."""
PUBLISHED_SD = 1 / 3
"""Of one item's difference: Miller 2024, arXiv 2411.00640v1 section 5 (ω² = 1/9), where 3 points need 969 questions."""


@dataclass(frozen=True)
class Spread:
    """``sd`` of one item's difference, the share ``icc`` of its variance between clusters, and where both are from."""

    sd: float
    icc: float
    items: int
    clusters: int
    source: str


def spread_of(frames: Sequence[pl.DataFrame], group: str | None = None) -> Spread:
    """The spread of differences: measured from two evaluations, or from one with a correlation assumed.

    Two: the standard deviation of the paired differences. One: s·√(2·(1 − ρ)), s the standard deviation of the items'
    scores and ρ = 0.5, so s itself. ``group`` None: accuracy where there are several metric groups.

    Raises:
        UsageError: neither one nor two frames, several metric groups and no accuracy, fewer than two items, or no
            spread.
    """
    if len(frames) not in (1, 2):
        raise UsageError("--outcomes", f"names {len(frames)} files", "Give one, or two parted by a comma.")
    table = pair(frames[:1], frames[-1:], CompareSettings())
    inside = table.unperturbed if group is None else table.unperturbed & (table.groups == group)
    groups = sorted(set(table.groups[inside & table.paired].tolist()))
    if "accuracy" in groups:
        inside &= table.groups == "accuracy"
    elif len(groups) > 1:
        raise UsageError("--outcomes", f"has several metric groups: {', '.join(groups)}", "Give a file with one.")
    chosen = select(table, inside)
    values = chosen.a[0] if len(frames) == 1 else chosen.b[0] - chosen.a[0]
    sd = float(values.std(ddof=1)) if values.size > 1 else 0.0
    if not sd > 0:
        raise UsageError("--outcomes", f"{values.size} items without spread tell nothing", "Give --sd instead.")
    clusters = values.size if chosen.clusters is None else int(np.unique(chosen.clusters).size)
    between = 0.0 if chosen.clusters is None else (icc(values, chosen.clusters.tolist()) or 0.0)
    if len(frames) == 2:
        return Spread(sd, between, values.size, clusters, "measured between the two evaluations")
    said = f"from one evaluation, scores of two models assumed to correlate by {CORRELATION:g}"
    return Spread(sd * math.sqrt(2 * (1 - CORRELATION)), between, values.size, clusters, said)
