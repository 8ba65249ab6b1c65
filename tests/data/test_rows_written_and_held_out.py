from __future__ import annotations

import json
import math

import polars
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trimpot.core.errors import UsageError
from trimpot.core.rows import (
    ChatRow,
    FeedbackRow,
    Message,
    Origin,
    PreferencePair,
    PromptRow,
    StepsRow,
    TextRow,
    kind_of,
)
from trimpot.data.forms import record_of, row_of
from trimpot.data.load import load_rows
from trimpot.data.prepare import split_held_out
from trimpot.data.rejection import chat_rows_from_samples

texts = st.text(max_size=8).filter(str.strip)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2), max_leaves=4,
)  # fmt: skip
objects = st.dictionaries(st.text(max_size=3), values, max_size=3)
calls = st.builds(
    lambda name, arguments, key: {
        "type": "function", "function": {"name": name, "arguments": arguments}, **({"id": key} if key else {}),
    },
    texts, objects, st.none() | texts,
)  # fmt: skip
answers = st.builds(Message, st.just("assistant"), texts, st.lists(calls, max_size=2).map(tuple))
only_calls = calls.map(lambda call: Message("assistant", "", (call,)))
asked = st.builds(Message, st.sampled_from(["user", "system"]), texts)
results = st.builds(Message, st.just("tool"), st.text(max_size=4), st.just(()), st.none() | texts, st.none() | texts)
prompts = st.tuples(asked, st.lists(asked | answers | results, max_size=2)).map(lambda parts: (parts[0], *parts[1]))
sides = st.tuples(answers | only_calls, st.lists(asked | answers | results, max_size=2)).map(lambda p: (p[0], *p[1]))
slices = st.dictionaries(texts, texts, max_size=2)
weights = st.floats(0, 10)
rows = st.one_of(
    st.builds(
        lambda prompt, side, weight, tools, where: ChatRow(prompt + side, weight, tools, where),
        prompts, sides, weights, st.lists(objects, max_size=2).map(tuple), slices,
    ),
    st.builds(PreferencePair, prompts, sides, sides, st.none() | st.floats(-9, 9), slices),
    st.builds(FeedbackRow, prompts, sides, st.booleans(), slices),
    st.lists(st.tuples(texts, st.booleans()), min_size=1, max_size=3).flatmap(
        lambda steps: st.builds(StepsRow, prompts, *(st.just(tuple(part)) for part in zip(*steps, strict=True)), slices)
    ),
    st.builds(PromptRow, prompts, st.just("") | texts, texts, objects, slices),
    st.builds(TextRow, texts, weights, slices),
)  # fmt: skip


@given(rows)
def test_row_of_a_written_row_is_the_row(row):
    assume(not (isinstance(row, PreferencePair) and row.chosen == row.rejected))
    record = json.loads(json.dumps(record_of(row)))
    again = row_of(record, Origin("rows.jsonl", 1))
    assert (again.id, again.slices) == (row.id, row.slices)
    assert row_of(record, Origin(), kind_of(row)) == row
    if isinstance(row, PromptRow):
        assert again.metadata == row.metadata


def test_written_rows_survive_parquet(tmp_path):
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": 1, "b": None}}}
    other = {"type": "function", "function": {"name": "g", "arguments": {"c": {"d": []}}}, "id": "x"}
    tools = ({"function": {"name": "f", "default": None}}, {"function": {"name": "g"}})
    user, result = Message("user", "q"), Message("tool", "", (), "f")
    made = [
        ChatRow((user, Message("assistant", "", (call, other)), result, Message("assistant", "a")), 2.0, tools),
        ChatRow((user, Message("assistant", "a")), slices={"s": "1"}),
    ]
    polars.DataFrame([record_of(row) for row in made]).write_parquet(tmp_path / "rows.parquet")
    again = load_rows(str(tmp_path / "rows.parquet"), "chat")
    assert [row.id for row in again] == [row.id for row in made]
    assert [row.slices for row in again] == [{}, {"s": "1"}]


def pair(prompt: str, chosen: str) -> PreferencePair:
    return PreferencePair((Message("user", prompt),), (Message("assistant", chosen),), (Message("assistant", "no"),))


PAIRS = [pair(f"question {i % 200}", f"answer {i}") for i in range(600)]


def test_held_out_prompts_are_never_trained_on_and_nothing_is_lost():
    train, held_out = split_held_out(PAIRS, 0.25, 3)
    assert sorted(row.id for row in train + held_out) == sorted(row.id for row in PAIRS)
    assert not {row.prompt for row in train} & {row.prompt for row in held_out}
    assert 0.15 < len(held_out) / len(PAIRS) < 0.35


def test_side_of_a_row_follows_from_its_prompt_and_the_seed_alone():
    held_out = {row.id for row in split_held_out(PAIRS, 0.25, 3)[1]}
    for part in (PAIRS[::-1], PAIRS[100:]):
        assert {row.id for row in split_held_out(part, 0.25, 3)[1]} == held_out & {row.id for row in part}
    assert {row.id for row in split_held_out(PAIRS, 0.25, 4)[1]} != held_out
    assert held_out < {row.id for row in split_held_out(PAIRS, 0.5, 3)[1]}


def test_every_kind_of_row_of_one_prompt_is_on_one_side():
    for number in range(20):
        user, answer = (Message("user", f"q{number}"),), (Message("assistant", "a"),)
        kinds = [
            PreferencePair(user, answer, (Message("assistant", "b"),)), FeedbackRow(user, answer, True),
            StepsRow(user, ("a",), (True,)), PromptRow(user, "a"), ChatRow(user + answer),
        ]  # fmt: skip
        # A text beside them, as a split that trains on nothing is refused.
        train, held_out = split_held_out([*kinds, *(TextRow(str(i)) for i in range(20))], 0.5, 0)
        assert len([row for row in held_out if not isinstance(row, TextRow)]) in (0, len(kinds))
        assert len([row for row in train if not isinstance(row, TextRow)]) in (0, len(kinds))


def test_edges_of_the_split():
    assert split_held_out([], 0.5, 0) == ([], [])
    assert split_held_out(PAIRS[:3], 0.0, 0) == (PAIRS[:3], [])
    with pytest.raises(ValueError, match="outside"):
        split_held_out(PAIRS, 1.0, 0)
    seed = next(seed for seed in range(50) if split_held_out(PAIRS[:40], 0.5, seed)[1])
    lonely = split_held_out(PAIRS[:40], 0.5, seed)[1][:1]
    with pytest.raises(UsageError, match="held_out: all 1 rows are held out: they have too few different prompts"):
        split_held_out(lonely, 0.5, seed)


PROMPTS = [PromptRow((Message("user", f"q{i}"),), str(i), slices={"task": "sum"}) for i in range(3)]
COMPLETIONS = [[" ", "a", "b", "a ", "c", "d"], ["x", "y"], ["z", "z"]]
SCORES = [[1.0, 1.0, 0.4, 1.0, 0.5, 1.0], [0.0, math.nan], [1.0, 1.0]]


def test_accepted_completions_are_distinct_and_at_most_so_many():
    found = chat_rows_from_samples(PROMPTS, COMPLETIONS, SCORES, 0.5, 2)
    assert [[message.content for message in row.messages] for row in found] == [["q0", "a"], ["q0", "c"], ["q2", "z"]]
    assert found[0].slices == {"task": "sum", "constructed": "rejection sampling"}
    assert [row.origin.parents for row in found] == [(PROMPTS[0].id,)] * 2 + [(PROMPTS[2].id,)]
    everything = chat_rows_from_samples(PROMPTS, COMPLETIONS, SCORES, -math.inf, 9, "teacher's answers")
    assert [row.messages[-1].content for row in everything] == ["a", "b", "c", "d", "x", "z"]
    assert everything[0].slices["constructed"] == "teacher's answers"


def test_no_samples_and_wrong_lengths():
    assert chat_rows_from_samples([], [], [], 0.5, 1) == []
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        chat_rows_from_samples(PROMPTS, COMPLETIONS[:1], SCORES, 0.5, 1)
    with pytest.raises(ValueError, match="keeps nothing"):
        chat_rows_from_samples(PROMPTS, COMPLETIONS, SCORES, 0.5, 0)
