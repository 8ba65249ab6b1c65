"""Where every row came from, as a table."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path

import polars

from trimpot.core.rows import Row, kind_of
from trimpot.store.atomic import write_bytes

SCHEMA: dict[str, polars.DataType | type[polars.DataType]] = {
    "row_id": polars.String,
    "kind": polars.String,
    "file": polars.String,
    "line": polars.Int64,
    "parents": polars.List(polars.String),
    "slices": polars.String,
}


def lineage_table(rows: Iterable[Row]) -> polars.DataFrame:
    """One line per row: its id, kind, file, line, the ids of the rows it was made of, and its slices as JSON.

    Edge cases: no rows: an empty table with the same columns.
    """
    return polars.DataFrame([_line(row) for row in rows], schema=SCHEMA, orient="row")


def write_lineage(rows: Iterable[Row], path: Path) -> None:
    """Writes the table as a Parquet file, whole or not at all."""
    buffer = io.BytesIO()
    lineage_table(rows).write_parquet(buffer)
    write_bytes(path, buffer.getvalue())


def _line(row: Row) -> tuple[str, str, str | None, int | None, list[str], str]:
    origin = row.origin
    slices = json.dumps(dict(row.slices), sort_keys=True, ensure_ascii=False)
    return row.id, kind_of(row), origin.file, origin.line, list(origin.parents), slices
