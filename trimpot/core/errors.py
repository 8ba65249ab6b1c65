"""The one exception a user sees: what is wrong, where, and the mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(Exception):
    """Unusable input. The command line prints it as one line and exits with status 2.

    Args:
        where: the file (with line), row or field that is wrong, e.g. ``rows.jsonl:3``.
        problem: what is wrong with it.
        mend: what to do next.
    """

    def __init__(self, where: str, problem: str, mend: str) -> None:
        self.where, self.problem, self.mend = where, problem, mend
        super().__init__(f"{where}: {problem}. {mend}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error line for an unknown name: the nearest known one, else all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(names)}."
