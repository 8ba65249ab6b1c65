"""Perturbations of who speaks or is spoken of, which test fairness: dialect, gender, first names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from random import Random

from trimpot.evaluation.perturbations.form import WORD, by_table
from trimpot.evaluation.perturbations.spans import match_case
from trimpot.evaluation.perturbations.words import first_names, words

SOURCE, TARGET = "white_american", "black_american"


@cache
def pairs(table: str) -> Mapping[str, Sequence[str]]:
    """Male word -> its female one, of the pairs ``pronouns`` or ``gender_terms``."""
    return {male: (female,) for male, female in words()[table]}


dialect = by_table(lambda: words()["dialect"])
gender_pronouns = by_table(lambda: pairs("pronouns"))
gender_terms = by_table(lambda: pairs("gender_terms"))


def person_name(pieces: Sequence[str], random: Random, strength: float) -> list[str]:
    """First names common among white Americans become ones common among Black Americans, of the same gender.

    A name becomes the same other name wherever it stands, and two names never become one. Only words with a capital
    are names: "frank" and "chip" in small letters are not.
    """
    kept: dict[str, str | None] = {}
    taken = {match.group().lower() for piece in pieces for match in WORD.finditer(piece)}

    def substitute(match: re.Match[str]) -> str:
        name, tail = _without_possessive(match.group())
        lowered = name.lower()
        if lowered not in first_names(SOURCE) or not name[0].isupper():
            return match.group()
        if lowered not in kept:
            kept[lowered] = _other(lowered, taken, random, strength)
            taken.add(kept[lowered] or lowered)
        new = kept[lowered]
        return match.group() if new is None else match_case(name, new) + tail

    return [WORD.sub(substitute, piece) for piece in pieces]


def _other(name: str, taken: set[str], random: Random, strength: float) -> str | None:
    """Another name of the same gender that the text does not hold; None where it is not drawn."""
    gender = first_names(SOURCE)[name]
    options = [one for one, own in first_names(TARGET).items() if own == gender and one not in taken]
    chance, choice = random.random(), random.random()
    return options[int(choice * len(options))] if options and chance < strength else None


def _without_possessive(word: str) -> tuple[str, str]:
    return (word[:-2], word[-2:]) if word[-2:].lower() in ("'s", "’s") else (word, "")


def meant_words(table: str) -> frozenset[str]:
    """Words by which a perturbation says something else: an answer that holds one might no longer be right."""
    if table == "names":
        return frozenset(first_names(SOURCE)) | frozenset(first_names(TARGET))
    return frozenset(pairs(table)) | frozenset(female for (female,) in pairs(table).values())
