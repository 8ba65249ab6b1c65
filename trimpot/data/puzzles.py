"""Easy tasks of reasoning-gym in short words: what the embedded data set asks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from trimpot.data.logic import follows

Metadata = Mapping[str, Any]


@dataclass(frozen=True)
class Puzzle:
    """A question in our wording, its answer, and the key that decides its split.

    Questions with the same key (the same numbers in another order) always share a split.
    """

    question: str
    answer: str
    key: str


@dataclass(frozen=True)
class Task:
    """A generator of reasoning-gym with its settings per difficulty, and our wording of its entries.

    ``word(metadata, answer)`` gives None for an entry that is not to be asked.
    """

    dataset: str
    easy: Mapping[str, object]
    medium: Mapping[str, object]
    word: Callable[[Metadata, str], Puzzle | None]

    def settings(self, difficulty: str) -> Mapping[str, object]:
        return self.easy if difficulty == "easy" else self.medium


def _puzzle(question: str, answer: str) -> Puzzle:
    return Puzzle(question, answer, " ".join(sorted(re.findall(r"\w+|[-+*]", question))))


def _sum(metadata: Metadata, answer: str) -> Puzzle:
    return _puzzle(f"{metadata['expression']} =", answer)


def _letters(metadata: Metadata, answer: str) -> Puzzle:
    text = " ".join(metadata["span"])
    return _puzzle(f'How often is the letter "{metadata["target_letter"]}" in "{text}"?', answer)


def _divisor(metadata: Metadata, answer: str) -> Puzzle:
    numbers = " and ".join(map(str, metadata["numbers"]))
    return _puzzle(f"Greatest common divisor of {numbers}?", answer)


def _sorting(metadata: Metadata, answer: str) -> Puzzle:
    given = [int(float(number)) for number in metadata["original_numbers"]]
    done = [int(float(number)) for number in metadata["sorted_numbers"]]
    order = "smallest" if metadata["direction"] == "ascending" else "largest"
    return _puzzle(f"Sort, {order} first: {', '.join(map(str, given))}", ", ".join(map(str, done)))


def _weekday(metadata: Metadata, answer: str) -> Puzzle:
    start, offset = date.fromisoformat(metadata["start_date"]), int(metadata["offset_days"])
    days = f"{abs(offset)} day{'s' if abs(offset) > 1 else ''}"
    then = f"will it be in {days}" if offset > 0 else f"was it {days} ago"
    question = f"Today is {start:%A}, {start:%B} {start.day}. Which weekday {then}?"
    return Puzzle(question, answer, f"{start:%A} {offset}")


def _syllogism(metadata: Metadata, answer: str) -> Puzzle | None:
    premises, conclusion = (metadata["premise1"], metadata["premise2"]), metadata["conclusion"]
    # reasoning-gym 0.1.25 calls about a quarter of these valid that are not ("All A are B, some B are C, so some
    # A are C"), and some hang on whether a class may be empty. Only answers that logic agrees with are asked.
    if follows(premises, conclusion) is not (answer == "Yes"):
        return None
    claim = conclusion[0].lower() + conclusion[1:]
    return _puzzle(f"{'. '.join(premises)}. Does it follow that {claim}? Yes or No", answer)


def _legs(metadata: Metadata, answer: str) -> Puzzle:
    animals = ", ".join(f"{count} {animal}{'s' if count > 1 else ''}" for animal, count in metadata["animals"].items())
    return _puzzle(f"Number of legs in all: {animals}", answer)


TASKS: Mapping[str, Task] = {
    "sum": Task(
        "chain_sum",
        {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2},
        {"min_terms": 3, "max_terms": 3, "min_digits": 1, "max_digits": 2},
        _sum,
    ),
    "letter_counting": Task(
        "letter_counting", {"min_words": 2, "max_words": 3}, {"min_words": 4, "max_words": 6}, _letters
    ),
    "greatest_common_divisor": Task(
        "gcd", {"min_value": 2, "max_value": 40}, {"min_value": 20, "max_value": 99}, _divisor
    ),
    "number_sorting": Task(
        "number_sorting",
        {"min_numbers": 3, "max_numbers": 3, "min_decimals": 0, "max_decimals": 0, "min_value": 0, "max_value": 99},
        {"min_numbers": 4, "max_numbers": 4, "min_decimals": 0, "max_decimals": 0, "min_value": 0, "max_value": 99},
        _sorting,
    ),
    "weekday": Task(
        "calendar_arithmetic",
        {"tasks": ["weekday_offset"], "offset_upper_bound": 3},
        {"tasks": ["weekday_offset"], "offset_upper_bound": 10},
        _weekday,
    ),
    "syllogism": Task("syllogism", {"inversion_probability": 0.0}, {"inversion_probability": 1.0}, _syllogism),
    "leg_counting": Task(
        "leg_counting",
        {"min_animals": 1, "max_animals": 1, "min_instances": 1, "max_instances": 9},
        {"min_animals": 2, "max_animals": 2, "min_instances": 1, "max_instances": 4},
        _legs,
    ),
}
