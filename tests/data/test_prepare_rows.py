from __future__ import annotations

import json
import math

import pytest

from trimpot.core.errors import UsageError
from trimpot.core.rows import ChatRow, Message, Origin, PreferencePair, PromptRow, TextRow
from trimpot.core.tensors import pack_one
from trimpot.data.lineage import lineage_table
from trimpot.data.pairs import pairs_from_samples
from trimpot.data.prepare import tokenise
from trimpot.data.template import ChatTemplate

USER, YES, NO = Message("user", "Hello"), Message("assistant", "Yes"), Message("assistant", "12 + 7")


def test_every_kind_of_row_and_the_counts(tokenizer_with):
    rows = [
        ChatRow((USER, YES)), PreferencePair((USER,), (YES,), (NO,)), PromptRow((USER,), "Yes"), TextRow("Hello there"),
    ]  # fmt: skip
    done = tokenise(rows, ChatTemplate(tokenizer_with("chatml")), 1000)
    assert [sample.row_id for sample in done.samples] == [row.id for row in rows]
    assert [len(sample.branches) for sample in done.samples] == [1, 2, 0, 1]
    assert done.tokens == sum(len(s.prefix) + sum(len(b.ids) for b in s.branches) for s in done.samples)
    assert done.target_tokens == sum(sum(b.supervised) for s in done.samples for b in s.branches)
    assert (done.truncated_rows, done.truncated_tokens, done.rewritten_turns) == (0, 0, 0)
    assert [done.row_by_id[sample.row_id] for sample in done.samples] == rows


def test_streams_pack_to_one_number_per_target_or_sequence(tokenizer_with):
    template = ChatTemplate(tokenizer_with("chatml"))
    chats = pack_one(tokenise([ChatRow((USER, YES), weight=2.0), ChatRow((USER, NO))], template, 1000).samples)
    weights = chats.streams["weight_N"].tolist()
    assert weights == [2.0 if sequence == 0 else 1.0 for sequence in chats.sequence_N.tolist()]
    pairs = [PreferencePair((USER,), (YES,), (NO,), 0.5), PreferencePair((USER,), (NO,), (YES,))]
    packed = pack_one(tokenise(pairs, template, 1000).samples)
    assert packed.streams["margin_S"].tolist() == [0.5, 0.5, 0.0, 0.0]


def test_truncation_is_counted_by_row_and_token(tokenizer_with):
    template = ChatTemplate(tokenizer_with("chatml"))
    rows = [ChatRow((USER, YES)), ChatRow((USER, NO))]
    lengths = [sample.tokens for sample in tokenise(rows, template, 1000).samples]
    done = tokenise(rows, template, min(lengths))
    assert lengths[0] != lengths[1]
    assert (done.truncated_rows, done.truncated_tokens) == (1, max(lengths) - min(lengths))


def test_no_rows():
    done = tokenise([], None, 10)
    assert (done.samples, done.tokens, done.target_tokens, done.row_by_id) == ((), 0, 0, {})


def test_prompt_without_room_for_an_answer_is_refused(tokenizer_with):
    template = ChatTemplate(tokenizer_with("chatml"))
    row = PromptRow((USER,), origin=Origin("p.jsonl", 2))
    length = len(template.prompt(row))
    with pytest.raises(UsageError, match=rf"p.jsonl:2: the prompt's {length} tokens leave no room"):
        tokenise([row], template, length)
    assert tokenise([row], template, length + 1).samples[0].prefix == template.prompt(row)


def test_pairs_from_samples_take_the_first_right_and_wrong():
    rows = [PromptRow((USER,), str(i), slices={"task": "sum"}) for i in range(4)]
    completions = [[" ", "x", "1", "y", "2"], ["a", "b"], ["a", "b"], ["a", "b"]]
    scores = [[0.0, 0.0, 1.0, 0.0, 1.0], [1.0, 1.0], [0.0, 0.0], [1.0, math.nan]]
    (pair,) = pairs_from_samples(rows, completions, scores)
    assert (pair.prompt, pair.chosen[0].content, pair.rejected[0].content) == ((USER,), "1", "x")
    assert pair.slices == {"task": "sum", "constructed": "verifier"}
    assert pair.origin.parents == (rows[0].id,)
    assert pairs_from_samples([], [], []) == []
    with pytest.raises(ValueError):
        pairs_from_samples(rows, completions, scores[:1])


def test_lineage_table():
    prompt = PromptRow((USER,), "1", slices={"b": "2", "a": "1"}, origin=Origin("p.jsonl", 7))
    pairs = pairs_from_samples([prompt], [["1", "2"]], [[1.0, 0.0]])
    table = lineage_table([prompt, *pairs])
    assert table.columns == ["row_id", "kind", "file", "line", "parents", "slices"]
    assert table.row(0) == (prompt.id, "prompt", "p.jsonl", 7, [], '{"a": "1", "b": "2"}')
    assert table.row(1)[1:5] == ("preference pair", None, None, [prompt.id])
    assert json.loads(table.row(1)[5]) == {"a": "1", "b": "2", "constructed": "verifier"}
    assert lineage_table([]).schema == table.schema
