"""Whether a rendered text holds a tool call: its function's name and every one of its arguments."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def unwritten(call: Mapping[str, Any], text: str) -> str | None:
    """The first part of the call that the text does not hold, None if it holds all.

    White space is not compared, and a value may be written as JSON, as Python or plainly, as templates do all three.
    """
    function, squeezed = call["function"], "".join(text.split())
    if "".join(function["name"].split()) not in squeezed:
        return f"the function name {function['name']!r}"
    for leaf in _leaves(function["arguments"]):
        if not any("".join(way.split()) in squeezed for way in _ways(leaf)):
            return f"the argument {leaf!r} to {function['name']}"
    return None


def show_as_python(calls: Sequence[Mapping[str, Any]], text: str) -> bool:
    """Whether the text holds a call's arguments as Python prints a dictionary, which is no JSON."""
    return any(call["function"]["arguments"] and str(call["function"]["arguments"]) in text for call in calls)


def _leaves(value: Any) -> Iterator[Any]:
    """Keys and scalar values, at any depth."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _ways(leaf: Any) -> set[str]:
    if isinstance(leaf, str):
        return {
            leaf,
            repr(leaf)[1:-1],
            *(json.dumps(leaf, ensure_ascii=ascii_only)[1:-1] for ascii_only in (False, True)),
        }
    return {str(leaf), json.dumps(leaf)}
