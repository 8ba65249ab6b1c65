"""Numbers as words for the page."""

from __future__ import annotations

import math

from trimpot.core.stats import Estimate

NONE = "–"


def percent(value: float | None) -> str:
    """0.3438 -> 34.4%."""
    return NONE if value is None else f"{100 * value:.1f}%"


def percent_interval(estimate: Estimate) -> str:
    """The bounds in percent, without the sign: [25.7, 44.3]. No interval: empty."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"[{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def points(estimate: Estimate) -> str:
    """A difference in percentage points, with its sign."""
    return NONE if estimate.value is None else f"{100 * estimate.value:+.1f}"


def points_interval(estimate: Estimate) -> str:
    """The bounds of a difference in percentage points, with signs. No interval: empty."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"[{100 * estimate.low:+.1f}, {100 * estimate.high:+.1f}]"


def duration(seconds: float | None) -> str:
    """9.3 -> 9.3 s; 141 -> 2 min 21 s; 7300 -> 2 h 1 min."""
    if seconds is None:
        return NONE
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def number(value: float | None) -> str:
    """Four significant digits; whole numbers as they are."""
    if value is None:
        return NONE
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", " ")
    return f"{value:.4g}"


def gibibytes(size: float | None) -> str:
    """Bytes in GiB."""
    return NONE if size is None else f"{size / 2**30:.1f} GiB"


def shortened(text: str, limit: int = 1500) -> str:
    """The text, cut after ``limit`` characters with a note of how many are missing."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]} … ({len(text) - limit} more characters)"
