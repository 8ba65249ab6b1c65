from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimpot.core.errors import UsageError
from trimpot.core.rows import FeedbackRow, Message, Origin, StepsRow
from trimpot.core.tensors import pack_one
from trimpot.data.feedback import mismatched_answers
from trimpot.data.load import load_rows
from trimpot.data.prepare import tokenise
from trimpot.data.template import ChatTemplate


def ask(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def say(text: str) -> tuple[Message, ...]:
    return (Message("assistant", text),)


def write(path, *records: object) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


ROWS = [
    FeedbackRow(ask("Hello"), say("Yes"), True),
    FeedbackRow(ask("12 + 7 ="), say("19"), False),
    FeedbackRow(ask("system"), say("answer only."), True),
]


def test_feedback_becomes_the_answer_and_the_one_of_the_row_before(tokenizer_with):
    template = ChatTemplate(tokenizer_with("chatml"))
    done = tokenise(ROWS, template, 1000)
    for index, (row, sample) in enumerate(zip(ROWS, done.samples, strict=True)):
        own, other = sample.branches
        assert sample.prefix == template.prompt_ids(row.prompt)
        assert template.tokenizer.decode(own.ids) == row.completion[0].content + "<|im_end|>"
        assert template.tokenizer.decode(other.ids) == ROWS[index - 1].completion[0].content + "<|im_end|>"
        assert all(own.supervised)
        assert all(other.supervised)
    assert pack_one(done.samples).streams["kind_S"].tolist() == [1, -1, 0, -1, 1, -1]


def test_mismatched_answer_is_of_another_prompt_and_another_than_the_own():
    first, second = FeedbackRow(ask("a"), say("1"), True), FeedbackRow(ask("a"), say("2"), False)
    third, fourth = FeedbackRow(ask("b"), say("2"), True), FeedbackRow(ask("c"), say("3"), False)
    found = mismatched_answers([first, second, third, fourth])
    assert [found[row.id] for row in (first, second, third, fourth)] == [say("3"), say("3"), say("1"), say("2")]
    assert mismatched_answers([first, second]) == {first.id: None, second.id: None}  # one prompt
    assert mismatched_answers([second, third]) == {second.id: None, third.id: None}  # one answer
    assert mismatched_answers([first]) == {first.id: None}
    assert mismatched_answers([]) == {}


texts = st.sampled_from("abc")
feedback = st.builds(lambda p, c, d: FeedbackRow(ask(p), say(c), d), texts, texts, st.booleans())


@given(st.lists(feedback, max_size=8))
def test_mismatched_answers_serve_and_are_found_where_there_are_any(rows):
    found = mismatched_answers(rows)
    for row in rows:
        others = {
            other.completion for other in rows if other.prompt != row.prompt and other.completion != row.completion
        }
        assert found[row.id] in (others or {None})


def test_single_row_has_no_mismatched_branch(tokenizer_with):
    (sample,) = tokenise(ROWS[:1], ChatTemplate(tokenizer_with("none")), 1000).samples
    assert [branch.streams for branch in sample.branches] == [{"kind_S": 1.0}]


@pytest.mark.parametrize(("desirable", "word"), [(True, "desirable"), (False, "undesirable")])
def test_feedback_of_one_class_is_refused(tokenizer_with, desirable, word):
    rows = [FeedbackRow(ask(text), say(text), desirable, origin=Origin("f.jsonl", 1)) for text in "ab"]
    with pytest.raises(UsageError, match=f"f.jsonl: all 2 rows are {word}: nothing to contrast"):
        tokenise(rows, ChatTemplate(tokenizer_with("none")), 1000)


def test_truncation_counts_the_own_answer_only(tokenizer_with):
    template = ChatTemplate(tokenizer_with("chatml"))
    rows = [FeedbackRow(ask("a"), say("b"), True), FeedbackRow(ask("c"), say("assistant answer only. 12 + 7"), False)]
    length = len(template.prompt_ids(ask("a"))) + 2
    done = tokenise(rows, template, length)
    assert done.truncated_rows == 1
    assert all(len(sample.prefix) + len(branch.ids) <= length for sample in done.samples for branch in sample.branches)


def test_feedback_forms(tmp_path):
    source = write(
        tmp_path / "a.jsonl",
        {"prompt": "q", "completion": "yes", "label": True, "slices": {"a": 1}},
        {
            "prompt": [{"role": "user", "content": "q"}],
            "completion": [{"role": "assistant", "content": "no"}],
            "label": 0,
        },
    )
    rows = load_rows(source, "feedback")
    assert [row.id for row in rows] == [
        FeedbackRow(ask("q"), say("yes"), True).id, FeedbackRow(ask("q"), say("no"), False).id,
    ]  # fmt: skip
    assert rows[0].slices == {"a": "1"}
    assert [row.id for row in load_rows(source)] == [row.id for row in rows]
    with pytest.raises(UsageError, match=r"a.jsonl:1: a feedback row where the stage needs a chat row"):
        load_rows(source, "chat")
    (tmp_path / "a.csv").write_text("prompt,completion,label\nq,yes,True\nq,no,false\nq,perhaps,0\n")
    assert [row.desirable for row in load_rows(str(tmp_path / "a.csv"))] == [True, False, False]
    (tmp_path / "b.csv").write_text("prompt,completion,label\nq,yes,good\n")
    with pytest.raises(UsageError, match=r"b.csv:2: label 'good' is neither true nor false"):
        load_rows(str(tmp_path / "b.csv"))


def test_pair_serves_as_two_feedback_rows(tmp_path):
    source = write(tmp_path / "a.jsonl", *({"prompt": f"q{i}", "chosen": "a", "rejected": "b"} for i in range(2)))
    rows = load_rows(source, "feedback")
    assert [(row.prompt[0].content, row.completion[0].content, row.desirable) for row in rows] == [
        ("q0", "a", True), ("q0", "b", False), ("q1", "a", True), ("q1", "b", False),
    ]  # fmt: skip
    assert str(rows[3].origin) == f"{source}:2"
    assert len(load_rows(source, "feedback", limit=3)) == 3


STEPS = StepsRow(ask("12 + 7 ="), ("12 + 7", "\n= 19", "Yes"), (True, True, False), origin=Origin("s.jsonl", 4))


@pytest.mark.parametrize("name", ["chatml", "llama3", "none", "no_generation_prompt", "opens_thinking"])
def test_steps_are_labelled_in_the_separator_after_each(tokenizer_with, name):
    template = ChatTemplate(tokenizer_with(name))
    sample = template.steps(STEPS, 1000).sample
    (branch,) = sample.branches
    assert sample.prefix == template.prompt_ids(STEPS.prompt)
    assert template.tokenizer.decode(branch.ids).lstrip(" ") == "12 + 7\n\n= 19\nYes\n"
    targets = [place for place, flag in enumerate(branch.supervised) if flag]
    assert [template.tokenizer.decode([branch.ids[place]]) for place in targets] == ["\n"] * 3
    ends = [template.tokenizer.decode(branch.ids[: place + 1]).lstrip(" ") for place in targets]
    assert ends == ["12 + 7\n", "12 + 7\n\n= 19\n", "12 + 7\n\n= 19\nYes\n"]
    assert targets[0] > 0
    assert branch.streams == {"label_N": (1.0, 1.0, 0.0)}
    assert pack_one([sample]).streams["label_N"].tolist() == [1, 1, 0]


def test_first_step_stands_as_an_answer_would(tokenizer_with):
    plain, thinking = (ChatTemplate(tokenizer_with(name)) for name in ("none", "thinking"))
    assert plain.tokenizer.decode(plain.steps(STEPS, 1000).sample.branches[0].ids).startswith(" 12 + 7\n")
    decoded = thinking.tokenizer.decode(thinking.steps(STEPS, 1000).sample.branches[0].ids)
    assert decoded.startswith("<think>\n\n</think>\n\n12 + 7\n")


def test_steps_that_are_cut_lose_their_labels(tokenizer_with):
    template = ChatTemplate(tokenizer_with("chatml"))
    whole = template.steps(STEPS, 1000).sample
    cut = template.steps(STEPS, whole.tokens - 1)
    assert (cut.sample.branches[0].streams, cut.truncated_tokens) == ({"label_N": (1.0, 1.0)}, 1)
    with pytest.raises(UsageError, match=r"s.jsonl:4: no supervised token within"):
        template.steps(STEPS, len(whole.prefix) + 1)
    with pytest.raises(UsageError, match=r"step 2 is empty"):
        template.steps(StepsRow(ask("q"), ("a", " "), (True, True)), 1000)


def test_steps_form(tmp_path):
    record = {"prompt": "12 + 7 =", "completions": list(STEPS.steps), "labels": [True, 1, False]}
    (row,) = load_rows(write(tmp_path / "a.jsonl", record), "steps")
    assert row.id == STEPS.id


BAD = {
    "steps without labels": {"prompt": "q", "completions": ["a"]},
    "2 steps with 1 labels": {"prompt": "q", "completions": ["a", "b"], "labels": [True]},
    "an empty step": {"prompt": "q", "completions": ["a", " "], "labels": [True, True]},
    "completions is not a list of steps": {"prompt": "q", "completions": [], "labels": []},
    "a step is int, not a string": {"prompt": "q", "completions": [1], "labels": [True]},
    "a label 0.5 is neither true nor false": {"prompt": "q", "completions": ["a"], "labels": [0.5]},
    "label 2 is neither true nor false": {"prompt": "q", "completion": "a", "label": 2},
    "after the prompt completion has a user turn": {
        "prompt": "q", "label": True,
        "completion": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
    },
}  # fmt: skip


@pytest.mark.parametrize("problem", BAD)
def test_bad_feedback_and_steps_are_named(tmp_path, problem):
    with pytest.raises(UsageError, match=f"rows.jsonl:1: {problem}"):
        load_rows(write(tmp_path / "rows.jsonl", BAD[problem]))
