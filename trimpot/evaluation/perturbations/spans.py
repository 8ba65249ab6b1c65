"""Which parts of a prompt a perturbation may touch: the user's own words, and neither numbers, labels nor answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random

from trimpot.evaluation.language_model import Prompt

_NUMBER = r"\S*\d\S*"
_CODE = r"```.*?```|`[^`\n]*`"
_QUOTED = r'"[^"\n]*"|“[^”\n]*”'
# "A. ", "(b) " of choices and "Question:" of a template, at the beginning of a line.
_LABEL = r"^[ \t]*\(?[A-Za-z][.):](?=\s)|^[ \t]*[A-Z][A-Za-z]*[ \t]?:"
# A letter that stands alone is a variable or names a choice; "a" and "I" are words.
_SYMBOL = r"(?<![\w'’])[B-HJ-Zb-hj-z](?![\w'’])"
_PROTECTED = f"{_CODE}|{_QUOTED}|{_LABEL}|{_NUMBER}|{_SYMBOL}"
_BEGINNING = re.compile(r"[A-Z][A-Za-z]*[ \t]?:")


@dataclass(frozen=True)
class Pieces:
    """A text as free and fixed pieces in turn: free[0] fixed[0] free[1] … free[-1]; one more free than fixed."""

    free: tuple[str, ...]
    fixed: tuple[str, ...]

    def joined(self, free: Sequence[str]) -> str:
        """The text with other free pieces."""
        between = (*self.fixed, "")
        return "".join(piece + fixed for piece, fixed in zip(free, between, strict=True))


def pieces(text: str, keep: Iterable[str] = ()) -> Pieces:
    """Parts a text into what may be changed and what stays.

    What stays: white space at both ends (a trailing space decides how the answer is tokenized), every word with a
    digit, letters that stand alone (but "a" and "I"), code, quoted text, labels at the beginning of a line, and every
    place of the texts in ``keep``.

    Args:
        keep: the choices and the answer; found as whole words, whatever their case.

    Example: "A. the 2 cats" has the free pieces "", " the ", " cats" and the fixed ones "A.", "2".
    Edge cases: an empty text is one empty free piece.
    """
    phrases = sorted({one.strip() for one in keep if one.strip()}, key=lambda one: (-len(one), one))
    kept = "|".join(rf"(?<!\w){re.escape(one)}(?!\w)" for one in phrases)
    pattern = rf"\A\s+|\s+\Z|(?i:{kept})|{_PROTECTED}" if kept else rf"\A\s+|\s+\Z|{_PROTECTED}"
    free, fixed, end = [], [], 0
    for match in re.finditer(pattern, text, re.MULTILINE | re.DOTALL):
        if match.end() > match.start():
            free.append(text[end : match.start()])
            fixed.append(match.group())
            end = match.end()
    return Pieces((*free, text[end:]), tuple(fixed))


def asked(prompt: Prompt) -> tuple[str, str] | None:
    """(what stands before, the user's own text) of a prompt: what a perturbation may change is the second part.

    Of a conversation the last user turn. Of a text all of it, but for few-shot examples: where blocks that are parted
    by an empty line begin with the label of the last block ("Question:"), they are examples, and stay.

    Edge cases: a conversation without a user turn: None.
    """
    if isinstance(prompt, str):
        blocks = prompt.split("\n\n")
        labels = [match.group() if (match := _BEGINNING.match(block)) else None for block in blocks]
        if len(blocks) > 1 and labels[-1] is not None and labels[-1] in labels[:-1]:
            return "\n\n".join(blocks[:-1]) + "\n\n", blocks[-1]
        return "", prompt
    turns = [message.content for message in prompt if message.role == "user"]
    return ("", turns[-1]) if turns else None


Change = Callable[[Sequence[str], Random, float], list[str]]
"""Free pieces, a random stream and a strength in [0, 1] -> the pieces changed. Strength 0 changes nothing."""


def match_case(source: str, target: str) -> str:
    """``target`` in the case of ``source``: all small, all capitals (of two letters or more), or a capital first.

    Example: "With", "wit" gives "Wit"; "IT IS", "it's" gives "IT'S".
    Source: HELM's ``match_case``, with spaces and apostrophes left aside.
    """
    letters = [letter for letter in source if letter.isalpha()]
    if len(letters) > 1 and all(letter.isupper() for letter in letters):
        return target.upper()
    if letters and letters[0].isupper():
        return target[:1].upper() + target[1:]
    return target
