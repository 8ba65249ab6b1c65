"""Reading a window: the newest values of a metric, whatever gaps and NaNs lie between them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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


def follows_reward(window: Window) -> bool:
    """True in a policy gradient: there is a reward, and no margin of pairs (online preferences report both)."""
    return reported(window, "reward") and not reported(window, "rewards/margins")


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


def standard_error(values: Sequence[float]) -> float:
    """√(s²/n) of at least two values, s² = Σ(x − x̄)²/(n − 1); exact when they are independent."""
    centre = mean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1) / len(values))


def together(window: Window, *metrics: str) -> list[list[float]]:
    """For each metric its values at the steps that report all of them as numbers, oldest first.

    Edge cases: empty lists unless the newest step is among those steps.
    """
    if not all(is_finite(newest(window, metric)) for metric in metrics):
        return [[] for _ in metrics]
    columns = [window[metric] for metric in metrics]
    rows = [row for row in zip(*columns, strict=True) if all(is_finite(value) for value in row)]
    return [[value for value in column if value is not None] for column in zip(*rows, strict=True)]


@dataclass(frozen=True)
class Change:
    """How a series moved: the means of its early and late values and the standard error of their difference."""

    early: float
    late: float
    error: float

    @property
    def size(self) -> float:
        return self.late - self.early

    @property
    def in_errors(self) -> float:
        """The change in standard errors; a change without any spread counts as very many, and stays finite."""
        return self.size / max(self.error, 1e-12)


def change(early: Sequence[float], late: Sequence[float]) -> Change:
    """From at least two early to at least two late values; steps count as independent."""
    return Change(mean(early), mean(late), math.hypot(standard_error(early), standard_error(late)))


def third_changes(columns: Sequence[Sequence[float]], size: int) -> Iterator[tuple[Change, ...]]:
    """From the first to the last third of the newest 3·size, 6·size, 12·size, … values, of every column alike.

    A fast change shows in the short windows, a slow one in the long.
    """
    while columns and 3 * size <= min(len(column) for column in columns):
        yield tuple(change(column[-3 * size : len(column) - 2 * size], column[-size:]) for column in columns)
        size *= 2


def make_window(**series: Series) -> Window:
    """A window with steps 1, 2, … from series of one length; ``__`` in a name stands for ``/``."""
    length = len(next(iter(series.values())))
    named: dict[str, Series] = {name.replace("__", "/"): values for name, values in series.items()}
    return {"step": [float(step) for step in range(1, length + 1)], **named}


def find(
    detector: Detector,
    window: Window,
    metric: str,
    value: float | None,
    message: str,
    mend: str = "",
    threshold: float | None = None,
) -> Finding:
    """A finding about the newest step of the window.

    ``value`` is what was held against the threshold; ``mend`` and ``threshold`` where they are not the detector's.
    """
    step = newest(window, "step")
    return Finding(
        detector=detector.name,
        step=int(step) if is_finite(step) else len(window.get(metric, ())),
        metric=metric,
        value=value,
        threshold=detector.threshold if threshold is None else threshold,
        message=message,
        mend=mend or detector.mend,
        card=detector.card,
    )
