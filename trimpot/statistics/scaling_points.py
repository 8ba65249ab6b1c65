"""What a scaling law is fitted to and asked at: finished runs with their sizes, and how far from them it may speak."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimpot.core.errors import UsageError
from trimpot.statistics.arrays import Floats
from trimpot.statistics.scaling_forms import SYMBOLS, Form

FLOPS = 6.0
"""Floating-point operations of training per parameter and token: 2 forward, 4 backward (Kaplan et al. 2020, 2.1)."""
FARTHEST = 10.0
"""How many times beyond the smallest and largest fitted run a law is read without a flag. Ours."""
TOGETHER = 0.999
"""Correlation of ln N and ln D from which their two terms cannot be told apart. Ours."""

Point = Mapping[str, float]
"""Variable (parameters, tokens, compute) -> value."""
Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Runs:
    """Finished runs, one a row; made by ``runs_of``, which checks them.

    Shapes: all [R]; a variable that nothing gives is None. ``clusters``: rows with one number are resampled together.
    ``rows``: what each is called in an error. ``notes``: what was computed of what.
    """

    loss: Floats
    parameters: Floats | None
    tokens: Floats | None
    compute: Floats | None
    clusters: NDArray[np.int64]
    rows: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.loss)

    def known(self) -> dict[str, Floats]:
        """The variables that are there."""
        found = {name: getattr(self, name) for name in SYMBOLS}
        return {name: values for name, values in found.items() if values is not None}

    def take(self, places: NDArray[np.bool_]) -> Runs:
        """The rows where ``places`` is true."""
        columns = {name: None if (one := getattr(self, name)) is None else one[places] for name in SYMBOLS}
        rows = tuple(row for row, chosen in zip(self.rows, places, strict=True) if chosen)
        return Runs(self.loss[places], clusters=self.clusters[places], rows=rows, notes=self.notes, **columns)

    def point(self, row: int) -> dict[str, float]:
        """The variables of one row."""
        return {name: float(values[row]) for name, values in self.known().items()}

    def ranges(self) -> dict[str, tuple[float, float]]:
        """The least and the largest value of each variable."""
        return {name: (float(values.min()), float(values.max())) for name, values in self.known().items()}


def runs_of(
    loss: Sequence[float] | Floats,
    parameters: Sequence[float] | Floats | None = None,
    tokens: Sequence[float] | Floats | None = None,
    compute: Sequence[float] | Floats | None = None,
    clusters: Sequence[Hashable] | None = None,
    rows: Sequence[str] | None = None,
) -> Runs:
    """Runs from columns of numbers. Of parameters, tokens and compute two give the third: C = 6 N D.

    Args:
        clusters: what each row belongs to, of rows that are not independent (points of one training run, or all runs
            of a model size); None: every row for itself.
        rows: names for errors; by default "row 1" and so on.
    Raises:
        UsageError: a value that is not a positive finite number, columns of unequal length, no variable, no row.
    Units: parameters, tokens, floating-point operations; the loss in any unit above 0, usually nats per token.
    Example: N = 1e6 and D = 2e7: C = 6 · 1e6 · 2e7 = 1.2e14.
    """
    given = {"loss": loss, "parameters": parameters, "tokens": tokens, "compute": compute}
    names = [f"row {number}" for number in range(1, len(loss) + 1)] if rows is None else list(rows)
    columns = {name: _positive(name, values, names) for name, values in given.items() if values is not None}
    if not names:
        raise UsageError("runs", "there is none", "Give a row for each finished run.")
    values, note = _completed({name: columns[name] for name in SYMBOLS if name in columns})
    if not values:
        raise UsageError("runs", "give neither parameters, tokens nor compute", "Add at least one of these columns.")
    labels = list(range(len(names))) if clusters is None else list(clusters)
    if len(labels) != len(names):
        raise UsageError("clusters", f"are {len(labels)} for {len(names)} rows", "Give one for each row.")
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    numbered = np.array([numbers[label] for label in labels], dtype=np.int64)
    variables = {name: values.get(name) for name in SYMBOLS}
    return Runs(columns["loss"], clusters=numbered, rows=tuple(names), notes=note, **variables)


def check_runs(runs: Runs, form: Form, spare: int = 1) -> None:
    """Refuses runs that cannot tell the constants of a form. ``spare``: so many more runs than constants are needed.

    Raises:
        UsageError: the form reads a variable that is not there; no more runs than constants; a variable with too few
            values (two for a power, three where a floor has to be told from it); parameters and tokens that rise in
            step.
    """
    where, needed = f"form {form.name}", len(form.constants)
    missing = [name for name in form.variables if getattr(runs, name) is None]
    if missing:
        mend = f"Add a column {missing[0]}, or fit another form."
        raise UsageError(where, f"reads {missing[0]}, which the runs do not give", mend)
    if len(runs) < needed + spare:
        mend = f"Give at least {needed + spare}, or fit a form with fewer."
        raise UsageError(where, f"has {needed} constants, and there are {len(runs)} runs", mend)
    counts = {name: len(np.unique(getattr(runs, name))) for name in form.variables}
    for name, count in counts.items():
        least = 2 if len(counts) > 1 or not form.floor else 3
        if count < least:
            raise UsageError(where, _too_few(name, count, least), _other_form(name, counts, form))
    if form.floor and max(counts.values()) < 3:
        name = max(counts, key=lambda one: counts[one])
        raise UsageError(where, _too_few(name, counts[name], 3), _other_form(name, counts, form))
    if len(counts) == 2:
        first, second = (np.log(getattr(runs, name)) for name in form.variables)
        if abs(np.corrcoef(first, second)[0, 1]) > TOGETHER:
            problem = "reads parameters and tokens, which rise in step in all runs, so nothing tells their terms apart"
            raise UsageError(where, problem, "Add runs of one size on other amounts of data, or fit kaplan-compute.")


def usable(runs: Runs, form: Form, weights_R: Floats) -> bool:
    """Whether the rows with a weight above 0 could be fitted by themselves (see ``check_runs``)."""
    try:
        check_runs(runs.take(weights_R > 0), form, spare=0)
    except UsageError:
        return False
    return True


def completed(point: Point) -> dict[str, float]:
    """A point with the third of parameters, tokens and compute where two are there.

    Raises:
        UsageError: an unknown variable, or a value that is not a positive finite number.
    """
    unknown = [name for name in point if name not in SYMBOLS]
    if unknown:
        raise UsageError(unknown[0], "is no variable of a scaling law", f"Known: {', '.join(SYMBOLS)}.")
    for name, value in point.items():
        if not (np.isfinite(value) and value > 0):
            raise UsageError(name, f"is {value:g}", "Give a number above 0.")
    values, _ = _completed({name: np.array([point[name]], dtype=np.float64) for name in SYMBOLS if name in point})
    return {name: float(value[0]) for name, value in values.items()}


def refuse_beyond(point: Point, ranges: Ranges, beyond: bool, who: str = "the fitted runs") -> None:
    """Raises UsageError when a variable lies more than FARTHEST times outside the range, unless ``beyond``."""
    for name, value in point.items():
        low, high = ranges.get(name, (value, value))
        ratio = value / high if value > high else low / value
        if ratio > FARTHEST * (1 + 1e-9) and not beyond:
            side = f"above the largest of {who}, {high:.4g}" if value > high else f"below the least of {who}, {low:.4g}"
            problem = f"{value:.4g} lies {ratio:.3g} times {side}; beyond {FARTHEST:g} times a law is a guess"
            raise UsageError(f"{name} {SYMBOLS[name]}", problem, "Add --beyond (beyond=True) to read it all the same.")


def _completed(values: Mapping[str, Floats]) -> tuple[dict[str, Floats], tuple[str, ...]]:
    found = dict(values)
    if "compute" not in found and len(found) == 2:
        found["compute"] = FLOPS * found["parameters"] * found["tokens"]
        return found, ("compute is 6 x parameters x tokens",)
    for name, other in (("tokens", "parameters"), ("parameters", "tokens")):
        if name not in found and {"compute", other} <= found.keys():
            found[name] = found["compute"] / (FLOPS * found[other])
            return found, (f"{name} are compute / (6 x {other})",)
    return found, ()


def _positive(name: str, values: Sequence[float] | Floats, rows: Sequence[str]) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (len(rows),):
        raise UsageError(name, f"has {array.size} values for {len(rows)} rows", "Give one for each row.")
    bad = np.flatnonzero(~(np.isfinite(array) & (array > 0)))
    if bad.size:
        mend = "Leave the run out: it diverged or was misread." if name == "loss" else "Give a number above 0."
        raise UsageError(rows[bad[0]], f"{name} is {array[bad[0]]:g}", mend)
    return array


def _too_few(name: str, count: int, least: int) -> str:
    single = "one value" if count == 1 else f"{count} values"
    return f"needs {least} values of {name}, and all runs have {single} of it"


def _other_form(name: str, counts: Mapping[str, int], form: Form) -> str:
    others = [other for other in counts if other != name]
    if others and form.floor:
        return f"Fit chinchilla-{others[0]}, which reads {others[0]} alone, or add runs."
    return f"Fit kaplan-{others[0]}, or add runs." if others else f"Add runs with other {name}."
