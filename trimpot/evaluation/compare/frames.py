"""Outcomes as frames: what a comparison reads of them, and an item's samples made one score."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from trimpot.core.errors import UsageError
from trimpot.statistics.pass_rates import pass_rate_of_items
from trimpot.store.outcomes import Outcome

KEYS = ("task", "item", "perturbation")
"""What makes two outcomes the same question; samples of it are averaged."""
_READ: dict[str, pl.DataType] = {
    **{name: pl.String() for name in (*KEYS, "cluster", "slices", "prompt", "expected", "status", "better")},
    "metric_group": pl.String(),
    "weights": pl.String(),
    "prompt_ids": pl.List(pl.Int64()),
    "score": pl.Float64(),
    "confidence": pl.Float64(),
    "tokens": pl.Int64(),
}
MEND = "Give a file that `trimpot eval` or `trimpot run` wrote."


def frame_of(outcomes: Sequence[Outcome]) -> pl.DataFrame:
    """The columns that a comparison reads, one row per outcome."""
    named = [name for name in _READ if name != "prompt_ids"]
    columns: dict[str, Any] = {name: [getattr(one, name) for one in outcomes] for name in named}
    texts: dict[tuple[tuple[str, str], ...], str] = {}
    columns["slices"] = [_slices_text(one.slices, texts) for one in outcomes]
    frame = pl.DataFrame(columns, schema={name: _READ[name] for name in named})
    return _hashed(frame.with_columns(_ids([one.prompt_ids for one in outcomes])).lazy())


def _ids(prompts: Sequence[tuple[int, ...]]) -> pl.Series:
    """A column of lists, made of one flat array: a list of Python lists takes ten times as long."""
    import pyarrow

    ends = np.cumsum([0, *(len(one) for one in prompts)], dtype=np.int64)
    flat = np.fromiter(itertools.chain.from_iterable(prompts), dtype=np.int64, count=int(ends[-1]))
    return pl.Series("prompt_ids", pyarrow.LargeListArray.from_arrays(pyarrow.array(ends), pyarrow.array(flat)))


def read_frame(path: Path) -> pl.DataFrame:
    """The same of a Parquet file, without making an object of every row.

    Raises:
        UsageError: the file is not there, is no Parquet file or lacks a column.
    """
    if not path.is_file():
        raise UsageError(str(path), "there is no such file", MEND)
    try:
        lazy = pl.scan_parquet(path)
        present = lazy.collect_schema().names()
        missing = [item.name for item in fields(Outcome) if item.name not in present]
        if missing:
            raise UsageError(str(path), f"no column {', '.join(missing)}", MEND)
        return _hashed(lazy.select(*(pl.col(name).cast(kind) for name, kind in _READ.items())))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UsageError(str(path), "not a readable Parquet file of outcomes", MEND) from error


def _slices_text(slices: Mapping[str, str], texts: dict[tuple[tuple[str, str], ...], str]) -> str:
    key = tuple(slices.items())
    if key not in texts:
        texts[key] = json.dumps(dict(slices), ensure_ascii=False, sort_keys=True)
    return texts[key]


def _hashed(lazy: pl.LazyFrame) -> pl.DataFrame:
    """Prompts as hashes; no ids (unknown) is None, not the hash of nothing."""
    ids = pl.when(pl.col("prompt_ids").list.len() > 0).then(pl.col("prompt_ids").hash(7))
    hashed = lazy.with_columns(ids.alias("ids_hash"), pl.col("prompt").hash(7).alias("prompt_hash"))
    return hashed.drop("prompt", "prompt_ids").collect()


def check_tasks(frames: Iterable[tuple[str, pl.DataFrame]]) -> pl.DataFrame:
    """Per task: metric group, direction and the worst score an answer can get (null where scores have no end).

    Raises:
        UsageError: a task that has several groups or directions, or a direction that is neither higher nor lower.
    """
    joined = pl.concat([frame.select("task", "metric_group", "better", "score", "status") for _, frame in frames])
    finite = pl.col("score").filter((pl.col("status") == "ok") & pl.col("score").is_finite())
    tasks = joined.group_by("task", maintain_order=True).agg(
        pl.col("metric_group").unique(maintain_order=True),
        pl.col("better").unique(maintain_order=True),
        finite.min().alias("least"),
        finite.max().alias("most"),
    )
    for row in tasks.iter_rows(named=True):
        for column in ("metric_group", "better"):
            if len(row[column]) > 1:
                values = " and ".join(map(repr, row[column]))
                raise UsageError(
                    f"task {row['task']}", f"{column} is {values}", "Evaluate both with the same version of the task."
                )
        if row["better"][0] not in ("higher", "lower"):
            raise UsageError(f"task {row['task']}", f"better is {row['better'][0]!r}", "It must be higher or lower.")
    bounded = pl.col("least").fill_null(0.0).ge(0.0) & pl.col("most").fill_null(1.0).le(1.0)
    lower = pl.col("better").list.first() == "lower"
    return tasks.select(
        "task",
        pl.col("metric_group").list.first(),
        pl.col("better").list.first(),
        pl.when(bounded).then(pl.when(lower).then(1.0).otherwise(0.0)).alias("worst"),
    )


def with_counted(frame: pl.DataFrame, tasks: pl.DataFrame) -> pl.DataFrame:
    """The outcomes with ``counted``: the score that counts, or null where there is none."""
    worst = frame.select("task").join(tasks.select("task", "worst"), on="task", how="left", maintain_order="left")
    score = (
        pl.when((pl.col("status") == "ok") & pl.col("score").is_finite())
        .then(pl.col("score"))
        .when(pl.col("status") == "parse_failed")
        .then(pl.col("worst"))
    )
    return frame.with_columns(worst["worst"]).with_columns(score.alias("counted"))


def by_item(frame: pl.DataFrame, tasks: pl.DataFrame, pass_k: tuple[str, int] | None, where: str) -> pl.DataFrame:
    """One row per task, item and perturbation: its samples' score, null where there is none, and what was left out.

    An answer that could not be read gets the worst score of its task. A sample with status error or unscored, or a
    score that is no number, is no answer: it is left out and counted in ``failed``.

    Raises:
        UsageError: pass@k on scores other than 0 and 1, or with fewer than k samples of every item.
    """
    full = with_counted(frame, tasks)
    found = full.group_by(KEYS, maintain_order=True).agg(
        pl.col("counted").mean().alias("score"),
        pl.col("counted").count().cast(pl.Int64).alias("samples"),
        pl.col("counted").eq(1.0).sum().cast(pl.Int64).alias("right"),
        pl.col("counted").is_in([0.0, 1.0]).all().alias("binary"),
        pl.col("counted").null_count().cast(pl.Int64).alias("failed"),
        pl.col("status").eq("parse_failed").mean().alias("parse_failed"),
        pl.col("tokens").mean(),
        pl.col("confidence").mean(),
        *(pl.col(name).first() for name in ("cluster", "slices", "expected")),
        pl.col("ids_hash").min().alias("ids_low"),
        pl.col("ids_hash").max().alias("ids_high"),
        pl.col("prompt_hash").min().alias("prompt_low"),
        pl.col("prompt_hash").max().alias("prompt_high"),
    )
    return found if pass_k is None else _passed(found, *pass_k, where)


def _passed(found: pl.DataFrame, rate: str, k: int, where: str) -> pl.DataFrame:
    if not found["binary"].fill_null(True).all():
        raise UsageError(where, "pass@k needs scores of 0 and 1", "Take score: mean for scores in between.")
    samples, right = found["samples"].to_numpy(), found["right"].to_numpy()
    enough = samples >= k
    if not enough.any():
        raise UsageError(
            where, f"no item has {k} scored samples", f"Take a smaller k, or evaluate with samples: {k} or more."
        )
    values = np.full(samples.size, np.nan)
    values[enough] = pass_rate_of_items(samples[enough], right[enough], k, rate)  # type: ignore[arg-type]
    missing = pl.Series(~enough)
    return found.with_columns(
        pl.Series("score", values).fill_nan(None), pl.when(missing).then(pl.col("failed") + 1).otherwise("failed")
    )
