"""Small expressions over a template's fillers, such as ``number1 + number2``: a fixed grammar, nothing is executed."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

Filler = str | Mapping[str, str]
"""What stands for a placeholder: a word, or an entry with fields."""

Value = str | int | bool

_ARITHMETIC: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_GRAMMAR = "use +, -, *, comparisons, and, or, not, 'a if condition else b', names and names with a field"


def parsed(text: str) -> ast.expr:
    """The expression as a tree.

    Raises:
        ValueError: it is none, or has parts that are not of the grammar.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text!r} is no expression: {_GRAMMAR}") from error
    _check(tree, text)
    return tree


def names_in(text: str) -> list[str]:
    """The names of an expression, in the order they stand there.

    Raises:
        ValueError: as ``parsed``.
    """
    found = [node for node in ast.walk(parsed(text)) if isinstance(node, ast.Name)]
    return [node.id for node in sorted(found, key=lambda node: (node.lineno, node.col_offset))]


def evaluate(text: str, fillers: Mapping[str, Filler]) -> Value:
    """The value of an expression; a filler that is a whole number counts as one.

    Example: ``number1 + number2`` with fillers "3" and "4" is 7; ``animal.kind == "bird"`` with {"kind": "bird"} is
    True.

    Raises:
        ValueError: no expression, a name without a filler, a field that the filler lacks, arithmetic on a word, or a
            word compared by size with a number.
    """
    return _value(parsed(text), fillers)


def as_text(value: Value) -> str:
    """A value as an answer: True is yes, False is no."""
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _check(node: ast.expr, text: str) -> None:
    fits = (
        isinstance(node, ast.Name)
        or (isinstance(node, ast.Constant) and isinstance(node.value, str | int))
        or (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name))
        or (isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC)
        or (isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARISONS)
        or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub))
        or isinstance(node, ast.BoolOp | ast.IfExp)
    )
    if not fits:
        raise ValueError(f"{text!r} has a part that is not allowed ({ast.unparse(node)}): {_GRAMMAR}")
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            _check(child, text)


def _value(node: ast.expr, fillers: Mapping[str, Filler]) -> Value:
    match node:
        case ast.Constant(value=str() | int() as value):
            return value
        case ast.Name(id=name):
            return _word(name, None, fillers)
        case ast.Attribute(value=ast.Name(id=name), attr=field):
            return _word(name, field, fillers)
        case ast.BinOp(left=left, op=op, right=right):
            return _ARITHMETIC[type(op)](_number(left, fillers), _number(right, fillers))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, fillers)
        case ast.UnaryOp(operand=operand):
            return -_number(operand, fillers)
        case ast.BoolOp(op=op, values=values):
            # Python's own short circuit, so that a guard can stand before what it guards.
            return (all if isinstance(op, ast.And) else any)(bool(_value(one, fillers)) for one in values)
        case ast.IfExp(test=test, body=body, orelse=other):
            return _value(body if _value(test, fillers) else other, fillers)
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _compared(op, _value(left, fillers), _value(right, fillers), node)
    raise ValueError(f"{ast.unparse(node)!r} has no value")


def _compared(op: ast.cmpop, first: Value, second: Value, node: ast.expr) -> bool:
    if not isinstance(op, ast.Eq | ast.NotEq) and isinstance(first, str) != isinstance(second, str):
        raise ValueError(f"{ast.unparse(node)!r} compares a word with a number")
    return _COMPARISONS[type(op)](first, second)


def _number(node: ast.expr, fillers: Mapping[str, Filler]) -> int:
    value = _value(node, fillers)
    if isinstance(value, str):
        raise ValueError(f"{ast.unparse(node)!r} is {value!r}, which is no whole number")
    return int(value)


def _word(name: str, field: str | None, fillers: Mapping[str, Filler]) -> Value:
    word = word_of(name, field, fillers)
    return int(word) if word.removeprefix("-").isdecimal() else word


def word_of(name: str, field: str | None, fillers: Mapping[str, Filler]) -> str:
    """The word that stands for ``name`` or ``name.field``.

    Raises:
        ValueError: there is none.
    """
    if name not in fillers:
        raise ValueError(f"{name!r} has no filler")
    filler = fillers[name]
    if isinstance(filler, str):
        if field is not None:
            raise ValueError(f"{name!r} is the word {filler!r}, which has no field {field!r}")
        return filler
    if field is None:
        raise ValueError(f"{name!r} is an entry with the fields {', '.join(filler)}: name one, as in {name}.FIELD")
    if field not in filler:
        raise ValueError(f"{name!r} has no field {field!r}, but {', '.join(filler)}")
    return filler[field]
