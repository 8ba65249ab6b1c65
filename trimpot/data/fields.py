"""The plain values of a record, checked: strings, numbers, truth values, weight, slices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.core.rows import Origin

Record = Mapping[str, Any]


def fault(origin: Origin, problem: str, mend: str) -> UsageError:
    """The error of a row that is wrong in itself."""
    return UsageError(str(origin), problem, mend)


def string(value: object, name: str, origin: Origin) -> str:
    if not isinstance(value, str):
        raise fault(origin, f"{name} is {type(value).__name__}, not a string", "Give a string.")
    return value


def number(value: object, name: str, origin: Origin) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise fault(origin, f"{name} {value!r} is not a finite number", f"Give a number as {name}.")
    return float(value)


def truth(value: object, name: str, origin: Origin) -> bool:
    """True or false; 1 and 0 serve too."""
    if not isinstance(value, bool | int) or value not in (0, 1):
        raise fault(origin, f"{name} {value!r} is neither true nor false", "Give true or false.")
    return bool(value)


def weight(record: Record, origin: Origin) -> float:
    found = number(record.get("weight", 1.0), "weight", origin)
    if found < 0:
        raise fault(origin, f"weight {found} is negative", "Give a weight of at least 0.")
    return found


def margin(record: Record, origin: Origin) -> float | None:
    return number(record["margin"], "margin", origin) if "margin" in record else None


def slices(record: Record, origin: Origin) -> dict[str, str]:
    found = record.get("slices", {})
    if not isinstance(found, Mapping):
        raise fault(origin, "slices is not an object", 'Give {"slice": "value", …}.')
    return {str(name): str(value) for name, value in found.items() if value is not None}


def verifier(record: Record, origin: Origin) -> tuple[str, Mapping[str, object]]:
    """The verifier's name and the metadata it reads."""
    metadata = record.get("metadata", {})
    if not isinstance(metadata, Mapping):
        raise fault(origin, "metadata is not an object", 'Give {"key": value, …}.')
    return string(record.get("verifier", "exact"), "verifier", origin), dict(metadata)
