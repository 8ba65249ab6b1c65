"""Changes of a text: those that must not change an answer, and negation, which turns it round."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

Words = Mapping[str, Sequence[str]]
"""The lexicons of plain words that names and places are found in: female_name, male_name, city, country."""

Change = Callable[[str, Random, Words], str | None]
"""The text, a random stream and lexicons -> the changed text; None where the change does not apply."""


@dataclass(frozen=True)
class Perturbation:
    """A change, and what it does to the answer: keeps it or turns it round."""

    change: Change
    answer: Literal["kept", "reversed"]
    about: str


_EXPANDED = {
    "i'm": "i am", "you're": "you are", "we're": "we are", "they're": "they are", "he's": "he is", "she's": "she is",
    "it's": "it is", "that's": "that is", "there's": "there is", "what's": "what is", "who's": "who is",
    "where's": "where is", "i've": "i have", "you've": "you have", "we've": "we have", "they've": "they have",
    "i'll": "i will", "you'll": "you will", "he'll": "he will", "she'll": "she will", "it'll": "it will",
    "we'll": "we will", "they'll": "they will", "isn't": "is not", "aren't": "are not", "wasn't": "was not",
    "weren't": "were not", "don't": "do not", "doesn't": "does not", "didn't": "did not", "hasn't": "has not",
    "haven't": "have not", "hadn't": "had not", "won't": "will not", "wouldn't": "would not", "can't": "cannot",
    "couldn't": "could not", "shouldn't": "should not", "mustn't": "must not", "needn't": "need not",
}  # fmt: skip
_CONTRACTED = {long: short for short, long in _EXPANDED.items()}
_EXPANDABLE = re.compile(rf"\b({'|'.join(map(re.escape, _EXPANDED))})\b", re.IGNORECASE)
# "Yes, it is." has no short form: a word must follow.
_CONTRACTIBLE = re.compile(rf"\b({'|'.join(sorted(_CONTRACTED, key=len, reverse=True))})(?= \w)", re.IGNORECASE)
_AUXILIARY = re.compile(
    r"\b(is|are|was|were|am|can|could|will|would|should|must|may|might|has|have|had|does|do|did)\b(?!n't| not\b|')",
    re.IGNORECASE,
)
_IRREGULAR = {"won't": "will", "can't": "can", "cannot": "can", "shan't": "shall"}
_NEGATION = re.compile(r"\b(?P<whole>won't|can't|cannot|shan't)\b|n't\b|\s+not\b", re.IGNORECASE)
_WEB = ("https://t.co/{}", "@{}", "www.{}.com")


def punctuation(text: str, random: Random, words: Words) -> str | None:
    """Takes the marks at the end away, or puts a full stop where there are none."""
    bare = re.sub(r"[.!?,;:]+\s*\Z", "", text)
    if not bare.strip():
        return None
    return bare if bare != text else text + "."


def typos(text: str, random: Random, words: Words) -> str | None:
    """Swaps two different neighbouring letters inside a small-letter word of four letters or more, never its first.

    Edge cases: a text without such a word has none. CheckList may swap two equal letters, and so change nothing.
    """
    places = [
        at
        for word in re.finditer(r"(?<!\w)[a-z]{4,}(?!\w)", text)
        for at in range(word.start() + 1, word.end() - 1)
        if text[at] != text[at + 1]
    ]
    if not places:
        return None
    at = random.choice(places)
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def contractions(text: str, random: Random, words: Words) -> str | None:
    """Writes every short form out (it's → it is); a text without one gets them (it is → it's)."""
    longer = _EXPANDABLE.sub(lambda match: _as_written(match[0], _EXPANDED[match[0].lower()]), text)
    if longer != text:
        return longer
    shorter = _CONTRACTIBLE.sub(lambda match: _as_written(match[0], _CONTRACTED[match[0].lower()]), text)
    return shorter if shorter != text else None


def _as_written(old: str, new: str) -> str:
    """``new`` with the first letter's case of ``old``; I is always a capital."""
    capital = old[0].isupper() or re.match(r"i\b", new)
    return new[0].upper() + new[1:] if capital else new


def negation_added(text: str, random: Random, words: Words) -> str | None:
    """Puts "not" behind the first auxiliary verb of the first statement that has one ("can" becomes "cannot").

    Edge cases: questions are left as they are; a text whose statements have no auxiliary, or are negated, has none.
    Source: CheckList's ``add_negation``, without its parser, and so without "do" for full verbs.
    """
    parts = re.split(r"(?<=[.!?])(\s+)", text)
    for number, sentence in enumerate(parts):
        match = _AUXILIARY.search(sentence)
        if match is None or sentence.endswith("?") or _NEGATION.search(sentence):
            continue
        word = match[0] + ("not" if match[0].lower() == "can" else " not")
        parts[number] = sentence[: match.start()] + word + sentence[match.end() :]
        return "".join(parts)
    return None


def negation_removed(text: str, random: Random, words: Words) -> str | None:
    """Takes the first "not", "n't" or "cannot" away."""
    match = _NEGATION.search(text)
    if match is None:
        return None
    whole = match["whole"]
    rest = _as_written(whole, _IRREGULAR[whole.lower()]) if whole else ""
    return text[: match.start()] + rest + text[match.end() :]


def names(text: str, random: Random, words: Words) -> str | None:
    """Puts another first name of the same gender for one that is in the text, wherever it stands."""
    return _swapped(text, random, [words["female_name"], words["male_name"]])


def locations(text: str, random: Random, words: Words) -> str | None:
    """Puts another city for a city of the text, or another country for a country, wherever it stands."""
    return _swapped(text, random, [words["city"], words["country"]])


def _swapped(text: str, random: Random, lists: Sequence[Sequence[str]]) -> str | None:
    found = []
    for many in lists:
        there = [word for word in many if re.search(rf"\b{re.escape(word)}\b", text)]
        # One that is in the text already would make two of them one.
        others = [word for word in many if word not in there]
        found += [(word, others) for word in there if others]
    if not found:
        return None
    old, others = random.choice(found)
    return re.sub(rf"\b{re.escape(old)}\b", random.choice(others), text)


def numbers(text: str, random: Random, words: Words) -> str | None:
    """Puts a number within 20% (at least 1 away, at least 1 itself) for one of the text, wherever it stands.

    Edge cases: decimals, 1,200 and digits in words stay; one that is in the text already is not put in.
    """
    there = sorted({match[0] for match in re.finditer(r"(?<![\w.,])\d+(?![\w]|[.,]\d)", text)})
    found = []
    for old in there:
        reach = int(int(old) * 0.2) + 1
        near = range(max(1, int(old) - reach), int(old) + reach + 1)
        free = [value for value in near if value != int(old) and str(value) not in there]
        found += [(old, free)] if free else []
    if not found:
        return None
    old, free = random.choice(found)
    return re.sub(rf"(?<![\w.,]){old}(?!\w|[.,]\d)", str(random.choice(free)), text)


def web(text: str, random: Random, words: Words) -> str | None:
    """Puts an address or a handle of random letters before or after the text."""
    letters = "".join(random.choice("bcdfghjklmnpqrstvwxz0123456789") for _ in range(8))
    added = random.choice(_WEB).format(letters)
    return f"{added} {text}" if random.random() < 0.5 else f"{text} {added}"


def lowercase(text: str, random: Random, words: Words) -> str | None:
    """All letters small."""
    return text.lower() if text.lower() != text else None


def spaces(text: str, random: Random, words: Words) -> str | None:
    """Doubles one space, chosen at random."""
    places = [match.start() for match in re.finditer(r"(?<=\S) (?=\S)", text)]
    if not places:
        return None
    at = random.choice(places)
    return f"{text[:at]} {text[at:]}"


PERTURBATIONS: dict[str, Perturbation] = {
    "punctuation": Perturbation(punctuation, "kept", "end marks taken away or put"),
    "typos": Perturbation(typos, "kept", "two neighbouring letters swapped"),
    "contractions": Perturbation(contractions, "kept", "short forms written out, or the reverse"),
    "lowercase": Perturbation(lowercase, "kept", "no capitals"),
    "spaces": Perturbation(spaces, "kept", "one space doubled"),
    "web": Perturbation(web, "kept", "an address or a handle added"),
    "names": Perturbation(names, "kept", "another first name of the same gender"),
    "locations": Perturbation(locations, "kept", "another city or country"),
    "numbers": Perturbation(numbers, "kept", "another number, within 20%"),
    "negation_added": Perturbation(negation_added, "reversed", "not put behind the first auxiliary verb"),
    "negation_removed": Perturbation(negation_removed, "reversed", "the first not or n't taken away"),
}
"""Name -> perturbation. Source: Ribeiro et al. 2020, arXiv 2005.04118, the library's ``Perturb``; rules: ours."""
