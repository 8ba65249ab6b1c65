"""What a sweep compares: one number per seed, over the items that all its arms have a score of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from trimpot.studies.measures import Arms, Metrics, select

ITEM = "item/"
"""Opens the name under which a run's metrics hold the score of one item."""


def paired_values(metrics: Metrics, names: Sequence[str], metric: str) -> list[float] | None:
    """The metric of every arm: its mean over the items that all of them have a score of, where arms have items.

    So arms are paired by item within a seed. The mean over seeds of such differences, with its t interval, is the
    paired difference over items with the seed as cluster, where seeds have equally many items.

    Edge cases: None when an arm lacks the metric, or the arms have no item in common.
    """
    if any(metric not in metrics.get(name, {}) for name in names):
        return None
    items = [{key for key in metrics[name] if key.startswith(ITEM)} for name in names]
    if not any(items):
        return [metrics[name][metric] for name in names]
    common = set.intersection(*items)
    if not common:
        return None
    return [math.fsum(metrics[name][item] for item in common) / len(common) for name in names]


@dataclass(frozen=True)
class ArmDifference:
    """A metric of one arm minus that of another, over the items that both have."""

    metric: str
    first: str
    second: str
    words: str

    def applies(self, arms: Arms) -> bool:
        return self.first in arms and self.second in arms

    def value(self, arms: Arms, metrics: Metrics) -> float | None:
        pair = paired_values(metrics, (self.first, self.second), self.metric)
        return None if pair is None else pair[0] - pair[1]

    def describe(self) -> dict[str, Any]:
        return {"kind": "difference over common items", **asdict(self)}


@dataclass(frozen=True)
class Change:
    """How much a metric changes from a knob's smallest value to its largest, on the least-squares line through arms.

    change = slope · (max x − min x), slope = Σ (x − x̄)(y − ȳ) / Σ (x − x̄)²; x = ln knob where all its values are above
    0, else the knob; over the arms whose other knobs are as ``where`` says. Of two arms it is their difference.
    Example: y = 1, 2, 3 at knob 1, 10, 100: slope 1 per ln 10, change 2.
    """

    metric: str
    knob: str
    words: str
    where: Mapping[str, float | str] = field(default_factory=dict)

    def applies(self, arms: Arms) -> bool:
        values = [arms[name][self.knob] for name in select(arms, self.where)]
        return len(set(values)) > 1 and not any(isinstance(value, str) for value in values)

    def value(self, arms: Arms, metrics: Metrics) -> float | None:
        names = select(arms, self.where)
        y = paired_values(metrics, names, self.metric)
        if y is None:
            return None
        knobs = [float(arms[name][self.knob]) for name in names]
        x = [math.log(value) for value in knobs] if min(knobs) > 0 else knobs
        centre_x, centre_y = math.fsum(x) / len(x), math.fsum(y) / len(y)
        cross = math.fsum((a - centre_x) * (b - centre_y) for a, b in zip(x, y, strict=True))
        return cross / math.fsum((a - centre_x) ** 2 for a in x) * (max(x) - min(x))

    def describe(self) -> dict[str, Any]:
        return {"kind": "change over the sweep", **asdict(self)}
