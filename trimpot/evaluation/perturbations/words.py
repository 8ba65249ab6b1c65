"""The word lists that perturbations read; NOTICE in the folder data says whose they are. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def words() -> Mapping[str, Any]:
    """The tables of ``data/words.json``: contractions, fillers, keyboard, pronouns, names, dialect, synonyms."""
    return _read("words.json")


@cache
def misspellings() -> Mapping[str, list[str]]:
    """Lower-case word -> its common misspellings."""
    return _read("misspellings.json")


@cache
def expansions() -> Mapping[str, str]:
    """Short form, lower case -> long form: "can't" -> "cannot"."""
    return words()["contractions"]


@cache
def contractions() -> Mapping[str, str]:
    """Long form, lower case -> short form; where two share one, the last: "is not" -> "isn't".

    Forms of three words ("he'd've") are expanded only: nobody contracts "he would have" so far.
    """
    return {long.lower(): short for short, long in expansions().items() if short.count("'") == 1}


@cache
def first_names(race: str) -> Mapping[str, str]:
    """First name, lower case -> its gender, of the names of ``white_american`` or ``black_american``."""
    return {name: gender for gender, names in words()["first_names"][race].items() for name in names}


def _read(name: str) -> Any:
    return json.loads((files(__package__) / "data" / name).read_text(encoding="utf-8"))
