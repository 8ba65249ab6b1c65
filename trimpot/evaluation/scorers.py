"""How an output becomes a score: the verifiers of training, and those that evaluation alone needs. No torch here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from trimpot.core.errors import UsageError, nearest
from trimpot.core.rows import Message, PromptRow
from trimpot.evaluation.suites.scorers import SUITE_SCORERS
from trimpot.evaluation.task import Item, Scored, Scorer, Task
from trimpot.rollout.verifiers import VERIFIERS, Score
from trimpot.rollout.workers import Worker

BY_KIND: dict[str, tuple[str, ...]] = {"choice": ("acc", "acc_norm", "acc_bytes"), "rolling": ("bits_per_byte",)}
"""What scores a task whose answers are not generated."""
IN_WORKER = ("format", "math", "reasoning_gym")
"""Verifiers that an answer may hang or break: they run in a process of their own, under a time limit."""
TIME_LIMIT = 10.0
"""Seconds that a scorer in a worker may take for one answer."""


def _verifier(name: str) -> Scorer:
    def scorer(output: str, item: Item) -> Scored:
        return _scored(VERIFIERS[name](output, row_of(item, name)))

    return scorer


def _scored(found: Score) -> Scored:
    failed = found.status == "error" or not math.isfinite(found.value)
    return Scored(None if failed else found.value, found.status, "" if found.error is None else str(found.error))


def row_of(item: Item, verifier: str) -> PromptRow:
    """The item as a row of training, which verifiers read."""
    prompt = (Message("user", item.prompt),) if isinstance(item.prompt, str) else item.prompt
    return PromptRow(prompt, item.answer, verifier, item.metadata, item.slices)


SCORERS: dict[str, Scorer] = {**{name: _verifier(name) for name in VERIFIERS}, **SUITE_SCORERS}
"""Name -> scorer of generated answers."""


def scorer_of(name: str, task: str) -> Scorer:
    """The scorer of a task.

    Raises:
        UsageError: no such scorer.
    """
    if name not in SCORERS:
        raise UsageError(f"task {task}", f"{name!r} is no scorer", nearest(name, SCORERS))
    return SCORERS[name]


def check_scorer(task: Task) -> None:
    """Refuses a task without a scorer, or with one that its kind has not.

    Raises:
        UsageError: one line that names the task.
    """
    where, known = f"task {task.name}", BY_KIND.get(task.kind, tuple(SCORERS))
    if not task.scorer:
        raise UsageError(where, "has no scorer", f"Name one of {', '.join(sorted(known))}.")
    if task.kind in BY_KIND and task.scorer not in known:
        raise UsageError(where, f"{task.scorer!r} is no scorer of a {task.kind} task", nearest(task.scorer, known))
    if task.kind not in BY_KIND and ".py:" not in task.scorer:
        scorer_of(task.scorer, task.name)


@contextmanager
def scoring(tasks: Sequence[Task], time_limit: float = TIME_LIMIT) -> Iterator[dict[str, Scorer]]:
    """Task name -> scorer, of generate tasks, for as long as they are needed: none raises and none hangs.

    A scorer that raises on an answer, or takes longer than ``time_limit`` seconds in the worker that all of them share,
    is that answer's status ``error``, with the reason as its note; it spoils no other answer.

    Raises:
        UsageError: no such scorer, or its file or package cannot be imported.
    """
    worker = Worker(time_limit)
    try:
        yield {task.name: _guarded(_scorer(task, worker)) for task in tasks}
    finally:
        worker.close()


def _scorer(task: Task, worker: Worker) -> Scorer:
    check_scorer(task)
    name = task.scorer
    if name not in IN_WORKER and ".py:" not in name:
        return scorer_of(name, task.name)
    worker.load(name)
    return lambda output, item: _scored(worker.score(name, output, row_of(item, name)))


def _guarded(scorer: Scorer) -> Scorer:
    def score(output: str, item: Item) -> Scored:
        try:
            return scorer(output, item)
        except Exception as error:
            return Scored(None, "error", f"{type(error).__name__}: {' '.join(str(error).split())}")

    return score
