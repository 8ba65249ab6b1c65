"""A curve in one line of block characters."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TypeVar

from trimpot.detectors.windows import is_finite

T = TypeVar("T")
BLOCKS = "▁▂▃▄▅▆▇█"
GAP, BROKEN = " ", "!"
WIDTH = 60


def sparkline(series: Sequence[float | None], width: int = WIDTH) -> str:
    """The curve from its least to its greatest value in at most ``width`` characters, a NaN or infinity as "!".

    A character stands for a stretch of rows and shows the value of it that is furthest from the curve's median, so that
    no spike is lost; a stretch without any value is blank.

    Example: [0, 1, 7] gives "▁▂█": the levels round(7·(0, 1/7, 1)) = 0, 1, 7.

    Edge cases: a flat curve lies in the middle; no number at all: "!" and blanks.
    """
    finite = [value for value in series if is_finite(value)]
    middle = median(finite) if finite else 0.0
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    drawn = []
    for values in stretches(series, width):
        if any(value is not None and not is_finite(value) for value in values):
            drawn.append(BROKEN)
            continue
        numbers = [value for value in values if is_finite(value)]
        if not numbers:
            drawn.append(GAP)
            continue
        value = max(numbers, key=lambda one: abs(one - middle))
        level = (value - low) / (high - low) if high > low else 0.5
        drawn.append(BLOCKS[round(level * (len(BLOCKS) - 1))])
    return "".join(drawn)


def marks(steps: Sequence[int], first: int, last: int, width: int = WIDTH) -> str:
    """A line under the curve: "^" from the stretch of the first finding to that of the last.

    Example: steps 1 to 4 in four characters, first 2, last 3: " ^^".
    """
    return "".join(
        "^" if any(first <= step <= last for step in part) else " " for part in stretches(steps, width)
    ).rstrip()


def stretches(values: Sequence[T], width: int) -> list[Sequence[T]]:
    """The values in at most ``width`` stretches of nearly equal length."""
    count = min(width, len(values))
    return [values[place * len(values) // count : (place + 1) * len(values) // count] for place in range(count)]
