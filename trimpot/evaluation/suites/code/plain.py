"""Plain values as JSON: what crosses from the process that runs a model's program to the one that tests it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

DEPTH = 60
"""Containers within containers, at most."""


class NotPlainError(Exception):
    """A value that is no number, text, truth value, None or container of such."""


def encode(value: object, depth: int = DEPTH) -> list[Any]:
    """A value as ``[kind, content]``, which JSON holds; kinds keep apart what JSON would mix, as tuple and list.

    A subclass becomes its plain base, so that an object with an equality of its own cannot cross. An iterator, range or
    view crosses as what it yields.

    Raises:
        NotPlainError: any other value, or containers nested deeper than ``depth``.

    Example:
        >>> encode((1, "a"))
        ['tuple', [['int', '1'], ['str', 'a']]]
    """
    if depth == 0:
        raise NotPlainError("nested too deeply")
    if value is None or isinstance(value, bool):
        return ["constant", value]
    for base, write in _ATOMS.items():
        if isinstance(value, base):
            return [base.__name__, write(value)]
    if isinstance(value, dict):
        pairs = [[encode(key, depth - 1), encode(one, depth - 1)] for key, one in dict.items(value)]
        return ["dict", pairs]
    for container, iterate in _CONTAINERS.items():
        if isinstance(value, container):
            return [container.__name__, [encode(one, depth - 1) for one in iterate(value)]]
    if isinstance(value, range):
        return ["range", [str(value.start), str(value.stop), str(value.step)]]
    if isinstance(value, Iterator | type({}.keys()) | type({}.values()) | type({}.items())):
        yielded: Iterator[Any] = iter(value)
        return ["iterator", [encode(one, depth - 1) for one in yielded]]
    raise NotPlainError(f"a {type(value).__name__}")


def decode(written: Any, depth: int = DEPTH) -> Any:
    """The value that ``encode`` wrote: of built-in types only, whoever wrote it.

    Raises:
        NotPlainError: not what ``encode`` writes.
    """
    if depth == 0 or not isinstance(written, list) or len(written) != 2:
        raise NotPlainError("not an encoded value")
    kind, content = written
    try:
        return _READ[kind](content, depth)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotPlainError(f"not an encoded {kind!s:.20}") from error


def _float(value: float) -> str:
    return float.__repr__(value) if math.isfinite(value) else str(float(value))


_ATOMS: dict[type, Callable[[Any], Any]] = {
    int: int.__repr__,
    float: _float,
    complex: lambda value: [_float(value.real), _float(value.imag)],
    str: lambda value: str.__str__(value),
    bytes: lambda value: bytes.hex(value),
}

# The bases' own methods: those of a subclass are the program's.
_CONTAINERS: dict[type, Callable[[Any], Iterator[Any]]] = {
    list: list.__iter__,
    tuple: tuple.__iter__,
    set: set.__iter__,
    frozenset: frozenset.__iter__,
}


def _constant(content: Any, depth: int) -> Any:
    if content is None or isinstance(content, bool):
        return content
    raise ValueError(content)


def _all(content: Any, depth: int) -> list[Any]:
    if not isinstance(content, list):
        raise TypeError
    return [decode(one, depth - 1) for one in content]


def _text(content: Any, depth: int) -> str:
    if not isinstance(content, str):
        raise TypeError
    return content


_READ: Mapping[str, Callable[[Any, int], Any]] = {
    "constant": _constant,
    "int": lambda content, depth: int(_text(content, depth)),
    "float": lambda content, depth: float(_text(content, depth)),
    "complex": lambda content, depth: complex(float(content[0]), float(content[1])),
    "str": _text,
    "bytes": lambda content, depth: bytes.fromhex(content),
    "list": _all,
    "tuple": lambda content, depth: tuple(_all(content, depth)),
    "set": lambda content, depth: set(_all(content, depth)),
    "frozenset": lambda content, depth: frozenset(_all(content, depth)),
    "dict": lambda content, depth: {decode(key, depth - 1): decode(value, depth - 1) for key, value in content},
    "range": lambda content, depth: range(*map(int, content)),
    "iterator": lambda content, depth: iter(_all(content, depth)),
}
