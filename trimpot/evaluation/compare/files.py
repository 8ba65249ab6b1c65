"""Where outcomes lie: a run's stage, an evaluation's folder or the newest of a model, a file."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from trimpot.core.errors import UsageError
from trimpot.evaluation.compare.frames import read_frame
from trimpot.store.outcomes import Outcome, read_outcomes

FILE = "outcomes.parquet"
EVALUATIONS = Path("evaluations")
"""Where `trimpot eval` writes if it is not told."""


def outcomes_path(path: str | Path) -> Path:
    """The file of outcomes that a path stands for: itself, ``outcomes.parquet`` in the folder, or an evaluation.

    An evaluation in ``evaluations`` is found by its folder's name, or by its model: the newest of that name, which may
    be the last part of a path (``sft`` for ``runs/first/sft``).

    Raises:
        UsageError: there is no such path, or the folder has none; a run's folder names its stages that do. Several
            evaluated models have that name.
    """
    given = Path(path)
    if given.is_file():
        return given
    for folder in (given, EVALUATIONS / given):
        if (folder / FILE).is_file():
            return folder / FILE
    newest = _newest_of(str(path))
    if newest is not None:
        return newest
    if not given.exists():
        raise UsageError(
            str(path), "there is no such file, folder or evaluated model",
            "Give RUN/STAGE or a file of outcomes; a model is first evaluated: trimpot eval MODEL.",
        )  # fmt: skip
    below = sorted(file.parent for file in given.glob(f"*/{FILE}"))
    below += sorted(file.parent for file in given.glob(f"stages/*/{FILE}"))
    if below:
        names = ", ".join(str(one) for one in below)
        raise UsageError(str(path), f"it holds {len(below)} evaluated stages", f"Give one of them: {names}.")
    mend = f"Evaluate it first: trimpot eval {path}."
    raise UsageError(str(path), f"the folder has no {FILE}", mend)


def _newest_of(name: str) -> Path | None:
    """The outcomes of the newest evaluation of a model; None where it was never evaluated."""
    by_model: dict[str, list[Path]] = {}
    for record in EVALUATIONS.glob("*/evaluation.json"):
        model = str(json.loads(record.read_text(encoding="utf-8"))["model"]["name"]).rstrip("/")
        if name.rstrip("/") in (model, model.rpartition("/")[2]) and (record.parent / FILE).is_file():
            by_model.setdefault(model, []).append(record)
    if name.rstrip("/") in by_model:
        by_model = {name: by_model[name.rstrip("/")]}
    if len(by_model) > 1:
        names = ", ".join(sorted(by_model))
        raise UsageError(name, f"{len(by_model)} evaluated models end so", f"Give one of {names}.")
    records = [one for some in by_model.values() for one in some]
    return max(records, key=lambda one: one.stat().st_mtime).parent / FILE if records else None


def outcomes_of(path: str | Path) -> list[Outcome]:
    """The outcomes that a path stands for, as ``outcomes_path`` finds them.

    Raises:
        UsageError: as ``outcomes_path``, or the file cannot be read.
    """
    return read_outcomes(outcomes_path(path))


def frames_of(side: str) -> list[pl.DataFrame]:
    """The frames of one side: paths parted by commas, one for each training seed.

    Raises:
        UsageError: as ``outcomes_path``, no path at all, or the same file twice.
    """
    paths = [outcomes_path(part.strip()) for part in side.split(",") if part.strip()]
    if not paths:
        raise UsageError(repr(side), "names no outcomes", "Give RUN/STAGE or a file, several parted by commas.")
    resolved = [path.resolve() for path in paths]
    for path, where in zip(paths, resolved, strict=True):
        if resolved.count(where) > 1:
            raise UsageError(str(path), "is given twice on one side", "Give each training seed once.")
    return [read_frame(path) for path in paths]
