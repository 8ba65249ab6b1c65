"""A user's rows as a suite: what is recognised, what is written, and one line for what is not recognised."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.evaluation.scripted import ScriptedModel
from trimpot.core.errors import UsageError
from trimpot.evaluation.lint import lint_tasks
from trimpot.evaluation.own_suite import find_suite, guessed, new_suite, suites_folder
from trimpot.evaluation.runner import evaluate_tasks
from trimpot.evaluation.suite import Suite


def file_of(folder: Path, rows) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_questions_and_answers_become_a_suite_that_runs(tmp_path):
    rows = [
        {"question": f"{n}+1?", "answer": n + 1, "topic": "even" if n % 2 else "odd", "document": f"d{n // 2}", "id": n}
        for n in range(8)
    ]
    made = new_suite("sums", file_of(tmp_path, rows))
    assert made.path == suites_folder() / "sums.yaml"
    assert made.keys["scorer"] == "exact"
    assert (made.keys["slices"], made.keys["cluster"]) == (["topic"], "document")
    suite, path = find_suite("sums", {})
    assert path == made.path
    tasks = suite.build(0, None)
    assert lint_tasks(tasks) == []
    model = ScriptedModel(lambda prompt, sample: str(int(prompt.split("+")[0].split(" ")[-1]) + 1))
    outcomes = evaluate_tasks(model, tasks, "r")
    assert [one.score for one in outcomes] == [1.0] * 8
    assert outcomes[0].cluster == "d0"


@pytest.mark.parametrize(
    ("rows", "keys"),
    [
        ([{"question": "a", "choices": ["x", "y"], "label": 1}], {"kind": "choice", "answer_index": "label"}),
        ([{"question": "a", "options": ["x", "y"], "answerKey": "B"}], {"answer_index": "answerKey", "scorer": "acc"}),
        ([{"question": "a", "choices": ["x", "y"], "answer": "y"}], {"answer": "{{ answer }}"}),
        ([{"prompt": "a", "answer": "A long tale. " * 10}], {"kind": "generate", "scorer": "contains"}),
        ([{"prompt": "a", "answer": "1/2", "verifier": "math"}], {"scorer": "math"}),
        ([{"messages": [{"role": "user", "content": "a"}], "answer": "b"}], {"messages": "messages"}),
        ([{"text": "once"}], {"kind": "rolling", "prompt": "{{ text }}", "scorer": "bits_per_byte"}),
        ([{"prompt": "a", "answer": "b", "slices": {"kind": "x"}}], {"slices": ["kind"]}),
    ],
)
def test_what_fields_are_called_decides(rows, keys):
    found = guessed(rows, "rows.jsonl")
    assert {key: found.get(key) for key in keys} == keys


def test_choices_that_are_letters_are_not_taken_for_places():
    # "B" is the text of the first choice, and the letter of the second.
    found = guessed([{"question": "a", "choices": ["B", "A"], "answer": "B"}], "rows.jsonl")
    assert "answer_index" not in found
    assert found["answer"] == "{{ answer }}"


def test_the_limit_of_tokens_cuts_no_answer(tmp_path):
    made = new_suite("long", file_of(tmp_path, [{"prompt": "a", "answer": "é" * 20}]))
    # A token has at least one byte, and one ends the answer.
    assert made.keys["max_tokens"] == 41


def test_a_name_that_is_taken_a_file_that_is_there_and_rows_that_say_nothing(tmp_path):
    path = file_of(tmp_path, [{"prompt": "a", "answer": "b"}])
    with pytest.raises(UsageError, match="is taken by trimpot"):
        new_suite("core", path, ["core"])
    with pytest.raises(UsageError, match="is not a name"):
        new_suite("../x", path)
    new_suite("mine", path)
    with pytest.raises(UsageError, match="exists already"):
        new_suite("mine", path)
    for rows, message in (
        ([{"foo": "a"}], "no field that every row has"),
        ([{"prompt": "a"}], "no right answer"),
        ([{"question": "a", "choices": ["x", "y"]}], "do not say which choice is right"),
        ([], "holds no rows"),
        ([{"prompt": "", "answer": "b"}], r"rows\.jsonl:1: prompt: is empty"),
    ):
        with pytest.raises(UsageError, match=message):
            new_suite("other", file_of(tmp_path, rows))
    assert not (suites_folder() / "other.yaml").exists()


def test_the_file_can_be_written_elsewhere_and_found_by_its_path(tmp_path):
    path = tmp_path / "here" / "mine.yaml"
    new_suite("mine", file_of(tmp_path, [{"prompt": "a", "answer": "b"}]), path=path)
    assert yaml.safe_load(path.read_text())["name"] == "mine"
    assert find_suite(str(path), {})[1] == path


def test_an_unknown_suite_names_the_nearest():
    known = {"core": Suite("core", "", lambda seed, items: [])}
    assert find_suite("core", known) == (known["core"], None)
    with pytest.raises(UsageError, match=r"suite 'cor': there is no such suite\. Did you mean 'core'\?"):
        find_suite("cor", known)
