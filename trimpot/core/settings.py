"""A setting is declared once, on a frozen dataclass; recipe, dry run and documentation read it from there."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from trimpot.core.errors import UsageError, nearest


def setting(
    default: Any,
    doc: str,
    origin: str = "ours",
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A dataclass field with its meaning, the origin of its default (paper or library) and its range."""
    metadata = {"doc": doc, "origin": origin, "above": above, "at_least": at_least, "at_most": at_most}
    return dataclasses.field(default=default, metadata={**metadata, "choices": choices})


def check_settings(value: Any, where: str = "") -> None:
    """Checks every field of a settings dataclass against its range.

    Raises:
        UsageError: a field is outside its range or not one of its choices; names the field and the range.
    """
    prefix = where + "." if where else ""
    for item in dataclasses.fields(value):
        given, rules = getattr(value, item.name), item.metadata
        if given is None or not rules:
            continue
        if rules["choices"] and given not in rules["choices"]:
            raise UsageError(prefix + item.name, f"{given!r} is not a choice", nearest(str(given), rules["choices"]))
        if isinstance(given, bool) or not isinstance(given, int | float):
            continue
        above, at_least, at_most = rules["above"], rules["at_least"], rules["at_most"]
        outside = (
            not math.isfinite(given)
            or (above is not None and given <= above)
            or (at_least is not None and given < at_least)
            or (at_most is not None and given > at_most)
        )
        if outside:
            mend = f"Give a value {_range(rules)}." if math.isfinite(given) else "Give a finite number."
            raise UsageError(prefix + item.name, f"{given} is out of range", mend)


def _range(rules: Any) -> str:
    words = [("above", "above"), ("at_least", "of at least"), ("at_most", "of at most")]
    return " and ".join(f"{word} {rules[key]}" for key, word in words if rules[key] is not None)
