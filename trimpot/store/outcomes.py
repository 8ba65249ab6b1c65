"""Evaluated items: one Outcome per item, kept as Parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import polars as pl

from trimpot.core.errors import UsageError
from trimpot.store.atomic import write_bytes

UNPERTURBED = "none"
STATUSES = ("ok", "parse_failed", "error", "unscored")


@dataclass(frozen=True)
class Outcome:
    """One evaluated item: what was asked, what came out, how it was scored.

    ``weights`` is the hash of the model's weights; ``cluster`` names items that are not independent of each
    other; ``perturbation`` is "none" for the item as it stands, and a perturbed form has the item's own id.
    ``score`` is None where there is none. ``status`` is ok, parse_failed (no answer found in the output), error (the
    scorer failed) or unscored. ``sample`` numbers the draws of one item. ``confidence``: the probability that the model
    gave its answer, in [0, 1]. ``tokens`` were generated, ``seconds`` is the item's share of the time. All are None
    where unknown. ``better`` is "higher" or "lower".
    """

    run: str
    weights: str
    task: str
    item: str
    cluster: str
    slices: Mapping[str, str]
    perturbation: str
    prompt_ids: tuple[int, ...]
    prompt: str
    expected: str
    output: str
    score: float | None
    status: str
    sample: int = 0
    confidence: float | None = None
    tokens: int | None = None
    seconds: float | None = None
    better: str = "higher"
    metric_group: str = "accuracy"

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status {self.status!r} is none of {', '.join(STATUSES)}")


_SCHEMA: dict[str, pl.DataType] = {
    **{item.name: pl.String() for item in fields(Outcome)},
    "prompt_ids": pl.List(pl.Int64()),
    "score": pl.Float64(),
    "confidence": pl.Float64(),
    "seconds": pl.Float64(),
    "sample": pl.Int64(),
    "tokens": pl.Int64(),
}


def write_outcomes(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Writes outcomes as Parquet, atomically; slices become a JSON string column.

    Edge cases: no outcomes gives a file with the columns and no rows.

    Raises:
        UsageError: the disk is full; the previous file is untouched.
    """
    columns: dict[str, list[object]] = {name: [getattr(one, name) for one in outcomes] for name in _SCHEMA}
    columns["slices"] = [json.dumps(dict(one.slices), ensure_ascii=False, sort_keys=True) for one in outcomes]
    columns["prompt_ids"] = [list(one.prompt_ids) for one in outcomes]
    buffer = io.BytesIO()
    pl.DataFrame(columns, schema=_SCHEMA).write_parquet(buffer)
    write_bytes(path, buffer.getvalue())


def read_outcomes(path: Path) -> list[Outcome]:
    """The outcomes of a file, in the order they were written.

    Raises:
        UsageError: the file is not there, is no Parquet file or lacks a column.
    """
    mend = "Give a file that `trimpot eval` or `trimpot run` wrote."
    if not Path(path).is_file():
        raise UsageError(str(path), "there is no such file", mend)
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UsageError(str(path), "not a readable Parquet file", mend) from error
    missing = [name for name in _SCHEMA if name not in frame.columns]
    if missing:
        raise UsageError(str(path), f"no column {', '.join(missing)}", mend)
    rows = frame.select(list(_SCHEMA)).to_dicts()
    for row in rows:
        row["slices"] = json.loads(row["slices"])
        row["prompt_ids"] = tuple(row["prompt_ids"])
    return [Outcome(**row) for row in rows]
