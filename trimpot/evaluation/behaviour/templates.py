"""Templates with placeholders, such as ``{name1} is {a:profession}``, and the fillers drawn for them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from trimpot.evaluation.behaviour.expressions import Filler, word_of

Lexicons = Mapping[str, Sequence[Filler]]

_PLACEHOLDER = re.compile(r"\{(?:(?P<form>a|A|cap):)?(?P<name>[a-z_]+\d*)(?:\.(?P<field>[a-z_]+))?\}")
_SILENT_H = ("hour", "honest", "honour", "honor", "heir")
_SPOKEN_YOU = ("uni", "use", "usual", "usa", "uten", "euro", "ewe", "one", "once")
# Begin with "uni", but with the prefix "un": an unimportant detail.
_PREFIX_UN = ("unim", "unin", "unid")
_ALL_LISTED = 20_000


@dataclass(frozen=True)
class Placeholder:
    """``{form:name.field}``. ``form``: a or A puts the article before the word, cap capitalises it, empty leaves it."""

    name: str
    field: str | None
    form: str

    @property
    def lexicon(self) -> str:
        """``name`` without its number: name1 and name2 are two different entries of the lexicon name."""
        return self.name.rstrip("0123456789")


def with_article(word: str) -> str:
    """a or an by the word's sound: an hour, a university, an unimportant detail, an umbrella.

    Source: ours; CheckList goes by the first letter alone, which gives "a hour" and "an university".
    """
    lower = word.lower()
    spoken_you = lower.startswith(_SPOKEN_YOU) and not lower.startswith(_PREFIX_UN)
    vowel = lower[:1] in "aeiou" and not spoken_you
    return f"{'an' if vowel or lower.startswith(_SILENT_H) else 'a'} {word}"


def pieces_of(template: str) -> list[str | Placeholder]:
    """The template's parts in order; ``{{`` and ``}}`` are plain braces.

    Raises:
        ValueError: a brace that opens or closes no placeholder.
    """
    found: list[str | Placeholder] = []
    at = 0
    while at < len(template):
        here = template[at]
        if template[at : at + 2] in ("{{", "}}"):
            found.append(here)
            at += 2
        elif here in "{}":
            match = _PLACEHOLDER.match(template, at)
            if match is None:
                problem = "is no placeholder such as {name} or {a:noun.field}"
                raise ValueError(f"the brace at character {at + 1} of {template[:60]!r} {problem}")
            found.append(Placeholder(match["name"], match["field"], match["form"] or ""))
            at = match.end()
        else:
            end = min((place for brace in "{}" if (place := template.find(brace, at)) >= 0), default=len(template))
            found.append(template[at:end])
            at = end
    return found


def fill(template: str, fillers: Mapping[str, Filler]) -> str:
    """The template with its fillers.

    Example: ``{name1} is {a:job}.`` with Anna and engineer: "Anna is an engineer."

    Raises:
        ValueError: as ``pieces_of``; a placeholder without a filler, or without the field it asks for.
    """
    return "".join(piece if isinstance(piece, str) else _filled(piece, fillers) for piece in pieces_of(template))


def _filled(place: Placeholder, fillers: Mapping[str, Filler]) -> str:
    word = word_of(place.name, place.field, fillers)
    if place.form in ("a", "A"):
        word = with_article(word)
    return word[:1].upper() + word[1:] if place.form in ("A", "cap") else word


def draw_fillers(
    names: Sequence[str], lexicons: Lexicons, random: Random, accept: Callable[[Mapping[str, Filler]], bool]
) -> Iterator[dict[str, Filler]]:
    """Combinations of fillers, each at most once, in random order: of fewer, the first are those of more.

    Args:
        names: the placeholders; those of one lexicon (name1, name2) always have different entries.
        accept: conditions on a combination.

    Edge cases: no names give one empty combination; a cross product above 20,000 is sampled, and ends when 2,000 draws
    in a row gave nothing new.
    """
    sizes = [len(lexicons[name.rstrip("0123456789")]) for name in names]
    total = math.prod(sizes)
    for number in _numbers(total, random):
        chosen: dict[str, Filler] = {}
        for name, size in zip(names, sizes, strict=True):
            number, place = divmod(number, size)
            chosen[name] = lexicons[name.rstrip("0123456789")][place]
        if _distinct(chosen) and accept(chosen):
            yield chosen


def _numbers(total: int, random: Random) -> Iterator[int]:
    """0 … total − 1 in random order."""
    if total <= _ALL_LISTED:
        numbers = list(range(total))
        random.shuffle(numbers)
        yield from numbers
        return
    seen: set[int] = set()
    misses = 0
    while misses < 2000:
        number = random.randrange(total)
        misses = misses + 1 if number in seen else 0
        if number not in seen:
            seen.add(number)
            yield number


def _distinct(chosen: Mapping[str, Filler]) -> bool:
    by_lexicon: dict[str, list[Filler]] = {}
    for name, filler in chosen.items():
        by_lexicon.setdefault(name.rstrip("0123456789"), []).append(filler)
    return all(one not in many[:at] for many in by_lexicon.values() for at, one in enumerate(many))
