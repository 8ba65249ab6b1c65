"""A log as it was read, and as detectors read it: one row a step, steps rising, trimpot's names, numbers only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from trimpot.core.errors import UsageError
from trimpot.doctor.names import STEPS, nearest_metrics, rename, watched_metrics

Row = Mapping[str, object]
MOST_SHOWN = 5
RESUMES = 0.05
"""A log may go back to an earlier step in at most this share of its rows (and once in any): a resumed run does."""


@dataclass(frozen=True)
class RawLog:
    """What a reader found: ``rows`` oldest first, under the logger's own names.

    ``where`` names the file in messages, ``run`` the run in it (a stage, a column's prefix, a run's name; empty where
    there is one). ``kind`` is the format. ``of_transformers``: written by transformers' Trainer or a callback of it.
    """

    where: str
    kind: str
    rows: Sequence[Row]
    run: str = ""
    notes: tuple[str, ...] = ()
    of_transformers: bool = False


@dataclass(frozen=True)
class Log:
    """One run's metrics by trimpot's names. ``steps`` rise strictly; every series has their length.

    ``names``: our name -> the log's, where they differ. ``unlike``: the log's name -> why it is not read as the metric
    that it resembles. ``every``: steps between two rows, the median; None with fewer than two rows.
    """

    where: str
    kind: str
    run: str
    steps: tuple[int, ...]
    series: Mapping[str, tuple[float | None, ...]]
    names: Mapping[str, str] = field(default_factory=dict)
    unlike: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    of_transformers: bool = False

    @property
    def title(self) -> str:
        return f"{self.where} [{self.run}]" if self.run else self.where

    @property
    def every(self) -> float | None:
        gaps = [later - earlier for earlier, later in zip(self.steps, self.steps[1:], strict=False)]
        return float(median(gaps)) if gaps else None

    def rows(self) -> Iterator[dict[str, float | None]]:
        """One mapping a step, as `trimpot.detectors.watch.scan_log` reads them."""
        for place, step in enumerate(self.steps):
            yield {"step": float(step), **{name: values[place] for name, values in self.series.items()}}

    def count(self, metric: str) -> int:
        """The number of finite values of a metric."""
        return sum(value is not None and math.isfinite(value) for value in self.series.get(metric, ()))

    def has(self, metric: str) -> bool:
        """Whether the metric was logged with a number, or, of the loss and the gradient norm, with NaN."""
        bad = metric in ("loss", "grad_norm") and any(value is not None for value in self.series.get(metric, ()))
        return bad or self.count(metric) > 0


def clean(raw: RawLog) -> Log:
    """The log as detectors read it.

    Rows of one step are put together, and a step that comes again later replaces what came after it (the run was
    resumed from a checkpoint), as TensorBoard and `Watcher` do. Rows without a step are left out where others have one;
    a log without any step is counted from 1.

    Raises:
        UsageError: there is no row; a step is no whole number; steps fall too often to be those of one run; no column
            is a metric that a detector reads (the nearest are named), or all of those are without a number.
    """
    where = f"{raw.where} [{raw.run}]" if raw.run else raw.where
    rows = raw.rows
    if not rows:
        raise UsageError(where, "has no row of metrics", "Give the log of a run that has taken a step.")
    columns = list(dict.fromkeys(str(name) for row in rows for name in row))
    renamed = rename(columns)
    if not renamed.names:
        shown = ", ".join(columns[:MOST_SHOWN])
        problem = (
            f"none of its columns is a metric that a detector reads ({shown}{', …' * (len(columns) > MOST_SHOWN)})"
        )
        raise UsageError(where, problem, nearest_metrics(columns))
    notes = list(raw.notes)
    stepped = _stepped(rows, columns, where, notes)
    kept = _merged(stepped, renamed.names, where, notes)
    steps = tuple(step for step, _ in kept)
    series = {name: tuple(values.get(name) for _, values in kept) for name in renamed.names}
    log = Log(where=raw.where, kind=raw.kind, run=raw.run, steps=steps, series=series, unlike=renamed.unlike,
              names={ours: theirs for ours, theirs in renamed.names.items() if ours != theirs},
              of_transformers=raw.of_transformers)  # fmt: skip
    empty = [name for name in series if not log.has(name)]
    if len(empty) == len(series):
        mend = "Log numbers for them; a column of NaN or text alone tells nothing."
        raise UsageError(where, f"has no number for {', '.join(sorted(empty)[:MOST_SHOWN])}", mend)
    for name in empty:
        notes.append(f"{renamed.names[name]} has no number in any row and counts as not logged")
    return Log(**{**vars(log), "notes": tuple(notes)})


def number(value: object) -> float | None:
    """A logged value as a number: texts such as NaN and Infinity too; None for what is none, booleans among it."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _stepped(rows: Sequence[Row], columns: Sequence[str], where: str, notes: list[str]) -> list[tuple[int, Row]]:
    """Each row with its step."""
    column = next(
        (name for name in STEPS if name in columns and any(number(row.get(name)) is not None for row in rows)), None
    )
    if column is None:
        notes.append("no column of steps: rows are counted from 1")
        return list(enumerate(rows, start=1))
    found: list[tuple[int, Row]] = []
    for place, row in enumerate(rows, start=1):
        step = number(row.get(column))
        if step is None or not math.isfinite(step):
            continue
        if step != int(step):
            raise UsageError(where, f"row {place} has the {column} {step:g}, no whole number", "Log optimiser steps.")
        found.append((int(step), row))
    if without := len(rows) - len(found):
        notes.append(f"{without} rows have no {column} and are left out")
    return found


def _merged(
    rows: Sequence[tuple[int, Row]], names: Mapping[str, str], where: str, notes: list[str]
) -> list[tuple[int, dict[str, float]]]:
    """One row a step, rising; a fall in steps drops what came after, as a resumed run writes it again."""
    kept: list[tuple[int, dict[str, float]]] = []
    falls: list[tuple[int, int, int]] = []
    for place, (step, row) in enumerate(rows, start=1):
        values = {ours: value for ours, theirs in names.items() if (value := number(row.get(theirs))) is not None}
        if not values:
            continue
        if kept and step < kept[-1][0]:
            falls.append((place, kept[-1][0], step))
            while kept and kept[-1][0] >= step:
                kept.pop()
        if kept and kept[-1][0] == step:
            kept[-1][1].update(values)
        else:
            kept.append((step, values))
    if len(falls) > max(1, RESUMES * len(rows)):
        place, before, after = falls[0]
        problem = f"steps do not rise: row {place} has step {after} after {before}, and {len(falls) - 1} more fall back"
        raise UsageError(where, problem, "Sort the rows by step, and give one run's rows only.")
    for place, before, after in falls:
        notes.append(f"row {place} goes back from step {before} to {after}: read as a resumed run, which replaces them")
    return kept


def known(log: Log) -> list[str]:
    """The metrics of the log that some detector reads, in the detectors' order."""
    return [name for name in watched_metrics() if log.has(name)]
