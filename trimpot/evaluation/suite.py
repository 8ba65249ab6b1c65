"""A suite: tasks under one name, made from a seed. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trimpot.evaluation.task import Task


@dataclass(frozen=True)
class Suite:
    """Tasks that are run together.

    Args:
        name: what ``trimpot eval --suite`` takes.
        about: one sentence for people: what the tasks are and where they come from.
        build: (seed, items per task, or None for as many as the suite has by itself) -> the tasks. The same arguments
            give the same tasks, with the same ids of items; fewer items are among more.
    """

    name: str
    about: str
    build: Callable[[int, int | None], list[Task]]
