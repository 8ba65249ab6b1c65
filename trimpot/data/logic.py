"""Whether a conclusion about three classes follows from its premises, by looking at every possible world."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product

STATEMENT = re.compile(r"(All|No|Some) (\S+) are (not )?(\S+)", re.IGNORECASE)


def follows(premises: Sequence[str], conclusion: str) -> bool | None:
    """True if the conclusion holds in every world in which the premises hold, False if not.

    Statements read "All|No|Some A are [not] B". A world says which of the 2^k combinations of the k classes exist:
    256 worlds for three. Aristotle let no class be empty, modern logic does; they differ on some syllogisms.

    Raises:
        ValueError: a statement that reads otherwise.
    Edge cases: the two readings of logic disagree: None.
    """
    statements = [_parse(text) for text in (*premises, conclusion)]
    classes = sorted({name for _, first, _, second in statements for name in (first, second)})
    members = [frozenset(c for c, is_in in zip(classes, bits, strict=True) if is_in) for bits in _bits(len(classes))]
    verdicts = {True: True, False: True}
    for exists in _bits(len(members)):
        world = [member for member, there in zip(members, exists, strict=True) if there]
        if not all(_holds(statement, world) for statement in statements[:-1]) or _holds(statements[-1], world):
            continue
        inhabited = all(any(name in member for member in world) for name in classes)
        verdicts[False] = False
        verdicts[True] = verdicts[True] and not inhabited
    return verdicts[True] if verdicts[True] == verdicts[False] else None


def _bits(count: int) -> list[tuple[bool, ...]]:
    return list(product((False, True), repeat=count))


def _parse(text: str) -> tuple[str, str, bool, str]:
    match = STATEMENT.fullmatch(text.strip().rstrip("."))
    if match is None:
        raise ValueError(f"not a statement about two classes: {text!r}")
    quantifier, first, negated, second = match.groups()
    return quantifier.lower(), first, negated is not None, second


def _holds(statement: tuple[str, str, bool, str], world: Sequence[frozenset[str]]) -> bool:
    quantifier, first, negated, second = statement
    inside = [(second in member) != negated for member in world if first in member]
    if quantifier == "some":
        return any(inside)
    return all(inside) if quantifier == "all" else not any(inside)
