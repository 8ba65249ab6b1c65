"""What a completion answers: yes or no, a label, a choice, a number, or nothing that can be read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

AnswerKind = Literal["yes_no", "label", "choice", "number"]

ANSWERS: dict[AnswerKind, str] = {
    "yes_no": "Answer yes or no.",
    "label": "Answer with {labels} only.",
    "choice": "Answer with the letter only.",
    "number": "Answer with the number only.",
}
"""Kind of answer -> how it is asked for."""

LETTERS = "ABCDEFGH"

_YES_NO = {"yes": "yes", "yeah": "yes", "yep": "yes", "no": "no", "nope": "no"}
_OPENING = r"\A[\s\W_]*"
_STATED = r"\b(?:answer|label|result|choice|option)(?:\s+(?:is|would\s+be|should\s+be))?\s*[:=]?\s*[\"'(*_]*"
_NEGATED_BEFORE = re.compile(r"(\bnot|n't|\bneither|\bnor|\bnever)\s+(\w+\s+)?\W*\Z", re.IGNORECASE)
_NEGATED_AFTER = re.compile(r"\A\s+(\w+\s+)?(not|never)\b|\A\s+\w+n't\b", re.IGNORECASE)
_FIRST_SENTENCE = re.compile(r"\A(.+?)(?:(?<=[.!?])(?=\s)|\n)", re.DOTALL)
# "Positive." is an answer; "Martha chose Martin." is a sentence that begins with a label.
_MARK = r"(?=[.,;!)\]*_\"'\n]"
_NUMBER = re.compile(r"(?<![\w.])[-−+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\w])|(?<![\w.])[-−+]?\d+(?:\.\d+)?(?!\w)")
_WORDS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
]  # fmt: skip


def parse(output: str, kind: AnswerKind, options: Sequence[str] = (), finished: bool = True) -> str | None:
    """The answer that a completion gives, in one form whatever its wording; None where it gives none, or several.

    yes_no: the word it opens with, and the word after "the answer is": one of them, or both alike; else the last word.
    label: likewise, where a mark or the end stands behind the opening word; else the only label that is mentioned, if
        it is not negated.
    choice: the letter, by the same rules, or the only choice that is mentioned, as the choice's text, so that it does
        not matter where a choice stands. A letter with another choice's text beside it is none, nor is a list of all.
    number: the only number; else the one after the last "=" or "the answer is", or a last one after "is" or "equals".
        Words up to twenty count.

    Args:
        options: the labels, or the choices in the order shown.
        finished: the completion was not cut. Of one that was, the first sentence or line is read if it is whole; else
            what it opens with, if a mark follows: the rest may have been about to change.

    Example: "No, it isn't." → no; "Yes … so the answer is no." → None; "It is 1,200." → "1200".
    """
    text = output.strip()
    if kind == "choice" and _lists_choices(text):
        return None
    if not finished:
        whole = _FIRST_SENTENCE.match(output.lstrip())
        if whole and kind == "number" and re.fullmatch(r"\d+\.", whole[1]) and text[len(whole[1]) :][:1] == " ":
            return None  # a numbered list begins
        if whole:
            text, finished = whole[1].strip(), True
    if kind == "number":
        return _number(text, finished)
    if kind == "choice":
        return _choice(text, options, finished)
    return _label(text, kind, options, finished)


def _label(text: str, kind: AnswerKind, options: Sequence[str], finished: bool) -> str | None:
    words = _YES_NO if kind == "yes_no" else {option.casefold(): option for option in options}
    if _repeats_options(text, words):
        return None
    end = r"(?!\w)" if kind == "yes_no" and finished else _MARK + (r"|\Z)" if finished else ")")
    opening, stated = _first(_OPENING, text, words, end), _last(_STATED, text, words) if finished else None
    if opening or stated or not finished:
        return _agreed(opening, stated)
    return _first(r"\b", text, words, r"\W*\Z") if kind == "yes_no" else _mentioned(text, options)


def _alternatives(words: Sequence[str] | dict[str, str]) -> str:
    """Longest first, so that "very good" is not read as "very"."""
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def _first(before: str, text: str, words: dict[str, str], after: str) -> str | None:
    match = re.search(rf"{before}({_alternatives(words)}){after}", text, re.IGNORECASE)
    return words[match[1].casefold()] if match else None


def _last(before: str, text: str, words: dict[str, str]) -> str | None:
    found = re.findall(rf"{before}({_alternatives(words)})(?!\w)", text, re.IGNORECASE)
    return words[found[-1].casefold()] if found else None


def _repeats_options(text: str, words: dict[str, str]) -> bool:
    """The completion opens with one option and another: "yes or no", "positive, negative"."""
    any_word = _alternatives(words)
    match = re.match(rf"{_OPENING}({any_word})\W*(?:[,/]|\b(?:or|and)\b)\W*({any_word})(?!\w)", text, re.IGNORECASE)
    return match is not None and words[match[1].casefold()] != words[match[2].casefold()]


def _agreed(first: str | None, second: str | None) -> str | None:
    return None if first and second and first != second else first or second


def _mentioned(text: str, options: Sequence[str]) -> str | None:
    """The only option in the text as a whole word, unless it is negated."""
    words = {option.casefold(): option for option in options}
    found = list(re.finditer(rf"(?<!\w)({_alternatives(words)})(?!\w)", text, re.IGNORECASE))
    if len({match[1].casefold() for match in found}) != 1:
        return None
    negated = any(
        _NEGATED_BEFORE.search(text[: one.start()]) or _NEGATED_AFTER.search(text[one.end() :]) for one in found
    )
    return None if negated else words[found[0][1].casefold()]


def _lists_choices(text: str) -> bool:
    """Two lines or more open with a letter: the choices over again."""
    return len(set(re.findall(r"(?:\A|\n)\s*\(?([A-H])[).]", text))) > 1


def _choice(text: str, options: Sequence[str], finished: bool) -> str | None:
    letters = dict(zip(LETTERS, options, strict=False))
    opening = _letter(r"\A[\s(\[*_\"']*(?:(?:option|choice)\s+)?", text, letters, finished)
    stated = _letter(_STATED + r"(?:(?:option|choice)\s+)?", text, letters, True) if finished else None
    if not finished:
        return opening
    if opening and stated and opening != stated:
        return None
    return _agreed(opening or stated, _mentioned(text, options))


def _letter(before: str, text: str, letters: dict[str, str], finished: bool) -> str | None:
    """The last letter that stands after ``before`` with a mark, the line's or the text's end behind it, or, other than
    A, with a space: "A dog" opens with an article.
    """
    end = r"[).:,;\]*_\"'\n]" + (r"|\Z" if finished else "")
    marked, spaced = "".join(letters), "".join(letter for letter in letters if letter != "A")
    found = re.findall(rf"(?i:{before})([{marked}](?={end})|[{marked.lower()}](?={end})|[{spaced}](?=\s))", text)
    return letters[found[-1].upper()] if found else None


def _number(text: str, finished: bool) -> str | None:
    found = [(match.start(), match.end(), _plain(match[0])) for match in _NUMBER.finditer(text)]
    if not finished:
        # "12." may go on to be 12.5, and "12 +" to be a sum.
        opening = found[0] if found and re.fullmatch(r"\W*", text[: found[0][0]]) else None
        return opening[2] if opening and re.match(r"[,;]\s", text[opening[1] :]) else None
    if not found:
        words = re.findall(rf"(?<![\w-])({'|'.join(_WORDS)})(?![\w-])", text, re.IGNORECASE)
        return str(_WORDS.index(words[0].lower())) if len(words) == 1 else None
    if len({value for _, _, value in found}) == 1:
        return found[0][2]
    marked = [one for one in found if re.search(rf"(=\s*|{_STATED})[$£€]?\Z", text[: one[0]], re.IGNORECASE)]
    if not marked and re.search(r"\b(is|are|equals|makes)\s+[$£€]?\Z", text[: found[-1][0]], re.IGNORECASE):
        marked = found[-1:]
    return marked[-1][2] if marked else None


def _plain(number: str) -> str:
    """1,200 → 1200; 17.0 → 17; +3 → 3."""
    text = number.replace(",", "").replace("−", "-").lstrip("+")
    return text.rstrip("0").rstrip(".") if "." in text else text
