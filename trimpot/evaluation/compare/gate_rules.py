"""The rules of a gate: what each asks of a comparison. Every answer is pass, fail or "cannot tell"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from trimpot.core.errors import UsageError, nearest
from trimpot.core.stats import Estimate
from trimpot.evaluation.compare.compare import drift
from trimpot.evaluation.compare.rows import Selected, select
from trimpot.evaluation.compare.table import Flags, PairTable
from trimpot.statistics.clustered import MeanDifference, clustered_difference, flip_size
from trimpot.statistics.equivalence import equivalence, non_inferiority

Answer = Literal["pass", "fail", "cannot tell"]


@dataclass(frozen=True)
class Found:
    """A rule's answer and why, in one line."""

    answer: Answer
    reason: str


@dataclass(frozen=True)
class Where:
    """Which items a rule is about: all parts must hold. No part: all items as they stand."""

    group: str | None = None
    task: str | None = None
    slices: tuple[tuple[str, str], ...] = ()
    perturbation: str | None = None

    @property
    def label(self) -> str:
        parts = [self.group, self.task, *(f"{name}={value}" for name, value in self.slices), self.perturbation]
        return ", ".join(part for part in parts if part) or "all items"


def flags(table: PairTable, where: Where, place: str) -> Flags:
    """The items of a ``where``.

    Raises:
        UsageError: a name that no item has (the nearest is named), no item at all, or items of several metric groups.
    """
    inside = table.unperturbed if where.perturbation is None else _equal(
        table.perturbations, where.perturbation, f"{place}.perturbation"
    )  # fmt: skip
    if where.group is not None:
        plain = np.asarray([str(one).removesuffix(" (lower is better)") for one in table.groups], dtype=object)
        inside = inside & _equal(plain, where.group, f"{place}.group")
    if where.task is not None:
        inside = inside & _equal(table.tasks, where.task, f"{place}.task")
    for name, value in where.slices:
        if name not in table.slices:
            raise UsageError(f"{place}.slice", f"no item has a slice {name!r}", _nearest(name, table.slices))
        inside = inside & _equal(table.slices[name], value, f"{place}.slice.{name}")
    if not inside.any():
        raise UsageError(place, f"no item is in all of: {where.label}", "Leave a part out.")
    groups = sorted(set(table.groups[inside].tolist()))
    if len(groups) > 1:
        raise UsageError(place, f"its items are of several metric groups ({', '.join(groups)})", "Name one: group.")
    return inside


def _equal(values: np.ndarray, wanted: str, place: str) -> Flags:
    found = np.asarray(values == wanted, dtype=bool)
    if not found.any():
        known = {str(value) for value in values.tolist() if value is not None}
        raise UsageError(place, f"no item has {wanted!r}", _nearest(wanted, known))
    return found


def _nearest(name: str, known: Sequence[str] | set[str] | Mapping[str, Any]) -> str:
    return nearest(name, known) if known else "There are none."


def not_inferior(table: PairTable, inside: Flags, label: str, margin: float, level: float) -> Found:
    """Passes when the lower one-sided bound of the improvement is above −margin, fails when the upper is below it."""
    chosen = select(table, inside)
    tested = non_inferiority(chosen.difference, margin, level)
    said = _said(label, chosen, chosen.difference, tested.low, tested.high, level)
    if tested.low is None or tested.high is None:
        return Found("cannot tell", f"{said}; too few clusters for an error")
    if tested.low > -margin:
        return Found("pass", f"{said}; not worse by {margin:g}")
    if tested.high < -margin:
        return Found("fail", f"{said}; worse by more than {margin:g}")
    return Found("cannot tell", f"{said}; it may be worse by {margin:g} or more")


def superior(table: PairTable, inside: Flags, label: str, margin: float, level: float) -> Found:
    """Passes when the lower one-sided bound of the improvement is above ``margin``, fails when the upper is not."""
    chosen = select(table, inside)
    tested = non_inferiority(chosen.difference, 0.0, level)
    said = _said(label, chosen, chosen.difference, tested.low, tested.high, level)
    if tested.low is None or tested.high is None:
        return Found("cannot tell", f"{said}; too few clusters for an error")
    if tested.low > margin:
        return Found("pass", f"{said}; better by more than {margin:g}")
    if tested.high <= margin:
        return Found("fail", f"{said}; not better by more than {margin:g}")
    return Found("cannot tell", f"{said}; better by more than {margin:g} is not shown")


def equivalent(table: PairTable, inside: Flags, label: str, margin: float, level: float) -> Found:
    """Passes when the difference lies surely within ±margin (TOST), fails when surely outside."""
    chosen = select(table, inside)
    tested = equivalence(chosen.difference, margin, level)
    said = _said(label, chosen, chosen.difference, tested.low, tested.high, level)
    if tested.low is None or tested.high is None:
        return Found("cannot tell", f"{said}; too few clusters for an error")
    if -margin < tested.low and tested.high < margin:
        return Found("pass", f"{said}; within {margin:g}")
    if tested.high < -margin or tested.low > margin:
        return Found("fail", f"{said}; beyond {margin:g}")
    return Found("cannot tell", f"{said}; it may reach {margin:g}")


def protected(table: PairTable, inside: Flags, names: Sequence[str], margin: float, level: float, place: str) -> Found:
    """Every value of the slices must be not inferior. All must pass, so no correction is needed for a false pass.

    An item set that must pass as a whole fails with the first that fails; "cannot tell" names every slice that cannot.
    """
    answers: dict[str, Found] = {}
    known = ("task", *table.slices)
    for name in names:
        slice_name, _, only = name.partition("=")
        values = table.tasks if slice_name == "task" else table.slices.get(slice_name)
        if values is None:
            raise UsageError(place, f"no item has a slice {slice_name!r}", _nearest(slice_name, known))
        present = sorted({value for value in values[inside].tolist() if value is not None})
        if only and only not in present:
            raise UsageError(place, f"no item has {name!r}", _nearest(only, present))
        for value in [only] if only else present:
            label = f"{slice_name}={value}"
            answers[label] = not_inferior(table, inside & (values == value), label, margin, level)
    for answer in ("fail", "cannot tell"):
        bad = [one.reason for one in answers.values() if one.answer == answer]
        if bad:
            return Found(answer, "; ".join(bad))
    if not answers:
        return Found("cannot tell", "no slice has a value")
    return Found("pass", f"{len(answers)} slices are not worse by {margin:g}")


def safe_both_ways(
    table: PairTable, attack: tuple[Flags, str], refusal: tuple[Flags, str], margin: float, level: float
) -> Found:
    """Neither more attacks succeed nor more harmless requests are refused: one bought with the other fails."""
    both = [not_inferior(table, *one, margin, level) for one in (attack, refusal)]
    reason = "; ".join(one.reason for one in both)
    for answer in ("fail", "cannot tell"):
        if any(one.answer == answer for one in both):
            return Found(answer, reason)
    return Found("pass", reason)


def calibrated(table: PairTable, inside: Flags, label: str, most: float, level: float) -> Found:
    """The calibration error (ten bins of equal mass) may rise by ``most`` at the most."""
    measured = drift(table, inside & table.paired, label, 2 * level - 1)
    if measured.calibration is None:
        return Found("cannot tell", f"{label}: confidences in [0, 1] are not in both evaluations")
    return _at_most(f"{label}: calibration error {measured.calibration_a:.3f} to {measured.calibration_b:.3f}, change",
                    measured.calibration, most)  # fmt: skip


def lengths(table: PairTable, inside: Flags, label: str, bounds: tuple[float, float], level: float) -> Found:
    """The mean length in tokens may change by a factor within ``bounds``."""
    ratio = drift(table, inside & table.paired, label, 2 * level - 1).length_ratio
    if ratio is None or ratio.value is None:
        return Found("cannot tell", f"{label}: lengths in tokens are not in both evaluations")
    least, most = bounds
    said = f"{label}: answers are {ratio.value:.2f} times as long"
    if ratio.low is None or ratio.high is None:
        return Found("cannot tell", f"{said}; too few clusters for an error")
    said += f" [{ratio.low:.2f}, {ratio.high:.2f}]"
    if least < ratio.low and ratio.high < most:
        return Found("pass", f"{said}; within {least:g} to {most:g}")
    if ratio.high < least or ratio.low > most:
        return Found("fail", f"{said}; outside {least:g} to {most:g}")
    return Found("cannot tell", f"{said}; it may be outside {least:g} to {most:g}")


def readable(table: PairTable, inside: Flags, label: str, most: float, level: float) -> Found:
    """The share of answers that cannot be read may rise by ``most`` at the most."""
    chosen = select(table, inside)
    a, b = table.a.parse_failed[chosen.places], table.b.parse_failed[chosen.places]
    change = clustered_difference(b - a, chosen.clusters, flip_size(a, b)).interval(2 * level - 1)
    return _at_most(f"{label}: share of unreadable answers, change", change, most)


def _at_most(said: str, change: Estimate, most: float) -> Found:
    if change.value is None or change.low is None or change.high is None:
        return Found("cannot tell", f"{said}: too few clusters for an error")
    said = f"{said} {change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"
    if change.high < most:
        return Found("pass", f"{said}; below {most:g}")
    if change.low > most:
        return Found("fail", f"{said}; above {most:g}")
    return Found("cannot tell", f"{said}; it may be above {most:g}")


def _said(
    label: str, chosen: Selected, difference: MeanDifference, low: float | None, high: float | None, level: float
) -> str:
    if difference.value is None:
        return f"{label}: no item is scored on both sides"
    said = f"{label}: improvement {difference.value:+.4f}"
    if low is not None and high is not None:
        said += f" [{low:+.4f}, {high:+.4f}] at {100 * (2 * level - 1):g}%"
    return f"{said}, {chosen.places.size} items"
