"""What a detector reads and what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

Series = Sequence[float | None]
Window = Mapping[str, Series]
"""Metric name -> values of the steps so far, oldest first; None where the step did not report it.

``step`` is always there: the step numbers. All series of a window have the same length.
"""


@dataclass(frozen=True)
class Finding:
    """A detector fired: at which step, on which metric, against which threshold, and what to do."""

    detector: str
    step: int
    metric: str
    value: float | None
    threshold: float
    message: str
    mend: str
    card: str

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


class Detector(Protocol):
    """Watches metrics for one known failure. Pure: the same window gives the same finding."""

    @property
    def name(self) -> str: ...

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics it reads; it stays silent in a run that has none of them."""

    @property
    def threshold(self) -> float: ...

    @property
    def source(self) -> str: ...

    @property
    def mend(self) -> str: ...

    @property
    def card(self) -> str: ...

    @property
    def trips_on(self) -> Window: ...

    @property
    def silent_on(self) -> Window: ...

    def scan(self, window: Window) -> Finding | None:
        """Looks at the newest step of the window. None: nothing to say about it."""
