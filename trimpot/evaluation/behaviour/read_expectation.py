"""An expectation as YAML has it: ``eq``, ``{monotonic: {direction: increasing}}``, ``{all_of: [eq, invariant]}`` …"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast, get_args

from trimpot.core.errors import UsageError, nearest
from trimpot.evaluation.behaviour.expectations import (
    LABEL,
    AllOf,
    AnyOf,
    Equal,
    ExactlyOne,
    Expectation,
    Invariant,
    Monotonic,
    Negated,
    Scale,
    Spread,
)


def word(value: Any) -> str:
    """A YAML scalar as text: unquoted yes and no, which YAML takes for truth values, are words here."""
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def read_expectation(value: Any, where: str) -> Expectation:
    """The expectation that a part of a suite file describes.

    Raises:
        UsageError: an unknown name or key (the nearest is named), a missing or wrong value.
    """
    if isinstance(value, str):
        value = {value: None}
    if not isinstance(value, Mapping) or len(value) != 1:
        raise UsageError(where, f"the expectation {value!r} is not one name", f"Write one of: {', '.join(_KINDS)}.")
    ((name, given),) = value.items()
    if name not in _KINDS:
        raise UsageError(where, f"{name!r} is no expectation", nearest(str(name), _KINDS))
    return _KINDS[name](given, f"{where}, {name}")


def _equal(given: Any, where: str) -> Expectation:
    return Equal(LABEL if given is None else _scalar(given, where))


def _invariant(given: Any, where: str) -> Expectation:
    keys = _mapping(given, where, ("tolerance",))
    tolerance = _number(keys.get("tolerance", 0.0), where)
    if not 0 <= tolerance <= 1:
        raise UsageError(where, f"tolerance is {tolerance}", "Give a probability between 0 and 1.")
    return Invariant(tolerance)


def _monotonic(given: Any, where: str) -> Expectation:
    keys = _mapping(given, where, ("direction", "of", "tolerance", "scale"))
    direction = keys.get("direction")
    if direction not in ("increasing", "decreasing"):
        raise UsageError(where, f"direction is {direction!r}", "Write increasing or decreasing.")
    tolerance = _number(keys.get("tolerance", 0.0), where)
    return Monotonic(direction == "increasing", _of(keys, where), tolerance, _scale(keys, where))


def _spread(given: Any, where: str) -> Expectation:
    keys = _mapping(given, where, ("of", "tolerance", "scale"))
    if "tolerance" not in keys:
        raise UsageError(where, "has no tolerance", "Give the largest spread that passes.")
    return Spread(_number(keys["tolerance"], where), _of(keys, where), _scale(keys, where))


def _exactly_one(given: Any, where: str) -> Expectation:
    if given is None:
        raise UsageError(where, "names no answer", "Write exactly_one: yes.")
    return ExactlyOne(_scalar(given, where))


def _all_of(given: Any, where: str) -> Expectation:
    return AllOf(_parts(given, where))


def _any_of(given: Any, where: str) -> Expectation:
    return AnyOf(_parts(given, where))


def _negated(given: Any, where: str) -> Expectation:
    return Negated(read_expectation(given, where))


_KINDS: dict[str, Callable[[Any, str], Expectation]] = {
    "eq": _equal,
    "invariant": _invariant,
    "monotonic": _monotonic,
    "spread": _spread,
    "exactly_one": _exactly_one,
    "all_of": _all_of,
    "any_of": _any_of,
    "negated": _negated,
}


def _parts(given: Any, where: str) -> tuple[Expectation, ...]:
    if not isinstance(given, list) or not given:
        raise UsageError(where, f"{given!r} is not a list of expectations", "Write [eq, invariant], say.")
    return tuple(read_expectation(part, where) for part in given)


def _mapping(given: Any, where: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise UsageError(where, f"{given!r} is not a mapping", f"Write {{{known[0]}: …}}.")
    for key in given:
        if key not in known:
            raise UsageError(where, f"{key!r} is no key of it", nearest(str(key), known))
    return given


def _scalar(given: Any, where: str) -> str:
    if isinstance(given, list | Mapping):
        raise UsageError(where, f"{given!r} is not one answer", "Give a word or a number.")
    return word(given)


def _number(given: Any, where: str) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise UsageError(where, f"{given!r} is no number", "Give a number such as 0.5.")
    return float(given)


def _of(keys: Mapping[str, Any], where: str) -> str:
    return _scalar(keys.get("of", LABEL), where)


def _scale(keys: Mapping[str, Any], where: str) -> Scale:
    scale = keys.get("scale", "log_odds")
    if scale not in get_args(Scale):
        raise UsageError(where, f"{scale!r} is no scale", nearest(str(scale), get_args(Scale)))
    return cast(Scale, scale)


def answers_named(expect: Expectation) -> list[str]:
    """The answers that an expectation names, in all its parts, "label" among them where labels are read."""
    match expect:
        case Equal(value=name) | ExactlyOne(value=name):
            return [name]
        case Monotonic(of=name, scale=scale) | Spread(of=name, scale=scale):
            return [] if scale == "answer" else [name]
        case AllOf(parts=parts) | AnyOf(parts=parts):
            return [name for part in parts for name in answers_named(part)]
        case Negated(part=part):
            return answers_named(part)
    return []
