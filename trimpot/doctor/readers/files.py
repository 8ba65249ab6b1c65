"""Files of rows: JSON, JSONL, CSV and Parquet, trainer_state.json among them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.doctor.log import RawLog, Row
from trimpot.doctor.names import our_name
from trimpot.store.jsonl import read_lines

STATE = "trainer_state.json"
RUN_COLUMNS = ("run_name", "run_id")
"""Columns that tell the runs of one table apart (trackio's exports)."""
_CHART = re.compile(r"(?P<run>.+) - (?P<metric>[^ ].*)")
"""A column of a chart that W&B exports as CSV: the run's name, then the metric's."""


def read_state(path: Path) -> RawLog:
    """The ``log_history`` of transformers' and TRL's trainer_state.json.

    Raises:
        UsageError: it is no JSON, or has no log_history.
    """
    return _of_history(path, _json(path))


def read_json(path: Path) -> list[RawLog]:
    """A trainer_state.json under any name, or a list of rows.

    Raises:
        UsageError: it is no JSON, or of another form.
    """
    content = _json(path)
    if isinstance(content, dict) and "log_history" in content:
        return [_of_history(path, content)]
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        return _by_run(path, "JSON", content)
    mend = "Give a trainer_state.json, or a list of objects, one for each step."
    raise UsageError(str(path), "is JSON of no form that is known: it has neither log_history nor rows", mend)


def read_jsonl(path: Path) -> list[RawLog]:
    """One JSON object a line. A torn last line is left out, as in a log that is still written.

    Raises:
        UsageError: another line is no JSON object.
    """
    return _by_run(path, "JSONL", read_lines(path))


def read_csv(path: Path) -> list[RawLog]:
    """A table with a header, its cells parted by commas, semicolons or tabs: a history, or a chart of W&B's.

    Raises:
        UsageError: it is no text in UTF-8, has no header, or a row has more cells than the header.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(str(path), "cannot be read as text in UTF-8", "Export it again as CSV.") from error
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    columns = reader.fieldnames
    if not columns:
        raise UsageError(str(path), "has no header", "Give a table whose first line names its columns.")
    if doubled := sorted({name for name in columns if columns.count(name) > 1}):
        raise UsageError(str(path), f"names the column {doubled[0]!r} twice", "Rename or drop one of the two.")
    rows: list[Row] = []
    for row in reader:
        if None in row:
            problem = f"has more cells than the header has columns ({len(columns)})"
            raise UsageError(f"{path}:{reader.line_num}", problem, "Mend or remove the line.")
        rows.append({name: cell for name, cell in row.items() if cell not in (None, "")})
    charts = _charts(path, columns, rows)
    return charts or _by_run(path, "CSV", rows)


def read_parquet(path: Path) -> list[RawLog]:
    """A Parquet table with a column for each metric, as trackio and W&B export them.

    Raises:
        UsageError: it is no Parquet file.
    """
    import polars

    try:
        rows = polars.read_parquet(path).to_dicts()
    except (OSError, polars.exceptions.PolarsError) as error:
        raise UsageError(str(path), "cannot be read as Parquet", "Export it again.") from error
    return _by_run(path, "Parquet", rows)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(str(path), "cannot be read as JSON", "Copy it again from the run that wrote it.") from error


def _of_history(path: Path, content: Any) -> RawLog:
    rows = content.get("log_history") if isinstance(content, Mapping) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        mend = "Give the trainer_state.json of a checkpoint, or of Trainer.save_state()."
        raise UsageError(str(path), "has no log_history with rows", mend)
    return RawLog(str(path), "trainer_state.json", rows, of_transformers=True)


def _by_run(path: Path, kind: str, rows: Sequence[Row]) -> list[RawLog]:
    """One log for each run that a column names; one for all rows where none does."""
    column = next((name for name in RUN_COLUMNS if any(isinstance(row.get(name), str) for row in rows)), None)
    if column is None:
        return [RawLog(str(path), kind, rows)]
    runs = dict.fromkeys(str(row.get(column)) for row in rows)
    return [RawLog(str(path), kind, [row for row in rows if str(row.get(column)) == run], run) for run in runs]


def _charts(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> list[RawLog]:
    """The runs of a chart that W&B exported: columns "RUN - METRIC" beside Step. Empty where it is no chart.

    Columns with __MIN or __MAX are the spread of points that W&B put together, and are left out.
    """
    found: dict[str, dict[str, str]] = {}
    for column in columns:
        match = _CHART.fullmatch(column)
        if match and our_name(match["metric"]) is not None:
            found.setdefault(match["run"], {})[column] = match["metric"]
    plain = [column for column in columns if not _CHART.fullmatch(column)]
    return [
        RawLog(
            str(path), "W&B chart", [_renamed(row, {**{name: name for name in plain}, **names}) for row in rows], run
        )
        for run, names in found.items()
    ]


def _renamed(row: Row, names: Mapping[str, str]) -> Row:
    return {names[column]: value for column, value in row.items() if column in names}
