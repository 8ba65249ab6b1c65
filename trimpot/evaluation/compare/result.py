"""What a comparison found, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trimpot.core.stats import Estimate
from trimpot.evaluation.compare.settings import CompareSettings
from trimpot.statistics.clustered import MeanDifference
from trimpot.statistics.components import Component
from trimpot.statistics.drift import NoiseFloor
from trimpot.statistics.paired import Flips, Verdict


@dataclass(frozen=True)
class Counts:
    """Items of a row, by what became of them: every one is in exactly one of the first five.

    Args:
        paired: scored on both sides, under every seed: what the row compares.
        only_a, only_b: asked of one side alone.
        seeds: asked of both, but not under every seed.
        unscored: asked everywhere, but some file has no score for it (error, unscored, no number).
        failed_a, failed_b: samples (not items) without a score.
    """

    paired: int
    only_a: int
    only_b: int
    seeds: int
    unscored: int
    failed_a: int
    failed_b: int


@dataclass(frozen=True)
class RowKey:
    """Which items a row holds: ``kind`` is all, task, slice or perturbation; name and value as in difficulty=hard."""

    group: str
    kind: str
    name: str = ""
    value: str = ""

    @property
    def label(self) -> str:
        return "all" if self.kind == "all" else f"{self.name}={self.value}"


@dataclass(frozen=True)
class Row:
    """One compared set of items; a positive ``difference`` is an improvement from A to B, whichever way scores run.

    Args:
        mean_a, mean_b: mean scores over the paired items, in the task's own direction.
        difference: the improvement with its error; ``interval`` is at ``1 − alpha`` of the settings.
        p_value: of no difference; ``p_adjusted`` over all rows but "all"; ``p_equivalent`` of a difference that reaches
            the margin (TOST), adjusted alike.
        detectable: the smallest true difference that this row would have found with the power asked for.
        to_decide: clusters (items) in all with which the observed difference would be decided; None: it is decided, or
            no number would.
        flips: items that improved and that got worse; McNemar's p-value where scores are 0 or 1 and items independent.
        parse_failed: share of answers that could not be read, of A and of B, and the change.
        floor: what two evaluations of A alone differ by.
    """

    key: RowKey
    counts: Counts
    mean_a: float | None
    mean_b: float | None
    difference: MeanDifference
    interval: Estimate
    p_value: float | None
    p_adjusted: float | None
    p_equivalent: float | None
    verdict: Verdict
    detectable: float | None
    to_decide: int | None
    flips: Flips
    parse_failed: tuple[float | None, float | None, Estimate]
    floor: NoiseFloor | None = None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        estimate = self.interval
        return {
            **vars(self.key),
            **vars(self.counts),
            "mean_a": self.mean_a,
            "mean_b": self.mean_b,
            "difference": estimate.value,
            "low": estimate.low,
            "high": estimate.high,
            "level": estimate.level,
            "method": estimate.method,
            "standard_error": self.difference.standard_error,
            "degrees_of_freedom": self.difference.degrees,
            "clusters": self.difference.clusters,
            "p_value": self.p_value,
            "p_adjusted": self.p_adjusted,
            "p_equivalent": self.p_equivalent,
            "verdict": self.verdict,
            "smallest_detectable": self.detectable,
            "clusters_to_decide": self.to_decide,
            "items_to_decide": items_to_decide(self),
            "gained": self.flips.gained,
            "lost": self.flips.lost,
            "p_mcnemar": self.flips.p_value,
            "parse_failed_a": self.parse_failed[0],
            "parse_failed_b": self.parse_failed[1],
            "parse_failed_change": estimate_dict(self.parse_failed[2]),
            "noise_floor": None if self.floor is None else floor_dict(self.floor),
            "notes": list(self.notes),
        }


def items_to_decide(row: Row) -> int | None:
    """``to_decide`` in items, with as many items to a cluster as there are now."""
    if row.to_decide is None:
        return None
    return -(-row.to_decide * row.counts.paired // max(row.difference.clusters, 1))


def estimate_dict(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def floor_dict(floor: NoiseFloor) -> dict[str, Any]:
    return {
        "floor": floor.floor,
        "difference": estimate_dict(floor.difference),
        "changed": estimate_dict(floor.changed),
    }


@dataclass(frozen=True)
class Drift:
    """Of one metric group: B's answers over A's in length, and the change in calibration error; None: not measured."""

    group: str
    length_ratio: Estimate | None
    calibration: Estimate | None
    calibration_a: float | None
    calibration_b: float | None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "group": self.group,
            "length_ratio": None if self.length_ratio is None else estimate_dict(self.length_ratio),
            "calibration_error_change": None if self.calibration is None else estimate_dict(self.calibration),
            "calibration_error_a": self.calibration_a,
            "calibration_error_b": self.calibration_b,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Paradox:
    """Simpson's: by the slices of ``name`` one side is ahead in each, over all items asked the other is.

    ``overall`` is B − A over each side's own items, ``within`` the same for every value; positive: B better.
    """

    group: str
    name: str
    overall: float
    within: Mapping[str, float]

    @property
    def sentence(self) -> str:
        ahead, other = ("B", "A") if self.overall < 0 else ("A", "B")
        return (
            f"Simpson's paradox in {self.group}: {ahead} is better for every value of {self.name}, yet {other} is ahead"
            f" over all items ({self.overall:+.3f} for B), because the sides were asked them in other proportions;"
            " the differences of paired items are not touched by it"
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "group": self.group, "slice": self.name, "overall": self.overall, "within": dict(self.within),
            "sentence": self.sentence,
        }  # fmt: skip


@dataclass(frozen=True)
class SideVariance:
    """Where the variance of one side's scores in a metric group comes from, by ``trimpot.statistics.components``."""

    side: str
    group: str
    components: tuple[Component, ...]

    @property
    def sentence(self) -> str:
        told = [f"{one.name} {100 * one.share:.0f}%" for one in self.components if one.share is not None]
        return f"{self.group}, {self.side}: " + (", ".join(told) or "no spread")

    def as_dict(self) -> dict[str, Any]:
        return {"side": self.side, "group": self.group, "components": [dict(vars(one)) for one in self.components]}


@dataclass(frozen=True)
class Comparison:
    """A against B. Differences are improvements: positive is always B better.

    ``seeds`` says how training seeds entered; ``same_weights``: the weights are the same (A/A), and every difference is
    noise.
    """

    a: str
    b: str
    settings: CompareSettings
    rows: tuple[Row, ...]
    drifts: tuple[Drift, ...]
    paradoxes: tuple[Paradox, ...]
    variances: tuple[SideVariance, ...]
    seeds: str
    same_weights: bool
    warnings: tuple[str, ...]

    def row(self, label: str, group: str | None = None) -> Row:
        """The row with a label, as in ``difficulty=hard``. Raises KeyError where there is none."""
        for row in self.rows:
            if row.key.label == label and group in (None, row.key.group):
                return row
        raise KeyError(label)

    def as_dict(self) -> dict[str, Any]:
        return {
            "a": self.a,
            "b": self.b,
            "positive": "B is better",
            "settings": {**vars(self.settings), "slices": list(self.settings.slices), "alpha": self.settings.alpha},
            "seeds": self.seeds,
            "same_weights": self.same_weights,
            "warnings": list(self.warnings),
            "paradoxes": [one.as_dict() for one in self.paradoxes],
            "rows": [one.as_dict() for one in self.rows],
            "drift": [one.as_dict() for one in self.drifts],
            "variance": [one.as_dict() for one in self.variances],
        }
