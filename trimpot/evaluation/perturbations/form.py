"""Perturbations of form, which test robustness: case, contractions, spelling, spaces, filler words, synonyms."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from random import Random

from trimpot.evaluation.perturbations.spans import Change, match_case
from trimpot.evaluation.perturbations.words import contractions, expansions, misspellings, words

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_SPACES = re.compile(r"(?<![\n ]) +")


def at_places(pattern: re.Pattern[str], replacement: Callable[[re.Match[str], float], str | None]) -> Change:
    """A change that replaces matches of a pattern, each with probability ``strength``.

    Every place that has a replacement takes two draws, whether it is changed or not, so that what a strength changes a
    larger one changes too (of one seed): place i changes where u_i < strength.

    Args:
        replacement: the match and a draw in [0, 1) to choose by -> the new text; None: nothing to replace it by.
    """

    def change(pieces: Sequence[str], random: Random, strength: float) -> list[str]:
        def replaced(match: re.Match[str]) -> str:
            if replacement(match, 0.0) is None:
                return match.group()
            chance, choice = random.random(), random.random()
            new = replacement(match, choice)
            return new if chance < strength and new is not None else match.group()

        return [pattern.sub(replaced, piece) for piece in pieces]

    return change


def by_table(table: Callable[[], Mapping[str, Sequence[str]]]) -> Change:
    """A change that replaces words (lower-cased, with a plain apostrophe) by one of those in the table, case kept."""

    def replacement(match: re.Match[str], choice: float) -> str | None:
        found = table().get(match.group().lower().replace("’", "'"))
        return match_case(match.group(), found[int(choice * len(found))]) if found else None

    return at_places(WORD, replacement)


def chain(parts: Iterable[tuple[Change, float]]) -> Change:
    """One change after the other, each at its own strength times the given one."""
    steps = tuple(parts)

    def change(pieces: Sequence[str], random: Random, strength: float) -> list[str]:
        result = list(pieces)
        for part, own in steps:
            result = part(result, random, own * strength)
        return result

    return change


def contraction(pieces: Sequence[str], random: Random, strength: float) -> list[str]:
    """Long forms before a space become short: "She is a" -> "She's a". At the end of a sentence they stay."""
    return _contract()(pieces, random, strength)


def expansion(pieces: Sequence[str], random: Random, strength: float) -> list[str]:
    """Short forms become long: "I'm" -> "I am"."""
    return _expand()(pieces, random, strength)


def filler(pieces: Sequence[str], random: Random, strength: float) -> list[str]:
    """A filler word or phrase before a word, with probability ``strength`` each."""

    def replacement(match: re.Match[str], choice: float) -> str:
        fillers = words()["fillers"]
        return f"{fillers[int(choice * len(fillers))]} {match.group()}"

    return at_places(re.compile(r"(?<!\S)\S+"), replacement)(pieces, random, strength)


@cache
def _contract() -> Change:
    longest = sorted(contractions(), key=lambda one: (-len(one), one))
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, longest))})(?= )", re.IGNORECASE)
    return at_places(pattern, lambda match, choice: match_case(match.group(), contractions()[match.group().lower()]))


@cache
def _expand() -> Change:
    longest = sorted(expansions(), key=lambda one: (-len(one), one))
    pattern = re.compile(rf"\b({'|'.join(one.replace(chr(39), '[’' + chr(39) + ']') for one in longest)})\b", re.I)

    def replacement(match: re.Match[str], choice: float) -> str:
        short = match.group().lower().replace("’", "'")
        long = expansions()[short]
        # The "I" of "I am" is a capital wherever it stands: of "i'm" it becomes "i".
        return long.lower() if match.group()[0] == "i" else match_case(match.group(), long)

    return at_places(pattern, replacement)


def _neighbour(match: re.Match[str], choice: float) -> str:
    keys = words()["keyboard"][match.group().lower()]
    key = keys[int(choice * len(keys))]
    return key.upper() if match.group().isupper() else key


lowercase = at_places(re.compile(r"\S*[^\W\d_]\S*"), lambda match, choice: match.group().lower())
misspelling = by_table(misspellings)
synonym = by_table(lambda: words()["synonyms"])
typos = at_places(re.compile(r"[A-Za-z]"), _neighbour)
extra_space = at_places(_SPACES, lambda match, choice: match.group() * 2)
space = at_places(_SPACES, lambda match, choice: " " * (1 + int(choice * 3)))
mild_mix = chain(((lowercase, 1.0), (contraction, 1.0), (misspelling, 0.05), (space, 1.0)))
