"""Quantities a study tests: one number per seed over the arms of that seed, so that seeds pair the arms."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

Arms = Mapping[str, Mapping[str, float | str]]
"""Arm -> knob -> value: a number, or a word where the knob is a choice."""
Metrics = Mapping[str, Mapping[str, float]]
"""Arm -> metric -> value, of one seed."""


def select(arms: Arms, where: Mapping[str, float | str]) -> list[str]:
    """Names of the arms whose knobs have the values of ``where``."""
    return [name for name, values in arms.items() if all(values.get(knob) == v for knob, v in where.items())]


def has(metrics: Metrics, names: Iterable[str], metric: str) -> bool:
    """True when every arm has a value of the metric."""
    return all(metric in metrics.get(name, {}) for name in names)


class Measure(Protocol):
    """One number per seed. ``words`` says what it is, with its unit."""

    @property
    def words(self) -> str: ...

    def applies(self, arms: Arms) -> bool:
        """True when the arms are those it needs."""

    def value(self, arms: Arms, metrics: Metrics) -> float | None:
        """The number. None: an arm has no such metric, or the number is not defined."""

    def describe(self) -> dict[str, Any]:
        """All of it, JSON-able, for the plan."""


@dataclass(frozen=True)
class Slope:
    """The least-squares slope of a metric (its logarithm if ``log``) on the natural logarithm of a knob.

    slope = Σ (x − x̄)(y − ȳ) / Σ (x − x̄)², x = ln knob, over the arms whose other knobs are as ``where`` says.
    Example: y = 3, 2, 1 at knob 1, e, e²: slope −1.

    Edge cases: a metric that is not positive has no logarithm: None.
    """

    metric: str
    knob: str
    words: str
    log: bool = False
    where: Mapping[str, float | str] = field(default_factory=dict)

    def applies(self, arms: Arms) -> bool:
        return len({arms[name][self.knob] for name in select(arms, self.where)}) > 1

    def value(self, arms: Arms, metrics: Metrics) -> float | None:
        names = select(arms, self.where)
        if not has(metrics, names, self.metric):
            return None
        y = [metrics[name][self.metric] for name in names]
        if self.log:
            if min(y) <= 0:
                return None
            y = [math.log(value) for value in y]
        x = [math.log(float(arms[name][self.knob])) for name in names]
        centre_x, centre_y = math.fsum(x) / len(x), math.fsum(y) / len(y)
        cross = math.fsum((a - centre_x) * (b - centre_y) for a, b in zip(x, y, strict=True))
        return cross / math.fsum((a - centre_x) ** 2 for a in x)

    def describe(self) -> dict[str, Any]:
        return {"kind": "slope", **asdict(self)}


@dataclass(frozen=True)
class Level:
    """The mean of a metric over the arms whose knobs are as ``where`` says."""

    metric: str
    words: str
    where: Mapping[str, float | str] = field(default_factory=dict)

    def applies(self, arms: Arms) -> bool:
        return bool(select(arms, self.where))

    def value(self, arms: Arms, metrics: Metrics) -> float | None:
        names = select(arms, self.where)
        if not has(metrics, names, self.metric):
            return None
        return math.fsum(metrics[name][self.metric] for name in names) / len(names)

    def describe(self) -> dict[str, Any]:
        return {"kind": "level", **asdict(self)}


@dataclass(frozen=True)
class Difference:
    """A metric (its logarithm if ``log``) of one arm minus that of another.

    Edge cases: a metric that is not positive has no logarithm: None.
    """

    metric: str
    first: str
    second: str
    words: str
    log: bool = False

    def applies(self, arms: Arms) -> bool:
        return self.first in arms and self.second in arms

    def value(self, arms: Arms, metrics: Metrics) -> float | None:
        if not has(metrics, (self.first, self.second), self.metric):
            return None
        pair = [metrics[self.first][self.metric], metrics[self.second][self.metric]]
        if self.log:
            if min(pair) <= 0:
                return None
            pair = [math.log(value) for value in pair]
        return pair[0] - pair[1]

    def describe(self) -> dict[str, Any]:
        return {"kind": "difference", **asdict(self)}


@dataclass(frozen=True)
class Growth:
    """One metric minus another of the same arm, mean over the arms whose knobs are as ``where`` says.

    Made for a metric at a later point of a run less the same at an earlier point.
    Example: 0.7 − 0.4 in one arm and 0.5 − 0.4 in another: 0.2.
    """

    later: str
    earlier: str
    words: str
    where: Mapping[str, float | str] = field(default_factory=dict)

    def applies(self, arms: Arms) -> bool:
        return bool(select(arms, self.where))

    def value(self, arms: Arms, metrics: Metrics) -> float | None:
        names = select(arms, self.where)
        if not has(metrics, names, self.later) or not has(metrics, names, self.earlier):
            return None
        return math.fsum(metrics[name][self.later] - metrics[name][self.earlier] for name in names) / len(names)

    def describe(self) -> dict[str, Any]:
        return {"kind": "growth", **asdict(self)}


@dataclass(frozen=True)
class Matched:
    """A metric where a knob has its first value minus where it has its second, mean over twins of arms.

    Twins are two arms of which one has ``first``, the other ``second``, and all other knobs are equal. Only twins whose
    other knobs are as ``where`` says count, and none whose other knobs are all as ``without`` says.
    Example: at two settings of another knob 0.7 − 0.4 and 0.5 − 0.4: 0.2.
    """

    metric: str
    knob: str
    first: float | str
    second: float | str
    words: str
    where: Mapping[str, float | str] = field(default_factory=dict)
    without: Mapping[str, float | str] = field(default_factory=dict)

    def applies(self, arms: Arms) -> bool:
        return bool(self.twins(arms))

    def twins(self, arms: Arms) -> list[tuple[str, str]]:
        """The names of both arms of each pair."""
        left_out = set(select(arms, self.without)) if self.without else set()
        found = [name for name in select(arms, {**self.where, self.knob: self.first}) if name not in left_out]
        return [(name, twin) for name in found for twin in select(arms, {**arms[name], self.knob: self.second})]

    def value(self, arms: Arms, metrics: Metrics) -> float | None:
        twins = self.twins(arms)
        if not has(metrics, [name for both in twins for name in both], self.metric):
            return None
        return math.fsum(metrics[one][self.metric] - metrics[other][self.metric] for one, other in twins) / len(twins)

    def describe(self) -> dict[str, Any]:
        return {"kind": "matched difference", **asdict(self)}


@dataclass(frozen=True)
class GapSlope:
    """The slope of a gap on the natural logarithm of a knob: a metric of ``first`` arms less that of ``second`` arms.

    Both families have arms at the same values of the knob, so the slope of their gap is that of the one less that of
    the other (see ``Slope``). Example: gaps of 0, 0.1, 0.2 at knob 1, e, e²: 0.1.
    """

    metric: str
    knob: str
    first: Mapping[str, float | str]
    second: Mapping[str, float | str]
    words: str

    def applies(self, arms: Arms) -> bool:
        one, other = ([arms[name][self.knob] for name in select(arms, side)] for side in (self.first, self.second))
        return len(set(one)) > 1 and sorted(one, key=float) == sorted(other, key=float)

    def value(self, arms: Arms, metrics: Metrics) -> float | None:
        sides = [Slope(self.metric, self.knob, self.words, where=side) for side in (self.first, self.second)]
        one, other = (slope.value(arms, metrics) for slope in sides)
        return None if one is None or other is None else one - other

    def describe(self) -> dict[str, Any]:
        return {"kind": "slope of a gap", **asdict(self)}


@dataclass(frozen=True)
class Clearance:
    """How far a metric of one arm, less that of another, stays above a bound: m_first − m_second − bound.

    Made for "no substantial gain" where lower is better: the bound is −(the smallest gain that counts), and the claim
    is that the number is above 0; a loss of any size agrees with it.
    Example: errors of 4.9 and 5.0 with a bound of −0.8: 0.7.
    """

    metric: str
    first: str
    second: str
    bound: float
    words: str

    def applies(self, arms: Arms) -> bool:
        return self.first in arms and self.second in arms

    def value(self, arms: Arms, metrics: Metrics) -> float | None:
        difference = Difference(self.metric, self.first, self.second, self.words).value(arms, metrics)
        return None if difference is None else difference - self.bound

    def describe(self) -> dict[str, Any]:
        return {"kind": "clearance", **asdict(self)}
