"""Failures as rows to train on, flagged as what they are. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from trimpot.core.rows import ChatRow, Message, Origin, PreferencePair
from trimpot.data.forms import record_of
from trimpot.evaluation.redteam.failures import Failure
from trimpot.store.atomic import write_text

REFUSAL = "I can't help with that. Is there something else I can do for you?"
"""The answer that is preferred where the user gives none."""
ORIGIN = "redteam"
"""Value of the slice ``origin`` of every row made here."""


def training_rows(
    failures: Sequence[Failure],
    kind: Literal["pair", "chat"] = "pair",
    wanted: str | Mapping[str, str] = REFUSAL,
) -> list[PreferencePair | ChatRow]:
    """A row for each failure: a preference pair (wanted answer over the failing output) or the wanted answer alone.

    All have the slices origin (``redteam``), family and category, so that they can be counted, weighted and left out,
    and name the failure as their parent.

    Args:
        wanted: the text to answer, or a text for every id of a failure; ids without one get ``REFUSAL``.

    Edge cases: the prompt of a failure of several turns has the model's own answers between them. Rows of this kind
        alone teach to refuse: mix in others, and measure the benign twins afterwards.
    """
    return [_row(one, kind, wanted if isinstance(wanted, str) else wanted.get(one.id, REFUSAL)) for one in failures]


def write_rows(path: Path, rows: Sequence[PreferencePair | ChatRow]) -> None:
    """Rows as JSON lines that ``data:`` of a recipe reads.

    Raises:
        UsageError: the disk is full; the previous file is untouched.
    """
    write_text(path, "".join(json.dumps(record_of(row), ensure_ascii=False) + "\n" for row in rows))


def _row(one: Failure, kind: str, answer: str) -> PreferencePair | ChatRow:
    told = {"origin": ORIGIN, "family": one.case.family, "category": one.case.seed.category}
    slices = {name: value for name, value in told.items() if value}
    chosen, origin = (Message("assistant", answer),), Origin(parents=(one.id,))
    if kind == "chat":
        return ChatRow((*one.messages, *chosen), slices=slices, origin=origin)
    return PreferencePair(one.messages, chosen, (Message("assistant", one.output),), slices=slices, origin=origin)
