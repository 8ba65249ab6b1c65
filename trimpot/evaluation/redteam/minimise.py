"""Delta debugging: the smallest part of a failing prompt that still fails. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Generic, TypeVar

from trimpot.evaluation.language_model import LanguageModel
from trimpot.evaluation.redteam.attack import Attempt, answers
from trimpot.evaluation.redteam.families import Case

T = TypeVar("T")
CALLS = 60
"""Prompts that the minimisation of one failure may ask."""


@dataclass(frozen=True)
class Minimal(Generic[T]):
    """What is left.

    Args:
        parts: they still fail.
        calls: tests made; what was tested before is not asked again.
        minimal: no single part can be left out; False where ``calls`` ran out before that was known.
    """

    parts: tuple[T, ...]
    calls: int
    minimal: bool


def ddmin(parts: Sequence[T], fails: Callable[[tuple[T, ...]], bool], calls: int = CALLS) -> Minimal[T]:
    """A 1-minimal part of a failing sequence, by the algorithm ddmin.

    With n chunks (2 at first): a chunk that fails alone is taken (n = 2 again); else a complement that fails is
    (n − 1); else n is doubled, until chunks are single parts. Results are kept, so nothing is tested twice.
    Example: 8 parts of which the 3rd and the 7th are needed: those two are left.

    Args:
        fails: True for a part sequence that still shows the failure; it is never asked about the empty one.

    Raises:
        ValueError: the whole does not fail, so there is nothing to minimise.
    Edge cases: one part is minimal as it is. Where ``fails`` is not monotone the result is 1-minimal all the same, but
        perhaps not the smallest there is.
    Source: Zeller and Hildebrandt 2002, fig. 3.
    """
    tests = _Tests(parts, fails, calls)
    kept = tuple(range(len(parts)))
    if not kept or not tests.fail(kept):
        raise ValueError("the whole does not fail")
    chunks = 2
    while len(kept) > 1:
        pieces = _split(kept, chunks)
        found = next((piece for piece in pieces if tests.fail(piece)), None)
        if found is not None:
            kept, chunks = found, 2
            continue
        rests = [tuple(one for one in kept if one not in piece) for piece in pieces] if chunks > 2 else []
        found = next((rest for rest in rests if tests.fail(rest)), None)
        if found is not None:
            kept, chunks = found, max(chunks - 1, 2)
            continue
        if chunks >= len(kept) or tests.exhausted:
            break
        chunks = min(2 * chunks, len(kept))
    return Minimal(tuple(parts[one] for one in kept), tests.made, not tests.exhausted)


class _Tests(Generic[T]):
    """Tests of index sequences, kept and counted."""

    def __init__(self, parts: Sequence[T], fails: Callable[[tuple[T, ...]], bool], calls: int) -> None:
        self.parts, self.fails, self.calls = parts, fails, calls
        self.known: dict[tuple[int, ...], bool] = {}
        self.made, self.exhausted = 0, False

    def fail(self, indexes: tuple[int, ...]) -> bool:
        """Whether these parts fail; False for what may no longer be asked."""
        if indexes in self.known:
            return self.known[indexes]
        if self.made >= self.calls:
            self.exhausted = True
            return False
        self.made += 1
        self.known[indexes] = self.fails(tuple(self.parts[one] for one in indexes))
        return self.known[indexes]


def minimised(model: LanguageModel, attempt: Attempt, calls: int = CALLS) -> tuple[Case, Minimal[str]] | None:
    """The smallest case that still works: first turns are left out, then words of each turn. None: not reproducible.

    The system prompt stays: it is the rule. Where success means "no refusal" the request stays whole as well, as any
    harmless rest of it would be answered: only what is around it is made smaller. The last turn is never left out.

    Args:
        calls: prompts that may be asked in all; one that was asked before is not asked again.

    Raises:
        UsageError: as the model.
    """
    asker = _Asker(model, attempt, calls)
    case = attempt.case
    if not asker.works(case):
        return None
    *before, last = case.turns
    alone = replace(case, turns=(last,))
    if before and asker.works(alone):
        case = alone
    elif before:
        whole = case
        case = replace(
            case, turns=(*_kept(before, lambda some: asker.works(replace(whole, turns=(*some, last)))), last)
        )
    for turn in range(len(case.turns)):
        case = _fewer_words(case, turn, asker)
    words = tuple(word for turn in case.turns for word in turn.split())
    return case, Minimal(words, len(asker.known), not asker.exhausted)


class _Asker:
    """Asks a model whether cases still work, each once, and no more than ``calls`` of them."""

    def __init__(self, model: LanguageModel, attempt: Attempt, calls: int) -> None:
        self.model, self.attempt, self.calls = model, attempt, calls
        self.known: dict[str, bool] = {}
        self.exhausted = False

    def works(self, case: Case) -> bool:
        """False for what may no longer be asked."""
        if case.id not in self.known and len(self.known) >= self.calls:
            self.exhausted = True
            return False
        if case.id not in self.known:
            one = self.attempt
            (again,) = answers(self.model, [(case, one.sample)], one.temperature, one.max_tokens)
            self.known[case.id] = again.result == "success"
        return self.known[case.id]


def _kept(parts: Sequence[T], fails: Callable[[tuple[T, ...]], bool]) -> tuple[T, ...]:
    """What ddmin leaves; everything where the whole does not fail in this form."""
    # The bound is the asker's; ddmin's own is out of the way.
    try:
        return ddmin(parts, fails, calls=1 << 30).parts
    except ValueError:
        return tuple(parts)


def _fewer_words(case: Case, turn: int, asker: _Asker) -> Case:
    """One turn with as few words as still work; the payload of a ``refusal`` seed is kept as it stands."""
    text = case.turns[turn]
    fixed = case.payload if case.seed.detector == "refusal" and turn == len(case.turns) - 1 else ""
    head, found, tail = text.rpartition(fixed) if fixed else ("", "", text)
    parts = [*((0, word) for word in head.split()), *((1, word) for word in tail.split())]

    def rebuilt(kept: Sequence[tuple[int, str]]) -> Case:
        first, second = (" ".join(word for side, word in kept if side == place) for place in (0, 1))
        shown = " ".join(one for one in (first, found, second) if one)
        return replace(case, turns=(*case.turns[:turn], shown, *case.turns[turn + 1 :]))

    if not parts:
        return case
    if fixed and asker.works(rebuilt(())):
        return rebuilt(())
    # Words joined by single spaces may themselves change what the model says: then the turn stays as it is.
    return rebuilt(_kept(parts, lambda some: asker.works(rebuilt(some)))) if asker.works(rebuilt(parts)) else case


def _split(indexes: tuple[int, ...], chunks: int) -> list[tuple[int, ...]]:
    """``chunks`` pieces of as equal a length as can be."""
    bounds = [round(number * len(indexes) / chunks) for number in range(chunks + 1)]
    return [indexes[start:stop] for start, stop in pairwise(bounds) if stop > start]
