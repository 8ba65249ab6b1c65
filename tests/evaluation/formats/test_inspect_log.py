"""Logs constructed by hand from inspect_ai 0.3.285's schema (inspect_ai/log/_log.py, log/_recorders/eval.py)."""

import json
import math
import struct
import zipfile
import zlib

import pyarrow
import pytest

from trimpot.core.errors import UsageError
from trimpot.evaluation.formats import zip_members
from trimpot.evaluation.formats.inspect_log import read_inspect_log


def sample(id=1, epoch=1, value="C", **more):
    message = {"role": "assistant", "content": "the answer", "source": "generate"}
    return {
        "id": id,
        "epoch": epoch,
        "input": "2+2?",
        "target": "4",
        "messages": [{"role": "user", "content": "2+2?"}, message],
        "output": {"model": "hf/m", "choices": [{"message": message, "stop_reason": "stop"}]},
        "scores": {"match": {"value": value, "answer": "4", "history": []}},
        "metadata": {"kind": "sum", "parts": [1]},
        "model_usage": {"hf/m": {"input_tokens": 5, "output_tokens": 3, "total_tokens": 8}},
        "total_time": 2.0,
        "working_time": 1.5,
        **more,
    }


def log(samples, **more):
    spec = {"task": "sums", "run_id": "run-1", "created": "2026-01-01T00:00:00+00:00", "model": "hf/m"}
    spec |= {"dataset": {"samples": len({one["id"] for one in samples})}, "config": {"epochs": 1}}
    spec |= more.pop("eval", {})
    return {"version": 2, "status": "success", "eval": spec, "samples": samples, **more}


def write_json(path, told):
    # inspect writes NaN as a constant.
    path.write_text(json.dumps(told))
    return path


def write_zip(path, told, header="header.json", extra=()):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for one in told["samples"]:
            file.writestr(f"samples/{one['id']}_epoch_{one['epoch']}.json", json.dumps(one))
        file.writestr(header, json.dumps({key: value for key, value in told.items() if key != "samples"}))
        file.writestr("summaries.json", "[]")
        for name, content in extra:
            file.writestr(name, content)
    return path


def zstandard(path, members):
    """A zip file by hand whose members are Zstandard frames, two where the content is long, as inspect writes."""
    body, table = b"", b""
    for name, content in members.items():
        parts = [content[:1000], content[1000:]] if len(content) > 1000 else [content]
        packed = b"".join(pyarrow.compress(part, codec="zstd", asbytes=True) for part in parts)
        told = (zlib.crc32(content), len(packed), len(content), len(name), 0)
        table += struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 63, 63, 0, 93, 0, 33, *told, 0, 0, 0, 0, len(body))
        table += name.encode()
        body += struct.pack("<4s5H3L2H", b"PK\x03\x04", 63, 0, 93, 0, 33, *told) + name.encode() + packed
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, len(members), len(members), len(table), len(body), 0)
    path.write_bytes(body + table + end)
    return path


def scores(tmp_path, *samples, **more):
    found = read_inspect_log(write_json(tmp_path / "log.json", log(list(samples))), **more)
    return [(one.score, one.status) for one in found.outcomes]


def test_a_sample_becomes_an_outcome(tmp_path):
    found = read_inspect_log(write_json(tmp_path / "log.json", log([sample()])), slices=["kind"])
    (one,) = found.outcomes
    assert (one.run, one.weights, one.task, one.sample) == ("run-1", "hf/m", "sums", 0)
    assert (one.prompt, one.expected, one.output) == ("2+2?", "4", "the answer")
    assert (one.score, one.status, one.better) == (1.0, "ok", "higher")
    assert (one.tokens, one.seconds, one.confidence, one.prompt_ids) == (3, 1.5, None, ())
    assert one.slices == {"kind": "sum"}
    assert found.notes == ()


@pytest.mark.parametrize(
    ("value", "score", "status"),
    [
        ("C", 1.0, "ok"),
        ("P", 0.5, "ok"),
        ("I", 0.0, "ok"),
        ("N", 0.0, "parse_failed"),
        (True, 1.0, "ok"),
        (3, 3.0, "ok"),
        ("Yes", 1.0, "ok"),
        ("false", 0.0, "ok"),
        ("0.25", 0.25, "ok"),
        (math.nan, None, "unscored"),
        ("nan", None, "unscored"),
        ("somewhat", None, "unscored"),  # inspect counts it as 0
    ],
)
def test_values_are_read_as_inspect_reads_them_and_what_it_cannot_read_is_no_zero(tmp_path, value, score, status):
    assert scores(tmp_path, sample(value=value)) == [(score, status)]


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        ({"value": "I", "reason": "invalid_response_format"}, (0.0, "parse_failed")),
        ({"value": "I", "reason": "no_response"}, (0.0, "parse_failed")),
        ({"value": "I", "reason": "refusal"}, (0.0, "ok")),
        ({"value": math.nan, "reason": "grader_failed"}, (None, "error")),
        ({"value": math.nan, "metadata": {"unscored_reason": "scoring_failed"}}, (None, "error")),
        ({"value": math.nan, "reason": "invalid_response_format"}, (None, "unscored")),
    ],
)
def test_reasons_tell_whose_failure_it_was(tmp_path, score, expected):
    assert scores(tmp_path, sample(scores={"match": score})) == [expected]


def test_errors_and_invalidated_and_unscored_samples_are_never_wrong_answers(tmp_path):
    error = {"message": "cut", "traceback": "", "traceback_ansi": ""}
    found = scores(
        tmp_path,
        sample(1, error=error, scores=None),
        sample(2, error=error),
        sample(3, scores=None),
        sample(4, invalidation={"author": "a", "reason": "b"}),
        sample(5, scores={}),
    )
    assert found == [(None, "error"), (None, "error"), (None, "unscored"), (None, "unscored"), (None, "unscored")]


def test_a_run_that_scores_samples_with_errors_keeps_their_scores(tmp_path):
    told = log([sample(error={"message": "cut"}, value="I")], eval={"config": {"score_on_error": True}})
    (one,) = read_inspect_log(write_json(tmp_path / "log.json", told)).outcomes
    assert (one.score, one.status) == (0.0, "ok")


def test_epochs_are_samples_of_one_item_in_inspects_order(tmp_path):
    samples = [sample(id, epoch) for id in (10, 2) for epoch in (2, 1)]
    found = read_inspect_log(write_json(tmp_path / "log.json", log(samples, eval={"config": {"epochs": 2}})))
    assert [one.sample for one in found.outcomes] == [0, 0, 1, 1]
    first, second, third, fourth = (one.item for one in found.outcomes)
    assert first == third != second == fourth
    assert first == read_inspect_log(write_zip(tmp_path / "a.eval", log([sample(2)]))).outcomes[0].item


def test_zip_and_json_hold_the_same(tmp_path):
    told = log([sample(n, value=value) for n, value in enumerate(["C", "I", math.nan])])
    plain = read_inspect_log(write_json(tmp_path / "log.json", told))
    zipped = read_inspect_log(write_zip(tmp_path / "log.eval", told))
    assert plain == zipped
    header = {key: value for key, value in told.items() if key != "samples"}
    members = {f"samples/{one['id']}_epoch_1.json": json.dumps(one).encode() for one in told["samples"]}
    members |= {"header.json": json.dumps(header).encode(), "big.json": bytes(5000)}
    packed = zstandard(tmp_path / "zstd.eval", members)
    assert read_inspect_log(packed) == plain
    assert zip_members.Archive(packed, "").read("big.json") == bytes(5000)


def test_a_run_that_was_killed_gives_what_it_has_and_says_so(tmp_path):
    told = log([sample()], eval={"dataset": {"samples": 5}})
    del told["status"]
    path = write_zip(tmp_path / "log.eval", told, header="_journal/start.json")
    found = read_inspect_log(path)
    assert len(found.outcomes) == 1
    assert found.notes == (f"{path}: the run's status is started", f"{path}: 1 of 5 samples are there")


def test_of_several_scorers_the_first_is_read_and_the_rest_is_named(tmp_path):
    both = {"match": {"value": "C"}, "judge": {"value": {"style": 0.5, "facts": None}}}
    path = write_json(tmp_path / "log.json", log([sample(scores=both)]))
    found = read_inspect_log(path)
    assert found.outcomes[0].score == 1.0
    assert found.notes == (f"{path}: the scores of judge were not imported",)
    assert read_inspect_log(path, "judge/style").outcomes[0].score == 0.5
    facts = read_inspect_log(path, "judge/facts").outcomes[0]
    assert (facts.score, facts.status) == (None, "unscored")
    with pytest.raises(UsageError, match=r"sample 1, epoch 1: .* has parts.*judge/style, judge/facts"):
        read_inspect_log(path, "judge")
    with pytest.raises(UsageError, match=r"has no scorer 'jury'. It has: match, judge"):
        read_inspect_log(path, "jury")
    with pytest.raises(UsageError, match="the score of match has no parts"):
        read_inspect_log(path, "match/a")


def test_the_one_score_of_old_logs_is_read(tmp_path):
    old = sample()
    old["score"] = old.pop("scores")["match"]
    told = {**log([old]), "version": 1}
    assert read_inspect_log(write_json(tmp_path / "log.json", told)).outcomes[0].score == 1.0


def test_conversations_parts_and_attachments_are_texts(tmp_path):
    parts = [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "so"}, {"type": "image", "image": ""}]
    talk = [{"role": "system", "content": "attachment://abc"}, {"role": "user", "content": parts}]
    one = sample(input=talk, target=["4", "four"], attachments={"abc": "be brief"})
    (found,) = read_inspect_log(write_json(tmp_path / "log.json", log([one]))).outcomes
    assert found.prompt == "system: be brief\nuser: so\n[image]"
    assert found.expected == "4 | four"


def test_models_with_other_arguments_have_other_weights(tmp_path):
    weights = set()
    for arguments in ({}, {"model_path": "a"}, {"model_path": "b"}):
        told = log([sample()], eval={"model_args": arguments})
        weights.add(read_inspect_log(write_json(tmp_path / "log.json", told)).outcomes[0].weights)
    assert len(weights) == 3


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ([], "is no JSON object"),
        ({"version": 9}, "of version 9"),
        ({"version": 2, "eval": {"task": "a"}}, "says no task and model"),
        (log([]), "holds no samples"),
        ({**log([]), "samples": [1]}, "samples is no list of objects"),
        (log([sample(), sample()]), r"sample 1, epoch 1: is there twice"),
        (log([sample(), {**sample(2), "epoch": 0}]), r"samples\[1\]: has no id and epoch"),
        (log([sample(scores={"match": 1})]), r"sample 1, epoch 1: scores have no value"),
        (log([sample(scores={"match": {"value": "C", "metadata": [1]}})]), r"sample 1, epoch 1: is of another form"),
        (log([sample(output={"choices": 5})]), r"sample 1, epoch 1: is of another form"),
    ],
)
def test_a_bad_log_is_one_line_that_names_the_sample(tmp_path, told, words):
    path = write_json(tmp_path / "log.json", told)
    with pytest.raises(UsageError, match=words) as caught:
        read_inspect_log(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_slice_that_is_not_there_is_one_line(tmp_path):
    path = write_json(tmp_path / "log.json", log([sample()]))
    with pytest.raises(UsageError, match=r"sample 1, epoch 1: has no field 'sort' to slice by. It has: kind, parts"):
        read_inspect_log(path, slices=["sort"])
    with pytest.raises(UsageError, match="the field 'parts' is a list"):
        read_inspect_log(path, slices=["parts"])


def test_damaged_files_are_one_line(tmp_path):
    whole = write_zip(tmp_path / "log.eval", log([sample()])).read_bytes()
    bad = tmp_path / "bad.eval"
    bad.write_bytes(whole[:-30])
    with pytest.raises(UsageError, match="no whole zip file"):
        read_inspect_log(bad)
    bad.write_bytes(whole[:60] + bytes(20) + whole[80:])
    with pytest.raises(UsageError, match=r"samples/1_epoch_1.json: (cannot be unpacked|is damaged)"):
        read_inspect_log(bad)
    packed = bytearray(zstandard(bad, {"header.json": b"{}" * 50}).read_bytes())
    packed[42] ^= 255
    bad.write_bytes(packed)
    with pytest.raises(UsageError, match=r"header.json: (cannot be unpacked|is damaged)"):
        read_inspect_log(bad)
    with pytest.raises(UsageError, match=r"has no header.json"):
        read_inspect_log(zstandard(bad, {"other.json": b"{}"}))


def test_what_unpacks_to_more_than_the_bounds_is_refused_unread(tmp_path, monkeypatch):
    path = write_zip(tmp_path / "log.eval", log([sample()]), extra=[("large.json", "1" * 10000)])
    monkeypatch.setattr(zip_members, "LARGEST_MEMBER", 9999)
    archive = zip_members.Archive(path, "")
    with pytest.raises(UsageError, match=r"large.json: is larger"):
        archive.read("large.json")
    assert archive.read("summaries.json") == b"[]"
    monkeypatch.setattr(zip_members, "LARGEST_WHOLE", 9999)
    with pytest.raises(UsageError, match="holds more than"):
        zip_members.Archive(path, "")


def test_a_member_that_is_longer_than_its_table_says_is_damaged(tmp_path):
    content = zstandard(tmp_path / "a.eval", {"header.json": bytes(3000)}).read_bytes()
    lying = content.replace(struct.pack("<L", 3000), struct.pack("<L", 30))
    assert lying != content
    (tmp_path / "a.eval").write_bytes(lying)
    with pytest.raises(UsageError, match=r"header.json: is damaged"):
        read_inspect_log(tmp_path / "a.eval")
