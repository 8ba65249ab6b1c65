"""Truth against common misconceptions: pairs of statements of which one is true."""

from __future__ import annotations

from typing import Any

from trimpot.core.seeds import stream
from trimpot.evaluation.suites.closed_sets import closed_set
from trimpot.evaluation.suites.rows import own_rows
from trimpot.evaluation.task import Item, Task

DATA = "truthfulness.jsonl"


def truthfulness_tasks(seed: int, items: int | None) -> list[Task]:
    """``truthfulness/pairs`` (which of two answers is likelier) and ``truthfulness/yes_no`` (is the statement true).

    130 pairs of our own, 82 about a common misconception and 48 about a plain fact (slices ``kind`` and ``topic``); a
    pair is a cluster. In ``yes_no`` both statements of a pair are asked, in a closed set, so that a model that says Yes
    to everything scores exactly 1/2. In ``pairs`` the true statement is the longer one in 58 and the shorter one in 63,
    and as many true as false ones hold a negation (27), so that neither tells which is true.

    Args:
        items: pairs of ``pairs``; ``yes_no`` has as many statements, rounded down to whole pairs (at least one).
    """
    rows = own_rows(DATA)
    stream(seed, "suite", "truthfulness").shuffle(rows)
    chosen = rows if items is None else rows[:items]
    stated = rows if items is None else rows[: max(1, items // 2)]
    pairs = tuple(_pair(row, seed) for row in chosen)
    statements = tuple(item for row in stated for item in _statements(row, seed))
    return [
        Task("truthfulness/pairs", "choice", pairs, "acc"),
        Task("truthfulness/yes_no", "choice", statements, "acc"),
    ]


def _slices(row: dict[str, Any]) -> dict[str, str]:
    return {"kind": str(row["kind"]), "topic": str(row["topic"])}


def _pair(row: dict[str, Any], seed: int) -> Item:
    choices = [f" {row['true']}", f" {row['false']}"]
    draw = stream(seed, "suite", "truthfulness", str(row["question"]))
    prompt = f"Question: {row['question']}\nAnswer:"
    return Item(prompt, tuple(draw.sample(choices, 2)), choices[0], str(row["question"]), _slices(row))


def _statements(row: dict[str, Any], seed: int) -> list[Item]:
    asked = [(f"{row[key]}\nIs this true? Yes or No\nAnswer:", answer) for key, answer in _ANSWERS]
    draw = stream(seed, "suite", "truthfulness", "statements", str(row["question"]))
    return closed_set(asked, str(row["question"]), _slices(row), draw)


_ANSWERS = (("true", " Yes"), ("false", " No"))
