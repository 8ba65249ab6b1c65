"""Numbers that add up: a Stat over micro-batches and ranks, an Estimate with its interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Stat:
    """A mean that adds exactly over micro-batches and ranks: total and the count it is divided by.

    Edge cases: ``value`` is None when count = 0, never 0.0.
    """

    total: float
    count: float

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count else None

    def __add__(self, other: Stat) -> Stat:
        return Stat(self.total + other.total, self.count + other.count)


def add_stats(many: Iterable[Mapping[str, Stat]]) -> dict[str, Stat]:
    """Sums dictionaries of Stats name by name."""
    result: dict[str, Stat] = {}
    for stats in many:
        for name, stat in stats.items():
            result[name] = result[name] + stat if name in result else stat
    return result


@dataclass(frozen=True)
class Estimate:
    """A measured value with its interval.

    ``low`` and ``high`` bound it at confidence ``level`` (0.95 = 95%); ``n`` is the number of independent
    units (items, clusters or seeds); ``method`` names how the interval was made. No data: value None.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    method: str
    level: float = 0.95

    def text(self, form: str = ".3f") -> str:
        """For people: ``0.250 [0.023, 0.447]``. ``form`` as Python's format has it: ``+.3f``, ``.1%``.

        Edge cases: no value: "not measured"; no interval: the value alone.
        """
        if self.value is None:
            return "not measured"
        interval = "" if self.low is None or self.high is None else f" [{self.low:{form}}, {self.high:{form}}]"
        return f"{self.value:{form}}{interval}"

    def excludes(self, point: float) -> bool:
        """True when the interval exists and lies wholly on one side of ``point``."""
        if self.low is None or self.high is None:
            return False
        return point < self.low or point > self.high
