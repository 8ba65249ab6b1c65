"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with what is done and what there is in all."""


def ignore(done: int, total: int) -> None:
    """Progress that nobody looks at."""
