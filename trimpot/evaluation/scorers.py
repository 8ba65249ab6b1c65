"""How an output becomes a score: the verifiers of training, and those that evaluation alone needs. No torch here."""

from __future__ import annotations

import math

from trimpot.core.errors import UsageError, nearest
from trimpot.core.rows import Message, PromptRow
from trimpot.evaluation.task import Item, Scored, Scorer
from trimpot.rollout.verifiers import VERIFIERS, Score


def _verifier(name: str) -> Scorer:
    def scorer(output: str, item: Item) -> Scored:
        found: Score = VERIFIERS[name](output, row_of(item, name))
        failed = found.status == "error" or not math.isfinite(found.value)
        return Scored(None if failed else found.value, found.status, "" if found.error is None else str(found.error))

    return scorer


def row_of(item: Item, verifier: str) -> PromptRow:
    """The item as a row of training, which verifiers read."""
    prompt = (Message("user", item.prompt),) if isinstance(item.prompt, str) else item.prompt
    return PromptRow(prompt, item.answer, verifier, item.metadata, item.slices)


SCORERS: dict[str, Scorer] = {name: _verifier(name) for name in VERIFIERS}
"""Name -> scorer of generated answers."""


def scorer_of(name: str, task: str) -> Scorer:
    """The scorer of a task.

    Raises:
        UsageError: no such scorer.
    """
    if name not in SCORERS:
        raise UsageError(f"task {task}", f"{name!r} is no scorer", nearest(name, SCORERS))
    return SCORERS[name]
