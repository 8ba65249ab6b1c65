"""Reading a window: the newest values of a metric, whatever gaps and NaNs lie between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeGuard

from trimpot.core.findings import Detector, Finding, Series, Window

AXOLOTL = "axolotl docs/training_stability.qmd at 674650dab80b"


def is_finite(value: float | None) -> TypeGuard[float]:
    """True for a number; False for None, NaN and infinities."""
    return value is not None and math.isfinite(value)


def newest(window: Window, metric: str) -> float | None:
    """The value of the newest step as it is (it may be NaN); None where the step or the run lacks it."""
    series = window.get(metric, ())
    return series[-1] if series else None


def reported(window: Window, metric: str) -> bool:
    """True when some step of the window reported a number for the metric."""
    return any(is_finite(value) for value in window.get(metric, ()))


def first(window: Window, metric: str, count: int) -> list[float]:
    """The first ``count`` finite values of a metric, oldest first; fewer where there are fewer."""
    values: list[float] = []
    for value in window.get(metric, ()):
        if len(values) == count:
            break
        if is_finite(value):
            values.append(value)
    return values


def latest(window: Window, metric: str, count: int) -> list[float]:
    """The last ``count`` finite values of a metric, oldest first.

    Edge cases: empty unless the newest step reports a finite value, so that a detector speaks about the
    newest step only; fewer than ``count`` where there are fewer.
    """
    series = window.get(metric, ())
    values: list[float] = []
    if not series or not is_finite(series[-1]):
        return values
    for value in reversed(series):
        if len(values) == count:
            break
        if is_finite(value):
            values.append(value)
    return values[::-1]


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean of at least one value."""
    return math.fsum(values) / len(values)


def latest_mean(window: Window, metric: str, count: int) -> float | None:
    """The mean of the last ``count`` finite values; None before there are so many (see ``latest``)."""
    values = latest(window, metric, count)
    return mean(values) if len(values) == count else None


def make_window(**series: Series) -> Window:
    """A window with steps 1, 2, … from series of one length; ``__`` in a name stands for ``/``."""
    length = len(next(iter(series.values())))
    named: dict[str, Series] = {name.replace("__", "/"): values for name, values in series.items()}
    return {"step": [float(step) for step in range(1, length + 1)], **named}


def find(detector: Detector, window: Window, metric: str, value: float | None, message: str, mend: str = "") -> Finding:
    """A finding about the newest step of the window; ``mend`` where it is more special than the detector's."""
    step = newest(window, "step")
    return Finding(
        detector=detector.name,
        step=int(step) if is_finite(step) else len(window.get(metric, ())),
        metric=metric,
        value=value,
        threshold=detector.threshold,
        message=message,
        mend=mend or detector.mend,
        card=detector.card,
    )
