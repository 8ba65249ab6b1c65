"""Both models' scores side by side: one column per item, nothing dropped without being counted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trimpot.core.errors import UsageError
from trimpot.evaluation.compare.frames import KEYS, by_item, check_tasks
from trimpot.evaluation.compare.settings import CompareSettings
from trimpot.statistics.arrays import Floats
from trimpot.store.outcomes import UNPERTURBED

Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Side:
    """One model's evaluations, a file per training seed.

    Shapes: scores [seeds, n], NaN where there is none; ``asked`` [seeds, n]: the file has the item; ``failed`` [n]:
    samples left out, over all files; ``parse_failed``, ``tokens``, ``confidence`` [n]: means over seeds, NaN where
    unknown.
    """

    name: str
    scores: Floats
    asked: Flags
    failed: Numbers
    parse_failed: Floats
    tokens: Floats
    confidence: Floats
    weights: tuple[tuple[str, ...], ...]

    @property
    def seeds(self) -> int:
        return self.scores.shape[0]

    @property
    def scored(self) -> Flags:
        """Items that every seed has a score for. Shapes: [n]."""
        return np.asarray(np.isfinite(self.scores).all(axis=0))

    @property
    def mean(self) -> Floats:
        """The mean over seeds; NaN where a seed has none. Shapes: [n]."""
        return self.scores.mean(axis=0)


@dataclass(frozen=True)
class PairTable:
    """Items of both sides in one order.

    ``sign`` [n] is +1 where a higher score is better and −1 where a lower one is: sign·(b − a) > 0 is an improvement.
    ``slices``: name -> values [n], None where the item has no such slice. ``warnings``: what makes items of the two
    sides not the same question.
    """

    a: Side
    b: Side
    tasks: NDArray[np.object_]
    items: NDArray[np.object_]
    perturbations: NDArray[np.object_]
    groups: NDArray[np.object_]
    sign: Floats
    clusters: Numbers
    slices: dict[str, NDArray[np.object_]]
    warnings: tuple[str, ...]

    @property
    def paired(self) -> Flags:
        """Items scored by every file of both sides. Shapes: [n]."""
        return self.a.scored & self.b.scored

    @property
    def unperturbed(self) -> Flags:
        return self.perturbations == UNPERTURBED


def pair(
    a: Sequence[pl.DataFrame], b: Sequence[pl.DataFrame], settings: CompareSettings, names: tuple[str, str] = ("A", "B")
) -> PairTable:
    """Frames of both sides (see ``frames``), one per training seed, as one table.

    Raises:
        UsageError: a side without outcomes, no item in common, or a task that differs in direction or metric group.
    """
    files = [*((names[0], frame) for frame in a), *((names[1], frame) for frame in b)]
    for name, frame in files:
        if frame.is_empty():
            raise UsageError(name, "there are no outcomes", "Evaluate at least one item.")
    tasks = check_tasks(files)
    reduced = [by_item(frame, tasks, settings.pass_k, name) for name, frame in files]
    everything = pl.concat([one.with_columns(pl.lit(number).alias("file")) for number, one in enumerate(reduced)])
    index = everything.group_by(KEYS, maintain_order=True).agg(
        *(pl.col(name).first() for name in ("cluster", "slices")),
        *(pl.col(name).drop_nulls().n_unique().alias(f"{name} kinds") for name in _COMPARED),
    )
    index = index.join(tasks, on="task", how="left", maintain_order="left").with_row_index("place")
    placed = everything.join(index.select(*KEYS, "place"), on=list(KEYS), how="left", maintain_order="left")
    parts = placed.partition_by("file", maintain_order=True)
    left, right = parts[: len(a)], parts[len(a) :]
    weights = [tuple(frame["weights"].unique(maintain_order=True).to_list()) for _, frame in files]
    table = PairTable(
        a=_side(names[0], left, index.height, tuple(weights[: len(a)])),
        b=_side(names[1], right, index.height, tuple(weights[len(a) :])),
        tasks=_objects(index["task"]),
        items=_objects(index["item"]),
        perturbations=_objects(index["perturbation"]),
        groups=_objects(index["metric_group"]) + np.where(index["better"] == "lower", " (lower is better)", ""),
        sign=np.where(index["better"] == "lower", -1.0, 1.0),
        clusters=index["cluster"].rank("dense").cast(pl.Int64).to_numpy() - 1,
        slices=_slices(index["slices"]),
        warnings=_warnings(index),
    )
    if not (table.a.asked.any(axis=0) & table.b.asked.any(axis=0)).any():
        raise UsageError(
            f"{names[0]} and {names[1]}",
            "they have no item in common",
            "Evaluate both on the same suite.",
        )
    return table


def _side(name: str, parts: Sequence[pl.DataFrame], n: int, weights: tuple[tuple[str, ...], ...]) -> Side:
    scores, asked = np.full((len(parts), n), np.nan), np.zeros((len(parts), n), dtype=bool)
    failed = np.zeros(n, dtype=np.int64)
    details = {column: np.full((len(parts), n), np.nan) for column in ("parse_failed", "tokens", "confidence")}
    for row, part in enumerate(parts):
        places = part["place"].to_numpy()
        asked[row, places] = True
        scores[row, places] = part["score"].fill_null(np.nan).to_numpy()
        failed[places] += part["failed"].to_numpy()
        for column, values in details.items():
            values[row, places] = part[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
    means = {column: values.mean(axis=0) for column, values in details.items()}
    return Side(name, scores, asked, failed, weights=weights, **means)


def _objects(column: pl.Series) -> NDArray[np.object_]:
    return np.asarray(column.to_list(), dtype=object)


def _slices(column: pl.Series) -> dict[str, NDArray[np.object_]]:
    """Name -> the value of every item. JSON is read once for each text that occurs."""
    texts = column.unique(maintain_order=True).to_list()
    read = [json.loads(text) for text in texts]
    codes = column.replace_strict(texts, list(range(len(texts))), return_dtype=pl.Int64).to_numpy()
    names = dict.fromkeys(name for one in read for name in one)
    return {
        name: np.asarray([None if name not in one else str(one[name]) for one in read], dtype=object)[codes]
        for name in names
    }


_COMPARED = (
    "cluster", "slices", "expected", "ids_low", "ids_high", "prompt_low", "prompt_high",
)  # fmt: skip


def _warnings(index: pl.DataFrame) -> tuple[str, ...]:
    def differing(*columns: str) -> pl.DataFrame:
        return index.filter(pl.any_horizontal(pl.col(f"{column} kinds") > 1 for column in columns))

    texts = differing("prompt_low", "prompt_high")
    ids = differing("ids_low", "ids_high").join(texts.select(*KEYS), on=list(KEYS), how="anti")
    found = [
        (texts, "prompts differ in text: few-shot examples or chat template are not the same"),
        (ids, "prompts have the same text and other token ids: tokenizer or beginning token is not the same"),
        (differing("expected"), "expected answers differ: these are not the same questions"),
        (differing("cluster"), "clusters differ; those of the first file are used"),
        (differing("slices"), "slices differ; those of the first file are used"),
    ]
    return tuple(
        f"{frame.height} of {index.height} items: {text} (e.g. {frame['task'][0]}, item {frame['item'][0]})"
        for frame, text in found
        if frame.height
    )
