"""Reads finished runs for a scaling law from CSV, JSON lines or Parquet, and says which column it took for what."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trimpot.core.errors import UsageError, nearest
from trimpot.data.files import read_records
from trimpot.statistics.scaling_forms import SYMBOLS
from trimpot.statistics.scaling_points import Runs, runs_of

NAMES: Mapping[str, tuple[str, ...]] = {
    "parameters": (
        "parameters", "params", "n", "numparameters", "numparams", "nparameters", "nparams", "modelsize",
        "modelparameters", "parametercount", "nonembeddingparameters", "size",
    ),
    "tokens": (
        "tokens", "d", "numtokens", "ntokens", "traintokens", "trainingtokens", "tokensseen", "datasettokens",
    ),
    "compute": (
        "compute", "c", "flops", "flop", "trainflops", "trainflop", "trainingflops", "trainingflop", "totalflops",
        "totalflos",
    ),
    "loss": (
        "loss", "l", "finalloss", "evalloss", "valloss", "validationloss", "testloss", "heldoutloss",
    ),
    "run": ("run", "runid", "runname"),
}  # fmt: skip
"""Role -> names that are recognised, without case, spaces and punctuation; an earlier one is preferred to none."""
ROWS, RUN, SIZE = "rows", "run", "size"


@dataclass(frozen=True)
class RunTable:
    """Runs of a file. ``columns``: role -> the column taken for it. ``clusters``: what was resampled together."""

    runs: Runs
    columns: Mapping[str, str]
    clusters: str


def read_runs(source: str, columns: Mapping[str, str] | None = None, clusters: str | None = None) -> RunTable:
    """Reads a file with a row for each finished run: loss, and one or more of parameters, tokens and compute.

    Args:
        columns: role (parameters, tokens, compute, loss, run) -> column, where names are not recognised.
        clusters: what is resampled together: ``rows``, each for itself; ``run``, rows of one run; ``size``, rows with
            one number of parameters. By default runs where the file has a column of them, else rows.
    Raises:
        UsageError: an unreadable file, no loss, no variable, several columns for one role, a column or value that is
            missing, not a number, not finite or not above 0; each names file and line.
    """
    records = list(read_records(source, "train"))
    if not records:
        raise UsageError(source, "holds no rows", "Give a row for each finished run.")
    names = list(dict.fromkeys(name for _, record in records for name in record))
    chosen = _columns(source, names, columns or {})
    where = [f"{source}:{line}" for line, _ in records]
    rows = [record for _, record in records]
    numbers = {
        role: [_number(at, column, row) for at, row in zip(where, rows, strict=True)]
        for role, column in chosen.items()
        if role != "run"
    }
    clusters = clusters or (RUN if "run" in chosen else ROWS)
    labels = _labels(source, clusters, chosen, numbers, zip(where, rows, strict=True))
    return RunTable(runs_of(rows=where, clusters=labels, **numbers), chosen, clusters)


def _columns(source: str, names: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """Role -> column, by what was given, else by its name."""
    for role, column in given.items():
        if role not in NAMES:
            raise UsageError(f"--column {role}={column}", f"{role!r} is no role of a column", nearest(role, NAMES))
        if column not in names:
            raise UsageError(source, f"has no column {column!r}", nearest(column, names))
    chosen = {}
    for role, known in NAMES.items():
        found = [name for name in names if _plain(name) in known]
        exact = [name for name in found if name == role]
        if role in given:
            chosen[role] = given[role]
        elif len(found) > 1 and not exact:
            mend = f"Say which: --column {role}={found[0]}."
            raise UsageError(source, f"has {len(found)} columns for {role}: {', '.join(found)}", mend)
        elif found:
            chosen[role] = (exact or found)[0]
    if "loss" not in chosen:
        problem = f"has no column of the loss among {', '.join(names)}"
        raise UsageError(source, problem, "Call it loss, or say which: --column loss=NAME.")
    if not SYMBOLS.keys() & chosen.keys():
        problem = f"has no column of parameters, tokens or compute among {', '.join(names)}"
        raise UsageError(source, problem, "Name them so, or say which: --column parameters=NAME.")
    return chosen


def _labels(
    source: str,
    clusters: str,
    chosen: Mapping[str, str],
    numbers: Mapping[str, Sequence[float]],
    rows: Iterable[tuple[str, Mapping[str, Any]]],
) -> list[Any] | None:
    if clusters not in (ROWS, RUN, SIZE):
        raise UsageError("--cluster", f"{clusters!r} is unknown", nearest(clusters, (ROWS, RUN, SIZE)))
    role = {RUN: "run", SIZE: "parameters"}.get(clusters)
    if role is not None and role not in chosen:
        mend = f"Say which: --column {role}=NAME, or resample rows."
        raise UsageError(source, f"has no column of {role} to resample by", mend)
    if clusters == SIZE:
        return list(numbers["parameters"])
    return [_value(where, chosen["run"], row) for where, row in rows] if clusters == RUN else None


def _value(where: str, column: str, row: Mapping[str, Any]) -> Any:
    value = row.get(column)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise UsageError(where, f"has no {column}", "Fill it in, or leave the row out.")
    return value


def _number(where: str, column: str, row: Mapping[str, Any]) -> float:
    value = _value(where, column, row)
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number):
        raise UsageError(where, f"{column} {value!r} is not a number", "Give a number, such as 1.5e6.")
    return number


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
