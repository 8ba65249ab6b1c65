"""The constraints: how each is drawn, said, checked, and met by an example."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trimpot.evaluation.suites.instructions.text import bullets, occurrences, paragraphs, script_share, sentences, words

Settings = Mapping[str, Any]
"""What is drawn for one constraint: numbers and words."""

KEYWORDS = ("morning", "window", "garden", "simple", "together", "journey", "river", "yellow", "carefully", "table")
LETTERS_SHARE = 0.9
"""The share of letters that have to be of the script that is asked for; names may keep theirs."""


@dataclass(frozen=True)
class Check:
    """A constraint.

    Args:
        group: length, keywords, format, case, position, punctuation or script: a slice.
        claims: what of a text it decides; constraints of one request have no claim in common.
        draw: a generator -> the settings.
        say: settings -> the sentence in the request.
        holds: (text, settings) -> whether a text keeps it.
        meet: (text, settings) -> the text changed so that it does; for examples of right answers.
    """

    group: str
    claims: frozenset[str]
    draw: Callable[[random.Random], dict[str, Any]]
    say: Callable[[Settings], str]
    holds: Callable[[str, Settings], bool]
    meet: Callable[[str, Settings], str]


def _count(low: int, high: int) -> Callable[[random.Random], dict[str, Any]]:
    return lambda draw: {"count": draw.randint(low, high)}


def _no_settings(draw: random.Random) -> dict[str, Any]:
    return {}


def _inserted(text: str, addition: str, times: int = 1) -> str:
    """The addition before the last word."""
    head, space, last = text.rpartition(" ")
    return head + f" {addition}" * times + space + last


def _more_words(text: str, settings: Settings) -> str:
    return _inserted(text, "calm", max(0, settings["count"] - len(words(text))))


def _json_of(text: str) -> object:
    """The text as JSON; a fence of a code block around it is no fault."""
    inner = re.fullmatch(r"```(?:json)?\s*\n(.*?)\n?```", text.strip(), re.DOTALL)
    return json.loads(inner.group(1) if inner else text)


def _is_json(text: str, settings: Settings) -> bool:
    try:
        found = _json_of(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and set(settings["keys"]) <= found.keys()


def _shares_script(text: str, settings: Settings) -> bool:
    share = script_share(text, settings["script"])
    return share is not None and share >= LETTERS_SHARE


def _title(text: str, settings: Settings) -> bool:
    return re.match(r"\s*\[[^\[\]\n]*\w[^\[\]\n]*\]", text) is not None


def _capital_words(text: str) -> int:
    return sum(len(word) > 1 and word.isupper() for word in words(text))


def _claims(names: str) -> frozenset[str]:
    return frozenset(names.split())


_ALL = "length start end keywords forbidden marks punctuation keys"

CHECKS: Mapping[str, Check] = {
    "words_at_least": Check(
        "length",
        _claims("length"),
        _count(8, 20),
        lambda s: f"Use at least {s['count']} words.",
        lambda text, s: len(words(text)) >= s["count"],
        _more_words,
    ),
    "words_at_most": Check(
        "length",
        _claims("length"),
        _count(12, 25),
        lambda s: f"Use at most {s['count']} words.",
        lambda text, s: 0 < len(words(text)) <= s["count"],
        lambda text, s: text,
    ),
    "sentences": Check(
        "length",
        _claims("length"),
        _count(2, 3),
        lambda s: f"Write exactly {s['count']} sentences.",
        lambda text, s: sentences(text) == s["count"],
        lambda text, s: " ".join([text] * s["count"]),
    ),
    "paragraphs": Check(
        "length",
        _claims("length start end"),
        _count(2, 3),
        lambda s: f"Write {s['count']} short paragraphs with a blank line between them.",
        lambda text, s: paragraphs(text) == s["count"],
        lambda text, s: "\n\n".join([text] * s["count"]),
    ),
    "bullets": Check(
        "format",
        _claims("length start end"),
        _count(2, 4),
        lambda s: f'Answer with a list of exactly {s["count"]} lines that begin with "- ".',
        lambda text, s: bullets(text) == s["count"],
        lambda text, s: "\n".join([f"- {text}"] * s["count"]),
    ),
    "json": Check(
        "format",
        _claims(_ALL),
        lambda draw: {"keys": sorted(draw.sample(["name", "reason", "place", "colour", "size", "use"], 2))},
        lambda s: f'Answer with one JSON object with the keys "{s["keys"][0]}" and "{s["keys"][1]}", and nothing else.',
        _is_json,
        lambda text, s: json.dumps({key: "a short text" for key in s["keys"]}),
    ),
    "title": Check(
        "format",
        _claims("start"),
        _no_settings,
        lambda s: "Begin with a title in square brackets, such as [title].",
        _title,
        lambda text, s: f"[Title] {text}",
    ),
    "highlights": Check(
        "format",
        _claims("marks"),
        _count(1, 2),
        lambda s: f"Highlight at least {s['count']} word{'s' if s['count'] > 1 else ''} with *asterisks*.",
        lambda text, s: len(re.findall(r"(?<!\*)\*[^\s*](?:[^*\n]*[^\s*])?\*(?!\*)", text)) >= s["count"],
        lambda text, s: _inserted(text, "*calm*", s["count"]),
    ),
    "quotation": Check(
        "format",
        _claims("start end"),
        _no_settings,
        lambda s: 'Wrap the whole answer in double quotation marks ("").',
        lambda text, s: len(text.strip()) > 2 and text.strip()[0] in '"“' and text.strip()[-1] in '"”',
        lambda text, s: f'"{text}"',
    ),
    "include": Check(
        "keywords",
        _claims("keywords"),
        lambda draw: {"words": draw.sample(KEYWORDS, 2)},
        lambda s: f'Use the words "{s["words"][0]}" and "{s["words"][1]}".',
        lambda text, s: all(occurrences(word, text) for word in s["words"]),
        lambda text, s: _inserted(text, " ".join(s["words"])),
    ),
    "frequency": Check(
        "keywords",
        _claims("keywords"),
        lambda draw: {"word": draw.choice(KEYWORDS), "count": draw.randint(2, 3)},
        lambda s: f'Use the word "{s["word"]}" at least {s["count"]} times.',
        lambda text, s: occurrences(s["word"], text) >= s["count"],
        lambda text, s: _inserted(text, s["word"], s["count"]),
    ),
    "forbid": Check(
        "keywords",
        _claims("forbidden length"),
        lambda draw: {"words": draw.sample(["the", "and", "of", "to", "is", "in"], 2), "count": draw.randint(6, 10)},
        lambda s: f'Use at least {s["count"]} words, but not "{s["words"][0]}" and not "{s["words"][1]}".',
        lambda text, s: len(words(text)) >= s["count"] and not any(occurrences(word, text) for word in s["words"]),
        lambda text, s: _more_words("A short text.", s),
    ),
    "lowercase": Check(
        "case",
        _claims("case"),
        _no_settings,
        lambda s: "Write in lowercase letters only.",
        lambda text, s: text == text.lower() and any(map(str.isalpha, text)),
        lambda text, s: text.lower(),
    ),
    "uppercase": Check(
        "case",
        _claims("case keys"),
        _no_settings,
        lambda s: "Write in capital letters only.",
        lambda text, s: text == text.upper() and any(map(str.isalpha, text)),
        lambda text, s: text.upper(),
    ),
    "capital_words": Check(
        "case",
        _claims("case keys"),
        _count(1, 3),
        lambda s: f"Write at least {s['count']} word{'s' if s['count'] > 1 else ''} in capital letters only.",
        lambda text, s: _capital_words(text) >= s["count"],
        lambda text, s: _inserted(text, "CALM", s["count"]),
    ),
    "starts_with": Check(
        "position",
        _claims("start case"),
        lambda draw: {"text": draw.choice(["Today", "Well", "Once", "Here", "People", "Sometimes"])},
        lambda s: f'Begin with the word "{s["text"]}".',
        lambda text, s: re.match(rf"\s*{s['text']}\b", text) is not None,
        lambda text, s: f"{s['text']} {text[0].lower()}{text[1:]}",
    ),
    "ends_with": Check(
        "position",
        _claims("end length case"),
        lambda draw: {"text": draw.choice(["That is all.", "Thank you.", "The end.", "What do you think?"])},
        lambda s: f'End with the words "{s["text"]}" and nothing after them.',
        lambda text, s: text.rstrip().endswith(s["text"]),
        lambda text, s: f"{text} {s['text']}",
    ),
    "question": Check(
        "position",
        _claims("end"),
        _no_settings,
        lambda s: "End with a question mark.",
        lambda text, s: text.rstrip().endswith("?"),
        lambda text, s: text.rstrip(".") + "?",
    ),
    "postscript": Check(
        "position",
        _claims("end length case"),
        _no_settings,
        lambda s: 'Add a postscript at the end on a line of its own that begins with "P.S.".',
        lambda text, s: re.search(r"\n\s*P\.S\..*\w[^\n]*$", text.rstrip()) is not None,
        lambda text, s: f"{text}\nP.S. It was short.",
    ),
    "no_commas": Check(
        "punctuation",
        _claims("punctuation length"),
        _count(8, 15),
        lambda s: f"Use at least {s['count']} words and no commas.",
        lambda text, s: "," not in text and len(words(text)) >= s["count"],
        _more_words,
    ),
    "script": Check(
        "script",
        _claims(f"{_ALL} case"),
        lambda draw: {"script": draw.choice(["CYRILLIC", "GREEK"])},
        lambda s: f"Answer in {'Russian' if s['script'] == 'CYRILLIC' else 'Greek'}.",
        _shares_script,
        lambda text, s: "Это короткий текст." if s["script"] == "CYRILLIC" else "Αυτό είναι ένα σύντομο κείμενο.",
    ),
}
"""Name -> constraint. Source: the kinds are IFEval's (arXiv 2311.07911, table 1); words, numbers and code are ours."""

ORDER = (
    *("words_at_least", "words_at_most", "forbid", "no_commas", "sentences", "include", "frequency", "highlights"),
    *("capital_words", "paragraphs", "bullets", "json", "script", "question", "starts_with", "title", "ends_with"),
    *("postscript", "quotation", "lowercase", "uppercase"),
)
"""In which constraints are met one after the other by an example: what moves text comes before what wraps it."""
EXAMPLE = "This is a short text."
