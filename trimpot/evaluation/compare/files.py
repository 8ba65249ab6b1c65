"""Where outcomes lie: a run's stage, an evaluation's folder, a file."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from trimpot.core.errors import UsageError
from trimpot.evaluation.compare.frames import read_frame
from trimpot.store.outcomes import Outcome, read_outcomes

FILE = "outcomes.parquet"


def outcomes_path(path: str | Path) -> Path:
    """The file of outcomes that a path stands for: itself, or ``outcomes.parquet`` in the folder.

    Raises:
        UsageError: there is no such path, or the folder has none; a run's folder names its stages that do.
    """
    given = Path(path)
    if given.is_file():
        return given
    if (given / FILE).is_file():
        return given / FILE
    if not given.exists():
        raise UsageError(
            str(path), "there is no such file or folder",
            "Give RUN/STAGE or a file of outcomes; a model is first evaluated: trimpot eval MODEL --output FOLDER.",
        )  # fmt: skip
    below = sorted(file.parent for file in given.glob(f"*/{FILE}"))
    below += sorted(file.parent for file in given.glob(f"stages/*/{FILE}"))
    if below:
        names = ", ".join(str(one) for one in below)
        raise UsageError(str(path), f"it holds {len(below)} evaluated stages", f"Give one of them: {names}.")
    mend = f"Evaluate it first: trimpot eval {path} --output FOLDER."
    raise UsageError(str(path), f"the folder has no {FILE}", mend)


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
