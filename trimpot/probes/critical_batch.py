"""Reading a sweep over batch sizes from a file, and what its fit says of a batch."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

from trimpot.core.errors import UsageError, nearest
from trimpot.statistics.critical_batch import SweepRun

COLUMNS = ("batch", "steps", "examples", "reached", "learning_rate", "seed")
TRUTHS = {"true": True, "1": True, "yes": True, "": True, "false": False, "0": False, "no": False}
"""Words for whether the goal was reached; an empty field is taken as reached."""


def read_sweep(path: Path) -> list[SweepRun]:
    """The runs of a CSV file with a header: ``batch``, and ``steps`` or ``examples`` (= batch · steps) or both. Where
    they are there, also ``reached`` (true or false), ``learning_rate`` and ``seed``. Other columns are left alone.

    Raises:
        UsageError: no such file, not text, a column that is missing, a field that is no number above 0, or steps and
            examples that contradict each other by more than 1%; names the line.
    """
    if not path.is_file():
        raise UsageError(str(path), "no such file", "Give a CSV file with columns batch and steps.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            _check_header(str(path), list(reader.fieldnames or ()))
            runs = [_run(row, f"{path}:{reader.line_num}") for row in reader]
    except UnicodeDecodeError as error:
        raise UsageError(str(path), "is not UTF-8 text", "Give a CSV file, saved as UTF-8.") from error
    if not runs:
        raise UsageError(str(path), "holds no runs", "Give one line a run.")
    return runs


def _check_header(path: str, names: list[str]) -> None:
    for needed, there in (("batch", "batch" in names), ("steps", "steps" in names or "examples" in names)):
        if not there:
            near = nearest(needed, names) if names else "Begin with a header line."
            raise UsageError(path, f"has no column {needed!r}", near)


def _run(row: Mapping[str, str | None], where: str) -> SweepRun:
    batch = _number(row, "batch", where)
    assert batch is not None
    if batch != int(batch):
        raise UsageError(f"{where}: batch", f"{batch:g} is not a whole number", "Give the rows of a step.")
    steps = _number(row, "steps", where, missing="examples")
    examples = _number(row, "examples", where, missing="steps")
    if steps is not None and examples is not None and not math.isclose(steps * batch, examples, rel_tol=0.01):
        problem = f"{steps:g} steps of {batch:g} are {steps * batch:g} examples, not {examples:g}"
        raise UsageError(where, problem, "Give one of the two columns.")
    if steps is None:
        assert examples is not None
        steps = examples / batch
    word = (row.get("reached") or "").strip().lower()
    if word not in TRUTHS:
        raise UsageError(f"{where}: reached", f"{word!r} is neither true nor false", "Write true or false.")
    rate = _number(row, "learning_rate", where) if row.get("learning_rate") else None
    return SweepRun(int(batch), steps, TRUTHS[word], rate, _seed(row, where))


def _seed(row: Mapping[str, str | None], where: str) -> int:
    text = (row.get("seed") or "0").strip()
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(f"{where}: seed", f"{text!r} is not a whole number", "Give a whole number.") from error


def _number(row: Mapping[str, str | None], name: str, where: str, missing: str | None = None) -> float | None:
    """A number above 0; None where the field is empty and the column ``missing`` is there in its place."""
    text = (row.get(name) or "").strip()
    if not text and missing is not None and (row.get(missing) or "").strip():
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise UsageError(f"{where}: {name}", f"{text!r} is not a number", "Give a number above 0.") from error
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"{where}: {name}", f"{text} is not above 0", "Give a number above 0.")
    return value
