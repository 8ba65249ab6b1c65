from __future__ import annotations

import json

import datasets
import polars
import pytest

from trimpot.core.errors import UsageError
from trimpot.core.rows import ChatRow, Message, PreferencePair, PromptRow, TextRow
from trimpot.data.load import load_rows

USER, YES, NO = Message("user", "q"), Message("assistant", "yes"), Message("assistant", "no")
ROWS = [{"prompt": "q", "completion": "yes"}, {"prompt": "q2", "completion": "no"}]


def dump(*messages: Message) -> list[dict[str, str]]:
    return [message.as_dict() for message in messages]


def write(path, *records: object) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


FORMS = {
    "messages": ({"messages": dump(USER, YES), "weight": 2}, ChatRow((USER, YES), 2.0)),
    "strings": ({"prompt": "q", "completion": "yes"}, ChatRow((USER, YES))),
    "message lists": ({"prompt": dump(USER), "completion": dump(YES)}, ChatRow((USER, YES))),
    "pair of strings": ({"prompt": "q", "chosen": "yes", "rejected": "no"}, PreferencePair((USER,), (YES,), (NO,))),
    "pair of messages": (
        {"prompt": dump(USER), "chosen": dump(YES), "rejected": dump(NO), "margin": 1.5},
        PreferencePair((USER,), (YES,), (NO,), 1.5),
    ),
    "pair with its prompt repeated": (
        {"prompt": "q", "chosen": dump(USER, YES), "rejected": dump(USER, NO)},
        PreferencePair((USER,), (YES,), (NO,)),
    ),
    "implicit prompt": (
        {"chosen": dump(USER, NO, USER, YES), "rejected": dump(USER, NO, USER, NO)},
        PreferencePair((USER, NO, USER), (YES,), (NO,)),
    ),
    "text": ({"text": "some words"}, TextRow("some words")),
    "sharegpt": (
        {"system": "s", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "yes"}]},
        ChatRow((Message("system", "s"), USER, YES)),
    ),
    "alpaca": (
        {"instruction": "add", "input": "1 2", "output": "3"},
        ChatRow((Message("user", "add\n\n1 2"), Message("assistant", "3"))),
    ),
    "alpaca without input": ({"instruction": "q", "input": "", "output": "yes"}, ChatRow((USER, YES))),
    "prompt": (
        {"prompt": "q", "answer": 4, "verifier": "rewards.py:score", "metadata": {"a": 1}},
        PromptRow((USER,), "4", "rewards.py:score", {"a": 1}),
    ),
    "prompt alone": ({"prompt": "q"}, PromptRow((USER,))),
    "keys of None are absent": ({"messages": dump(USER, YES), "chosen": None, "rejected": None}, ChatRow((USER, YES))),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_loads(tmp_path, form):
    record, expected = FORMS[form]
    (row,) = load_rows(write(tmp_path / "rows.jsonl", record | {"slices": {"level": 1}}))
    assert type(row) is type(expected)
    assert row.id == expected.id
    assert row.slices == {"level": "1"}
    assert str(row.origin) == f"{tmp_path}/rows.jsonl:1"
    if isinstance(expected, PromptRow):
        assert row.metadata == expected.metadata


def test_blank_lines_count_and_line_separators_inside_strings_do_not(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('\ufeff{"text": "a\u2028b"}\n\n{"text": "c"}\r\n', encoding="utf-8")
    rows = load_rows(str(path))
    assert [(row.text, row.origin.line) for row in rows] == [("a\u2028b", 1), ("c", 3)]


def test_same_rows_from_every_kind_of_file(tmp_path):
    write(tmp_path / "a.jsonl", *ROWS)
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    write(tmp_path / "lines.json", *ROWS)
    polars.DataFrame(ROWS).write_parquet(tmp_path / "a.parquet")
    polars.DataFrame(ROWS).write_csv(tmp_path / "a.csv")
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}).save_to_disk(tmp_path / "splits")
    names = ("a.jsonl", "a.json", "lines.json", "a.parquet", "a.csv", "saved", "splits")
    ids = {name: [row.id for row in load_rows(str(tmp_path / name), "chat")] for name in names}
    assert len(ids["a.jsonl"]) == 2
    assert all(found == ids["a.jsonl"] for found in ids.values())
    assert load_rows(str(tmp_path / "a.csv"))[0].origin.line == 2


def test_nested_columns_of_parquet(tmp_path):
    polars.DataFrame([{"messages": dump(USER, YES), "slices": {"a": "b"}}]).write_parquet(tmp_path / "a.parquet")
    (row,) = load_rows(str(tmp_path / "a.parquet"))
    assert (row.messages, row.slices) == ((USER, YES), {"a": "b"})


def test_csv_cells(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('prompt,completion,weight\n"two\nlines",yes,0.5\nq,no,\n')
    first, second = load_rows(str(path))
    assert (first.messages[0].content, first.weight, first.origin.line) == ("two\nlines", 0.5, 3)
    assert (second.weight, second.origin.line) == (1.0, 4)
    path.write_text("prompt,completion\nq,yes,more\n")
    with pytest.raises(UsageError, match=r"a.csv:2: another number of cells"):
        load_rows(str(path))


def test_limit_takes_the_first_rows(tmp_path):
    source = write(tmp_path / "a.jsonl", *ROWS)
    assert [row.messages[0].content for row in load_rows(source, limit=1)] == ["q"]
    with pytest.raises(UsageError, match="at least 1"):
        load_rows(source, limit=0)


def test_kinds_that_serve_each_other(tmp_path):
    source = write(tmp_path / "a.jsonl", {"prompt": "q", "completion": "yes", "verifier": "numeric"})
    assert load_rows(source, "chat")[0].id == ChatRow((USER, YES)).id
    assert load_rows(source, "prompt")[0].id == PromptRow((USER,), "yes", "numeric").id
    chat = write(tmp_path / "b.jsonl", {"messages": dump(USER, NO, USER, YES)})
    assert load_rows(chat, "prompt")[0].id == PromptRow((USER, NO, USER), "yes").id


def test_record_of_two_forms_is_read_as_the_wanted_kind(tmp_path):
    record = {"prompt": "q", "chosen": dump(USER, YES), "rejected": dump(USER, NO), "messages": dump(USER, YES)}
    source = write(tmp_path / "a.jsonl", record)
    assert isinstance(load_rows(source)[0], PreferencePair)
    assert isinstance(load_rows(source, "chat")[0], ChatRow)


BAD = {
    "malformed": ('{"text": ', r"malformed JSON at column"),
    "not an object": ("[1]", r"a JSON list, not an object"),
    "unknown form": ('{"question": "q", "label": 1}', r"unknown form of row \(keys: question, label\). Accepted keys"),
    "unknown role": ({"messages": [{"role": "asistant", "content": "a"}]}, r"unknown role 'asistant'. .*'assistant'"),
    "unknown sharegpt role": ({"conversations": [{"from": "bot", "value": "a"}]}, r"unknown role 'bot'"),
    "no assistant turn": ({"messages": dump(USER)}, r"no assistant turn"),
    "empty answer": ({"prompt": "q", "completion": " \n"}, r"an empty answer"),
    "empty answer of a prompt": ({"prompt": "q", "answer": ""}, r"an empty answer"),
    "empty chosen": ({"prompt": "q", "chosen": "", "rejected": "no"}, r"an empty answer"),
    "empty prompt": ({"prompt": "", "completion": "a"}, r"an empty prompt"),
    "empty text": ({"text": " "}, r"an empty text"),
    "chosen is rejected": ({"prompt": "q", "chosen": "a", "rejected": "a"}, r"chosen and rejected are the same"),
    "no shared prompt": ({"chosen": dump(USER, YES), "rejected": dump(NO)}, r"share no prompt"),
    "differ in a user turn": (
        {"chosen": dump(USER, YES), "rejected": dump(USER, USER, YES)},
        r"rejected has a user turn, not an assistant turn",
    ),
    "prompt with answers": (
        {"prompt": dump(USER, YES, USER), "completion": "no"},
        r"the prompt has assistant turns",
    ),
    "content is no string": ({"messages": [{"role": "user", "content": [1]}]}, r"is list, not a string"),
    "messages is no list": ({"messages": "hello"}, r"messages is not a list of messages"),
    "weight": ({"text": "a", "weight": "much"}, r"weight 'much' is not a finite number"),
    "negative weight": ({"text": "a", "weight": -1}, r"weight -1.0 is negative"),
    "slices": ({"text": "a", "slices": "x"}, r"slices is not an object"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_line_is_named_with_file_and_line(tmp_path, fault):
    record, problem = BAD[fault]
    line = record if isinstance(record, str) else json.dumps(record)
    (tmp_path / "rows.jsonl").write_text('{"text": "good"}\n' + line + "\n")
    with pytest.raises(UsageError, match=rf"rows.jsonl:2: .*{problem}") as caught:
        load_rows(str(tmp_path / "rows.jsonl"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("record", "kind", "found"),
    [
        ({"text": "a"}, "chat", "text"),
        ({"messages": dump(USER, YES)}, "preference pair", "chat"),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "prompt", "preference pair"),
        ({"messages": dump(USER, YES, USER)}, "prompt", "chat"),
        ({"prompt": "q"}, "chat", "prompt"),
    ],
)
def test_row_of_another_kind_names_both(tmp_path, record, kind, found):
    source = write(tmp_path / "rows.jsonl", record)
    with pytest.raises(UsageError, match=rf"rows.jsonl:1: a {found} row where the stage needs a {kind} row"):
        load_rows(source, kind)


def test_missing_files_and_folders(tmp_path):
    write(tmp_path / "chat.jsonl", *ROWS)
    with pytest.raises(UsageError, match=r"chats.jsonl: no such file. Did you mean 'chat.jsonl'\?"):
        load_rows(str(tmp_path / "chats.jsonl"))
    with pytest.raises(UsageError, match="there is no folder"):
        load_rows(str(tmp_path / "none" / "chat.jsonl"))
    with pytest.raises(UsageError, match="a folder without a saved data set"):
        load_rows(str(tmp_path))
    with pytest.raises(UsageError, match=r"'chats' is not a kind of row. Did you mean 'chat'"):
        load_rows(str(tmp_path / "chat.jsonl"), "chats")


def test_empty_and_unreadable_files(tmp_path):
    for name in ("a.jsonl", "a.json", "a.csv"):
        (tmp_path / name).write_text("")
        with pytest.raises(UsageError, match="holds no rows"):
            load_rows(str(tmp_path / name))
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    with pytest.raises(UsageError, match="not a readable Parquet file"):
        load_rows(str(tmp_path / "a.parquet"))
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UsageError, match=r"cannot read a .txt file. Give .jsonl"):
        load_rows(str(tmp_path / "a.txt"))
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "a"}\n{"text": "\xe9"}\n')
    with pytest.raises(UsageError, match=r"latin.jsonl:2: not UTF-8"):
        load_rows(str(tmp_path / "latin.jsonl"))
    (tmp_path / "b.json").write_text('[{"text": "a"},\n {"text" 1}]')
    with pytest.raises(UsageError, match=r"b.json:2: malformed JSON"):
        load_rows(str(tmp_path / "b.json"))


@pytest.mark.parametrize(
    ("there", "wanted", "read"),
    [
        (("train", "test"), "train", "train"),
        (("train", "pairs"), "pairs", "pairs"),
        (("train", "test"), "pairs", "train"),
        (("train", "test", "evaluation"), "evaluation", "evaluation"),
        (("train", "test", "validation"), "evaluation", "validation"),
        (("train", "test"), "evaluation", "test"),
    ],
)
def test_the_splits_that_serve(tmp_path, there, wanted, read):
    rows = {name: datasets.Dataset.from_list([{"prompt": name, "completion": "yes"}]) for name in there}
    datasets.DatasetDict(rows).save_to_disk(tmp_path / "saved")
    (row,) = load_rows(str(tmp_path / "saved"), split=wanted)
    assert row.messages[0].content == read


@pytest.mark.parametrize(
    ("there", "wanted", "words"),
    [
        (("train",), "evaluation", "has no split 'evaluation' or 'validation' or 'test'; its splits are train"),
        (("train_sft", "test_sft"), "train", "has no split 'train'; its splits are test_sft, train_sft"),
        (("test",), "pairs", "has no split 'pairs' or 'train'; its splits are test"),
    ],
)
def test_a_data_set_without_a_split_that_serves_names_those_it_has(tmp_path, there, wanted, words):
    rows = {name: datasets.Dataset.from_list(ROWS) for name in there}
    datasets.DatasetDict(rows).save_to_disk(tmp_path / "saved")
    with pytest.raises(UsageError, match=words) as caught:
        load_rows(str(tmp_path / "saved"), split=wanted)
    named = caught.value.mend.removeprefix("Name one by its folder, such as ").removesuffix(".")
    assert len(load_rows(named, split=wanted)) == len(ROWS)


def test_hub_id_comes_from_the_cache_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    with pytest.raises(UsageError, match=r"someone/rows: no such file, and no data set of that name in the cache"):
        load_rows("someone/rows")
    folder = tmp_path / "cache" / "someone___rows" / "default" / "0.0.0" / "abc"
    folder.mkdir(parents=True)
    saved = datasets.Dataset.from_list(ROWS)
    with datasets.arrow_writer.ArrowWriter(path=str(folder / "rows-train.arrow"), features=saved.features) as writer:
        for record in ROWS:
            writer.write(record)
        count, size = writer.finalize()
    split = {"name": "train", "num_bytes": size, "num_examples": count, "dataset_name": "rows"}
    info = {"config_name": "default", "dataset_name": "rows", "builder_name": "rows", "splits": {"train": split}}
    (folder / "dataset_info.json").write_text(json.dumps(info | {"features": saved.features.to_dict()}))
    assert [row.messages[0].content for row in load_rows("someone/rows")] == ["q", "q2"]


def test_embedded_source():
    rows = load_rows("embedded:reasoning-easy", "chat", split="evaluation", limit=7, seed=3)
    assert [type(row) for row in rows] == [ChatRow] * 7
    with pytest.raises(UsageError, match="no such embedded data set"):
        load_rows("embedded:reasoning")


def test_either_of_two_kinds(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "plain"}\n{"prompt": "q", "completion": "a"}\n')
    assert [type(row).__name__ for row in load_rows(str(file), "chat or text")] == ["TextRow", "ChatRow"]
    with pytest.raises(UsageError, match="a text row where the stage needs a chat row"):
        load_rows(str(file), "chat")
