"""Verifiable questions of ten families, nine by reasoning-gym, at three difficulties; none is in the embedded data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from random import Random
from string import ascii_lowercase
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.core.rows import Message
from trimpot.core.seeds import seed_for
from trimpot.evaluation.task import Decoding, Item, Task

SYSTEM = Message("system", "Answer only.")
DIFFICULTIES = ("easy", "medium", "hard")
ITEMS = 60
"""Items of a family where nobody says how many."""
EXAMPLES = 3
"""Easy questions with their answers before each; a balanced family has 4, as many of either answer."""
DRAWS = 5000
"""Entries looked at in a row for a new one, before a family counts as exhausted."""

Words = Callable[[Mapping[str, Any], str], tuple[str, str] | None]
"""(metadata of an entry, its answer) -> our question and the answer, or None for an entry that is not asked."""


@dataclass(frozen=True)
class Family:
    """A generator, its settings for each difficulty, and our words.

    ``dataset``: of reasoning-gym, or of ``OWN``.
    ``balanced``: answers that alternate, so that no constant answer is right more often than one in as many.
    """

    dataset: str
    settings: tuple[Mapping[str, object], Mapping[str, object], Mapping[str, object]]
    words: Words
    max_tokens: int = 24
    balanced: tuple[str, ...] = ()


def _expression(metadata: Mapping[str, Any], answer: str) -> tuple[str, str]:
    return f"{metadata['expression']} =", answer


def _product(metadata: Mapping[str, Any], answer: str) -> tuple[str, str] | None:
    # A fifth of the products of two digits would have one answer.
    return None if answer == "0" else _expression(metadata, answer)


def _equation(metadata: Mapping[str, Any], answer: str) -> tuple[str, str]:
    return f"{metadata['equation']}. What is {metadata['variable']}?", answer


def _sequence(metadata: Mapping[str, Any], answer: str) -> tuple[str, str] | None:
    # Halving runs into 0 and −1, which would answer one item in six, and other rules stand still.
    if abs(int(answer)) <= 1 or metadata["sequence"][-1] == metadata["sequence"][-2]:
        return None
    return f"Which number comes next? {', '.join(map(str, metadata['sequence'][:-1]))}", answer


def _legs(metadata: Mapping[str, Any], answer: str) -> tuple[str, str]:
    animals = ", ".join(f"{count} {animal}{'s' if count > 1 else ''}" for animal, count in metadata["animals"].items())
    return f"Number of legs in all: {animals}", answer


def _sorted_words(metadata: Mapping[str, Any], answer: str) -> tuple[str, str] | None:
    words = [word.lower() for word in metadata["original_words"]]
    if len(set(words)) < len(words) or words == sorted(words):
        return None
    return f"Sort in alphabetical order: {', '.join(words)}", ", ".join(sorted(words))


def _backward(metadata: Mapping[str, Any], answer: str) -> tuple[str, str] | None:
    word = metadata["word"].lower()
    if word == word[::-1]:
        return None
    return f"Spell this word backward: {word}", word[::-1]


def _from_letters(metadata: Mapping[str, Any], answer: str) -> tuple[str, str]:
    note, letters = metadata["ransom_note"], metadata["magazine"]
    question = f'Can "{note}" be written with the letters "{letters}", each used once at most? Yes or No'
    return question, "Yes" if answer == "True" else "No"


def _letter_entries(seed: int, length: int, letters: int) -> Iterator[dict[str, Any]]:
    """A word's letters, and letters that hold them all or lack one: both are as long whatever the answer is.

    Ours, as reasoning-gym's ransom_note (0.1.25) gives other questions in every process: it draws from a set.
    """
    draw = Random(seed)
    while True:
        some = [draw.choice(ascii_lowercase) for _ in range(letters)]
        note, enough = draw.sample(some, length), draw.random() < 0.5
        if not enough:
            place = draw.randrange(length)
            others = [one for one in ascii_lowercase if note.count(one) - (note[place] == one) >= some.count(one)]
            note[place] = draw.choice(others)
        metadata = {"ransom_note": "".join(note), "magazine": "".join(some)}
        yield {"question": "", "answer": str(enough), "metadata": metadata}


OWN = {"letters": _letter_entries}


def _nothing(metadata: Mapping[str, Any], answer: str) -> tuple[str, str]:
    return metadata["question"], answer


FAMILIES: Mapping[str, Family] = {
    # The embedded sums have at most three terms of two digits, its animals are at most two kinds; other families it has
    # not.
    "sum": Family(
        "chain_sum",
        (
            {"min_terms": 4, "max_terms": 4, "min_digits": 1, "max_digits": 1},
            {"min_terms": 2, "max_terms": 2, "min_digits": 3, "max_digits": 3},
            {"min_terms": 3, "max_terms": 3, "min_digits": 3, "max_digits": 4},
        ),
        _expression,
    ),
    "product": Family(
        "products",
        (
            {"min_digits": 1, "max_digits": 1, "min_terms": 2, "max_terms": 2},
            {"min_digits": 2, "max_digits": 2, "min_terms": 2, "max_terms": 2},
            {"min_digits": 3, "max_digits": 3, "min_terms": 2, "max_terms": 2},
        ),
        _product,
    ),
    "equation": Family(
        "simple_equations",
        (
            {"min_terms": 2, "max_terms": 2, "max_value": 5},
            {"min_terms": 2, "max_terms": 3, "min_value": 2, "max_value": 20},
            {"min_terms": 3, "max_terms": 4, "min_value": 10, "max_value": 50},
        ),
        _equation,
    ),
    "sequence": Family(
        "number_sequence",
        (
            {"min_terms": 4, "max_terms": 6, "max_complexity": 1, "min_value": -20, "max_value": 20},
            {"min_terms": 5, "max_terms": 6, "max_complexity": 2, "min_value": -50, "max_value": 50},
            {"min_terms": 6, "max_terms": 8, "max_complexity": 3},
        ),
        _sequence,
    ),
    "legs": Family(
        "leg_counting",
        (
            {"min_animals": 3, "max_animals": 3, "max_instances": 1},
            {"min_animals": 3, "max_animals": 4, "max_instances": 4},
            {"min_animals": 5, "max_animals": 6, "max_instances": 12},
        ),
        _legs,
    ),
    "retrieval": Family(
        "needle_haystack",
        (
            {"min_num_statements": 2, "max_num_statements": 2},
            {"min_num_statements": 6, "max_num_statements": 6},
            {"min_num_statements": 20, "max_num_statements": 20},
        ),
        _nothing,
    ),
    "relations": Family(
        "family_relationships",
        (
            {"min_family_size": 3, "max_family_size": 3},
            {"min_family_size": 5, "max_family_size": 5},
            {"min_family_size": 8, "max_family_size": 8},
        ),
        _nothing,
    ),
    "word_order": Family(
        "word_sorting",
        (
            {"min_words": 3, "max_words": 3, "max_word_length": 6},
            {"min_words": 4, "max_words": 4, "max_word_length": 8},
            {"min_words": 6, "max_words": 6},
        ),
        _sorted_words,
        max_tokens=48,
    ),
    "spelling": Family(
        "spell_backward",
        (
            {"min_word_len": 3, "max_word_len": 3},
            {"min_word_len": 4, "max_word_len": 5},
            {"min_word_len": 6, "max_word_len": 8},
        ),
        _backward,
    ),
    "letters": Family(
        "letters",
        ({"length": 2, "letters": 5}, {"length": 4, "letters": 8}, {"length": 6, "letters": 14}),
        _from_letters,
        balanced=("Yes", "No"),
    ),
}


def reasoning_tasks(seed: int, items: int | None) -> list[Task]:
    """One task per family, each with as many items of every difficulty (slices ``task`` and ``difficulty``).

    Before every question stand three or four easy ones of the family with their answers, as turns of the conversation:
    they show the form of an answer, so that a score is not about that. No item repeats one of them.

    Answers are compared exactly, but for letter case and a final full stop. An item's cluster is itself: questions of a
    family are drawn independently.

    Raises:
        UsageError: more items wanted than a family has questions.
    Source: reasoning-gym (arXiv 2505.24760, Apache-2.0); words, settings and seeds are ours.
    """
    return [reasoning_task(name, seed, items) for name in FAMILIES]


def reasoning_task(name: str, seed: int, items: int | None) -> Task:
    """The task of one family; see ``reasoning_tasks``."""
    family, count = FAMILIES[name], ITEMS if items is None else items
    questions = _questions(name, family, seed)
    chosen = tuple(next(questions) for _ in range(count))
    return Task(f"reasoning/{name}", "generate", chosen, "exact", Decoding(max_tokens=family.max_tokens))


def _questions(name: str, family: Family, seed: int) -> Iterator[Item]:
    """New questions, easy, medium and hard in turn; of a balanced family each answer in turn at every difficulty."""
    entries = [
        _entries(family, settings, seed_for(seed, "suite", "reasoning", name, difficulty))
        for difficulty, settings in zip(DIFFICULTIES, family.settings, strict=True)
    ]
    source = f"reasoning-gym {version('reasoning-gym')}"
    examples = _examples(name, family, seed)
    seen = {turn.content for turn in examples}
    for number in range(2**31):
        turn, level = divmod(number, len(DIFFICULTIES))
        wanted = family.balanced[turn % len(family.balanced)] if family.balanced else None
        for _ in range(DRAWS):
            question, answer = next(entries[level])
            if question not in seen and wanted in (None, answer):
                break
        else:
            mend = f"Ask for at most {number} items per task."
            raise UsageError(f"suite reasoning: {name}", f"has {number} questions and no more", mend)
        seen.add(question)
        slices = {"task": name, "difficulty": DIFFICULTIES[level], "source": source}
        yield Item((SYSTEM, *examples, Message("user", question)), answer=answer, slices=slices)


def _examples(name: str, family: Family, seed: int) -> tuple[Message, ...]:
    """Turns of easy questions and their answers, the answers of a balanced family as often each."""
    entries = _entries(family, family.settings[0], seed_for(seed, "suite", "reasoning", name, "examples"))
    wanted: list[str | None] = [*family.balanced, *family.balanced] or [None] * EXAMPLES
    turns: dict[str, str] = {}
    for answer in wanted:
        question, given = next(one for one in entries if answer in (None, one[1]) and one[0] not in turns)
        turns[question] = given
    return tuple(
        turn for asked, given in turns.items() for turn in (Message("user", asked), Message("assistant", given))
    )


def _entries(family: Family, settings: Mapping[str, object], seed: int) -> Iterator[tuple[str, str]]:
    for entry in _made(family, settings, seed):
        worded = family.words({**entry["metadata"], "question": entry["question"].strip()}, str(entry["answer"]))
        if worded is not None:
            yield worded


def _made(family: Family, settings: Mapping[str, Any], seed: int) -> Iterator[Mapping[str, Any]]:
    if family.dataset in OWN:
        return OWN[family.dataset](seed, **settings)
    import reasoning_gym  # takes a second

    generator = reasoning_gym.create_dataset(family.dataset, seed=seed, size=2**31, **settings)
    return (generator[index] for index in range(2**31))
