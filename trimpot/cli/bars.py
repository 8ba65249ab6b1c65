"""Progress bars on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trimpot.core.progress import Progress


@contextmanager
def progress_bars() -> Iterator[Callable[[str], Progress]]:
    """Gives a function of a name that adds a bar with counts and time left; no terminal: a line at every tenth."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(24), MofNCompleteColumn())
    with Bars(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bars:

        def add(name: str) -> Progress:
            bar, told = bars.add_task(name, total=None), [-1]

            def progress(done: int, total: int) -> None:
                bars.update(bar, completed=done, total=total)
                tenth = 10 * done // max(total, 1)
                if not console.is_terminal and tenth > told[0]:
                    told[0] = tenth
                    print(f"{name}: {done} of {total}", file=sys.stderr)

            return progress

        yield add
