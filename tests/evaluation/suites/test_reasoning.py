"""The reasoning suite: graded, and held out from what the embedded data trains on."""

import re

import pytest

from trimpot.core.errors import UsageError
from trimpot.data.embedded import SPLITS, embedded_rows
from trimpot.evaluation.scorers import SCORERS
from trimpot.evaluation.suites.reasoning import DIFFICULTIES, FAMILIES, reasoning_task, reasoning_tasks


@pytest.fixture(scope="module")
def tasks():
    return reasoning_tasks(0, 60)


def questions(tasks):
    turns = (turn for task in tasks for item in task.items for turn in item.prompt if turn.role == "user")
    return [" ".join(turn.content.split()).casefold() for turn in turns]


def test_no_row_of_the_embedded_data_is_an_item_whatever_its_split_and_seed(tasks):
    asked = set(questions(tasks)) | set(questions(reasoning_tasks(1, 30)))
    rows = [row for split in SPLITS for seed in (0, 1) for row in embedded_rows("reasoning-easy", split, 210, seed)]
    trained = {" ".join(row.prompt[-1].content.split()).casefold() for row in rows}
    assert len(trained) > 1000
    assert not trained & asked
    # The comparison would see one: both ask in the same words.
    assert any(question.startswith("number of legs in all: ") for question in trained)
    assert sum(question.startswith("number of legs in all: ") for question in asked) >= 60


def test_the_families_that_are_trained_too_have_settings_that_training_has_not(tasks):
    """Not only other draws: no draw of the one can be one of the other."""
    by_name = {task.name: task for task in tasks}
    for item in by_name["reasoning/sum"].items:
        terms = [int(number) for number in re.findall(r"\d+", item.prompt[-1].content)]
        assert len(terms) == 4 or min(terms) >= 100
    for row in embedded_rows("reasoning-easy", "train", 140, 5):
        if row.slices["task"] == "sum":
            terms = [int(number) for number in re.findall(r"\d+", row.prompt[-1].content)]
            assert len(terms) <= 3
            assert max(terms) < 100
        if row.slices["task"] == "leg_counting":
            assert row.prompt[-1].content.count(",") <= 1
    assert all(item.prompt[-1].content.count(",") >= 2 for item in by_name["reasoning/legs"].items)


def test_every_family_has_as_many_items_of_every_difficulty(tasks):
    assert len(tasks) == len(FAMILIES) >= 8
    for task in tasks:
        found = [item.slices["difficulty"] for item in task.items]
        assert [found.count(name) for name in DIFFICULTIES] == [20, 20, 20]
        assert {item.slices["task"] for item in task.items} == {task.name.removeprefix("reasoning/")}


def test_difficulties_differ_in_what_they_ask(tasks):
    by_name = {task.name: task.items for task in tasks}
    lengths = {
        name: [
            len(item.prompt[-1].content) for item in by_name["reasoning/retrieval"] if item.slices["difficulty"] == name
        ]
        for name in DIFFICULTIES
    }
    assert max(lengths["easy"]) < min(lengths["medium"])
    assert max(lengths["medium"]) < min(lengths["hard"])


@pytest.mark.parametrize(
    ("family", "question", "right"),
    [
        ("sum", r"^(.*) =$", lambda terms: str(sum(map(int, re.findall(r"[+-]?\d+", terms.replace(" ", "")))))),
        ("product", r"^(\d+) \* (\d+) =$", lambda a, b: str(int(a) * int(b))),
        ("spelling", r"backward: (\w+)$", lambda word: word[::-1]),
        ("word_order", r"order: (.*)$", lambda listed: ", ".join(sorted(listed.split(", ")))),
        ("letters", r'"(\w+)" be .* "(\w+)"', lambda note, some: "Yes" if _spells(note, some) else "No"),
    ],
)
def test_the_answers_are_right_by_our_own_arithmetic(tasks, family, question, right):
    items = next(task for task in tasks if task.name == f"reasoning/{family}").items
    checked = [
        (item.answer, right(*found.groups()))
        for item in items
        if (found := re.search(question, item.prompt[-1].content))
    ]
    assert len(checked) >= 20
    assert all(given == own for given, own in checked)


def _spells(note: str, letters: str) -> bool:
    return all(note.count(letter) <= letters.count(letter) for letter in note)


def test_the_letters_family_is_balanced_at_every_difficulty(tasks):
    items = next(task for task in tasks if task.name == "reasoning/letters").items
    for name in DIFFICULTIES:
        answers = [item.answer for item in items if item.slices["difficulty"] == name]
        assert answers.count("Yes") == answers.count("No") == 10


def test_an_exhausted_family_says_how_many_items_it_has():
    with pytest.raises(UsageError, match=r"suite reasoning: product: has \d+ questions and no more"):
        reasoning_task("product", 0, 2000)


def test_answers_are_scored_by_the_verifier_of_training(tasks):
    item = tasks[0].items[0]
    assert SCORERS["exact"](f" {item.answer}.\n", item).score == 1
    assert SCORERS["exact"](str(int(item.answer) + 1), item).score == 0
    assert SCORERS["exact"](f"The answer is {item.answer}", item).status == "parse_failed"


def test_the_examples_before_a_question_are_right_easy_and_never_asked(tasks):
    for task in tasks:
        examples = task.items[0].prompt[1:-1]
        assert all(item.prompt[1:-1] == examples for item in task.items)
        shown = {turn.content for turn in examples if turn.role == "user"}
        assert len(shown) == (4 if task.name == "reasoning/letters" else 3)
        assert not shown & {item.prompt[-1].content for item in task.items}
        answers = [turn.content for turn in examples if turn.role == "assistant"]
        if task.name == "reasoning/letters":
            assert sorted(answers) == ["No", "No", "Yes", "Yes"]
    terms = [turn.content for turn in tasks[0].items[0].prompt[1:-1]]
    for question, answer in zip(terms[::2], terms[1::2], strict=True):
        assert int(answer) == sum(map(int, re.findall(r"[+-]?\d+", question.replace(" ", ""))))
