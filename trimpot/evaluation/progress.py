"""Progress of a part as progress of the whole."""

from __future__ import annotations

from trimpot.core.progress import Progress


def part_of(progress: Progress, before: int, total: int) -> Progress:
    """What a part calls with what it has done: ``before`` of the ``total`` were done when it began."""

    def heard(done: int, _part: int) -> None:
        progress(before + done, total)

    return heard
