"""Words, sentences and paragraphs of a text, as the checks of instructions count them."""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"\w+(?:['’\-]\w+)*")
_END = re.compile(r"[.!?…]+[\"'”’)\]*]*(?=\s|$)")
_ABBREVIATION = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|etc|No|Fig|approx|e\.g|i\.e|cf)|\b[A-Z])\.$")


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores; with an apostrophe or hyphen within ("it's", "well-known") one word."""
    return _WORD.findall(text)


def occurrences(word: str, text: str) -> int:
    """How often a word stands in a text, whole, whatever its letter case."""
    return len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE))


def sentences(text: str) -> int:
    """Pieces with at least one word that end with . ! ? or …, or with a line.

    A full stop after an abbreviation (Dr., e.g.) or a single capital letter ends nothing, nor does one without white
    space after it (3.5). A number that opens a line ("1. ") ends nothing.

    Source: ours; IFEval uses NLTK's trained splitter, which is a download.
    """
    count = 0
    for line in text.splitlines():
        line = re.sub(r"^\s*(?:\d+[.)]|[-*•#]+)\s+", "", line)
        begin = 0
        for end in _END.finditer(line):
            if end.end() < len(line.rstrip()) and _ABBREVIATION.search(line[begin : end.start() + 1]):
                continue
            count += bool(words(line[begin : end.end()]))
            begin = end.end()
        count += bool(words(line[begin:]))
    return count


def paragraphs(text: str) -> int:
    """Pieces with text between blank lines."""
    return len([piece for piece in re.split(r"\n\s*\n", text.strip()) if piece.strip()])


def bullets(text: str) -> int:
    """Lines that begin with "- ", "* " or "• "."""
    return len(re.findall(r"^\s*[-*•]\s+\S", text, re.MULTILINE))


def script_share(text: str, script: str) -> float | None:
    """The share of a text's letters that are of a script, as Unicode names it (CYRILLIC); None without letters."""
    letters = [letter for letter in text if letter.isalpha()]
    if not letters:
        return None
    return sum(unicodedata.name(letter, "").startswith(script + " ") for letter in letters) / len(letters)
