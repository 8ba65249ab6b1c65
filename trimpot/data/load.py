"""Rows from a source: a file, a saved data set, a cached hub id, or an embedded generator."""

from __future__ import annotations

from itertools import islice

from trimpot.core.errors import UsageError, nearest
from trimpot.core.rows import KINDS, Origin, Row
from trimpot.data.embedded import embedded_rows
from trimpot.data.files import read_records
from trimpot.data.forms import EITHER, rows_of

EMBEDDED = "embedded:"
EMBEDDED_COUNT = 512


def load_rows(
    source: str, kind: str | None = None, split: str = "train", limit: int | None = None, seed: int = 0
) -> list[Row]:
    """Reads the rows of a source, each with its file and line as origin.

    Args:
        source: a .jsonl, .json, .parquet or .csv path, a folder written by `datasets` save_to_disk, the id of
            a hub data set in the local cache, or ``embedded:NAME``. The forms of a row: see ``data.forms``.
        kind: what the stage needs: chat, preference pair, feedback, steps, prompt or text. A preference pair serves as
            two feedback rows, a chat row that ends with an answer as a prompt row. ``chat or text`` takes either. None:
            whatever the row is.
        split: of a saved, cached or embedded data set (train, pairs or evaluation; see ``data.files.SPLITS`` for those
            that serve where a data set calls its splits otherwise). A single file has none.
        limit: the first so many rows. None: all (an embedded source: 512).
        seed: of an embedded source's generator.

    Raises:
        UsageError: one line with file:line, what is wrong and the mend.
    """
    kinds = [] if kind is None else kind.split(EITHER)
    for one in kinds:
        if one not in KINDS:
            raise UsageError("kind", f"{one!r} is not a kind of row", nearest(one, KINDS))
    if limit is not None and limit < 1:
        raise UsageError("limit", f"{limit} rows", "Give a limit of at least 1.")
    if source.startswith(EMBEDDED):
        name = source.removeprefix(EMBEDDED)
        return embedded_rows(name, split, limit or EMBEDDED_COUNT, seed, (kinds or ["prompt"])[0])
    records = read_records(source, split)
    rows = list(islice((row for line, record in records for row in rows_of(record, Origin(source, line), kind)), limit))
    if not rows:
        raise UsageError(source, "holds no rows", "Give a file with at least one row.")
    return rows
