"""Task files: what a YAML and its rows become, and one line with place and mend for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimpot.core.errors import UsageError
from trimpot.core.rows import Message
from trimpot.evaluation.task_file import load_tasks, read_task_file

ROWS = [
    {"question": "2+2", "answer": "4", "kind": "sum", "doc": "d1"},
    {"question": "3*3", "answer": "9", "kind": "product", "doc": "d1"},
    {"question": "5-1", "answer": "4", "kind": "sum", "doc": "d2"},
]
GENERATE = """
data: rows.jsonl
prompt: "Q: {{ question }}\\nA:"
answer: "{{ answer }}"
scorer: exact
"""
CHOICE = """
data: rows.jsonl
prompt: "{{ question }} ="
choices: options
answer_index: label
scorer: acc
"""
CHOICE_ROWS = [
    {"question": "2+2", "options": ["3", "4"], "label": 1},
    {"question": "1+1", "options": ["2", "5"], "label": "A"},
]


def written(folder: Path, text: str, rows=ROWS) -> Path:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "task.yaml").write_text(text)
    return folder / "task.yaml"


def test_a_generate_task(tmp_path):
    extra = (
        'slices: [kind]\ncluster: doc\nstop: ["\\n"]\nmax_tokens: 8\ntemperature: 0.5\nsamples: 3\nmetadata: [doc]\n'
    )
    (task,) = read_task_file(written(tmp_path, GENERATE + extra)).build(0, None)
    assert (task.name, task.kind, task.scorer) == ("task", "generate", "exact")
    assert [item.prompt for item in task.items] == ["Q: 2+2\nA:", "Q: 3*3\nA:", "Q: 5-1\nA:"]
    first = task.items[0]
    assert (first.answer, dict(first.slices), first.cluster, first.metadata) == (
        "4", {"kind": "sum"}, "d1", {"doc": "d1"},
    )  # fmt: skip
    how = task.decoding
    assert (how.stop, how.max_tokens, how.temperature, how.samples) == (("\n",), 8, 0.5, 3)


def test_choices_come_with_the_delimiter_and_the_answer_by_number_or_letter(tmp_path):
    (task,) = read_task_file(written(tmp_path, CHOICE, CHOICE_ROWS)).build(0, None)
    assert task.kind == "choice"
    assert [item.choices for item in task.items] == [(" 3", " 4"), (" 2", " 5")]
    assert [item.answer for item in task.items] == [" 4", " 2"]


def test_choices_of_templates_and_an_answer_by_its_text(tmp_path):
    text = (
        'data: rows.jsonl\nprompt: "{{ question }}: {{ answer }}?"\nchoices: ["yes", "no"]\nanswer: "no"\nscorer: acc\n'
    )
    (task,) = read_task_file(written(tmp_path, text)).build(0, None)
    assert {item.answer for item in task.items} == {" no"}


def test_a_conversation_with_a_system_turn_and_examples(tmp_path):
    text = GENERATE + 'chat: true\nsystem: "Answer only."\nfew_shot: {count: 1}\n'
    (task,) = read_task_file(written(tmp_path, text)).build(0, None)
    for item in task.items:
        assert [message.role for message in item.prompt] == ["system", "user", "assistant", "user"]
        assert item.prompt[0] == Message("system", "Answer only.")
        assert item.prompt[1].content != item.prompt[3].content


def test_examples_are_the_same_for_all_but_the_item_that_is_one_of_them(tmp_path):
    rows = [{"question": f"{n}+0", "answer": str(n)} for n in range(10)]
    (task,) = read_task_file(written(tmp_path, GENERATE + "few_shot: {count: 2, seed: 3}\n", rows)).build(0, None)
    beginnings = [item.prompt.split("\n\n")[:-1] for item in task.items]
    most = max(beginnings, key=beginnings.count)
    # Two examples are items themselves: eight items share one beginning, which runs once.
    assert beginnings.count(most) == 8
    for number, (item, before) in enumerate(zip(task.items, beginnings, strict=True)):
        assert len(before) == 2
        assert all(f"Q: {number}+0" not in example for example in before)
        assert item.prompt.endswith(f"Q: {number}+0\nA:")


@given(st.lists(st.integers(0, 5), min_size=4, max_size=12), st.integers(1, 3), st.integers(0, 5))
def test_no_item_is_ever_among_its_own_examples(tmp_path_factory, numbers, count, seed):
    rows = [{"question": f"<{n}>", "answer": "x"} for n in numbers]
    path = written(tmp_path_factory.mktemp("few"), GENERATE + f"few_shot: {{count: {count}, seed: {seed}}}\n", rows)
    if min(sum(other != n for other in numbers) for n in numbers) < count:
        with pytest.raises(UsageError, match="examples wanted"):
            read_task_file(path).build(0, None)
        return
    (task,) = read_task_file(path).build(0, None)
    for item, n in zip(task.items, numbers, strict=True):
        assert item.prompt.count(f"<{n}>") == 1
        assert item.prompt.count("A: x") == count


def test_examples_may_come_from_another_file_with_an_answer_of_their_own(tmp_path):
    (tmp_path / "train.jsonl").write_text(json.dumps({"question": "7+7", "answer": "14", "steps": "7+7=14. 14"}) + "\n")
    text = GENERATE + 'few_shot: {count: 1, data: train.jsonl, answer: "{{ steps }}"}\n'
    (task,) = load_tasks(written(tmp_path, text))
    assert task.task.items[0].prompt == "Q: 7+7\nA: 7+7=14. 14\n\nQ: 2+2\nA:"
    assert task.few_shot_answers == ("7+7=14. 14",)


def test_fewer_items_are_among_more_and_chosen_by_seed(tmp_path):
    rows = [{"question": f"{n}+0", "answer": str(n)} for n in range(30)]
    suite = read_task_file(written(tmp_path, GENERATE, rows))
    five, ten, all_of_them = (
        [item.id for item in suite.build(0, count)[0].items] for count in (5, 10, None)
    )  # fmt: skip
    assert set(five) < set(ten) < set(all_of_them)
    assert ten == [item for item in all_of_them if item in ten]
    assert five != [item.id for item in suite.build(1, 5)[0].items]


def test_several_tasks_in_one_file(tmp_path):
    body = "".join(f"    {line}\n" for line in GENERATE.strip().splitlines())
    tasks = "".join(f"  - name: {name}\n{body}" for name in ("a", "b"))
    suite = read_task_file(written(tmp_path, f"about: Two.\ntasks:\n{tasks}"))
    assert suite.about == "Two."
    assert [task.name for task in suite.build(0, 2)] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GENERATE + "cluser: doc\n", r"task\.yaml:6: cluser: is not a key of a task\. Did you mean 'cluster'\?"),
        (GENERATE + "few_shot: {cuont: 2}\n", r"task\.yaml:6: cuont: is not a key of a task.*'count'"),
        (GENERATE.replace("scorer: exact\n", ""), r"task\.yaml:2: scorer: is missing"),
        (GENERATE.replace("data: rows.jsonl\n", ""), r"data: is missing"),
        (GENERATE + "max_tokens: many\n", r"task\.yaml:6: max_tokens: 'many' is not a whole number"),
        (GENERATE + "max_tokens: 0\n", r"max_tokens: 0 is out of range"),
        (GENERATE + "temperature: true\n", r"temperature: True is not a number"),
        (GENERATE + "stop: end\n", r"stop: 'end' is not a list of texts"),
        (GENERATE + "kind: chioce\n", r"kind: 'chioce' is unknown.*'choice'"),
        (GENERATE + "kind: choice\n", r"choices: is missing"),
        (GENERATE + "answer_index: doc\n", r"answer_index: is given beside answer"),
        (GENERATE + "messages: doc\n", r"prompt: is given beside messages"),
        (GENERATE + "system: Hi\n", r"system: needs a conversation"),
        (GENERATE + "prompt: twice\n", r"task\.yaml:6: the key 'prompt' is there twice"),
        (CHOICE + "stop: [x]\n", r"stop: belongs to generate tasks"),
        (GENERATE + "x: [\n", r"task\.yaml:\d: is not valid YAML"),
        ("- a\n", r"is not a mapping of keys"),
        ("tasks: []\n", r"tasks: is not a list of tasks"),
        ("tasks:\n  - prompt: x\n    dta: y\n", r"task\.yaml:3: dta: is not a key of a task.*'data'"),
    ],
)
def test_a_wrong_key_is_one_line_with_its_place(tmp_path, text, message):
    with pytest.raises(UsageError, match=message) as caught:
        read_task_file(written(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "rows", "message"),
    [
        (GENERATE, [{"qestion": "2"}], r"rows\.jsonl:1: prompt: 'question' is undefined\. Did you mean 'qestion'\?"),
        (GENERATE, [ROWS[0], {"question": "", "answer": "4"}], None),
        (GENERATE.replace("Q: {{ question }}\\nA:", "{{ question }}"), [ROWS[0], {"question": " ", "answer": ""}],
         r"rows\.jsonl:2: prompt: is empty"),
        (GENERATE + "cluster: dox\n", ROWS, r"rows\.jsonl:1: cluster: the row has no field 'dox'\. Did you mean 'doc'"),
        (GENERATE + "few_shot: {count: 3}\n", ROWS, r"few_shot\.count: 3 examples wanted, and .* has 2 other rows"),
        (GENERATE.replace("{{ question }}", "{{ question"), ROWS, r"task\.yaml:3: prompt: is no Jinja template"),
        (GENERATE.replace("{{ question }}", "{{ ''.__class__.__mro__ }}"), ROWS, r"does what a template may not"),
        (CHOICE, [{**CHOICE_ROWS[0], "label": 2}], r"rows\.jsonl:1: label: 2 is no number from 0 to 1"),
        (CHOICE, [{**CHOICE_ROWS[0], "options": "3"}], r"rows\.jsonl:1: options: is not a list of texts"),
        (CHOICE.replace("answer_index: label", "answer: '{{ label }}'"), CHOICE_ROWS,
         r"rows\.jsonl:1: answer: '1' is none of the choices"),
        (GENERATE, [], r"rows\.jsonl: holds no rows"),
        (GENERATE.replace("rows.jsonl", "row.jsonl"), ROWS, r"row\.jsonl: no such file\. Did you mean 'rows\.jsonl'"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_one_line_with_its_place(tmp_path, text, rows, message):
    suite = read_task_file(written(tmp_path, text, rows)) if message else None
    if suite is None:
        assert len(read_task_file(written(tmp_path, text, rows)).build(0, None)[0].items) == 2
        return
    with pytest.raises(UsageError, match=message) as caught:
        suite.build(0, None)
    assert "\n" not in str(caught.value)


def test_no_such_file_names_the_nearest(tmp_path):
    written(tmp_path, GENERATE)
    with pytest.raises(UsageError, match=r"no such task file\. Did you mean .*task\.yaml"):
        read_task_file(tmp_path / "tusk.yaml")
