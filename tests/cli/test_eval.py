"""trimpot eval and trimpot suite as a user calls them: folder, table, JSON alone on standard output, one line for bad
input. A scripted model stands in for weights, except in one call from end to end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.evaluation.scripted import ScriptedModel
from trimpot.cli import evaluate as cli
from trimpot.core.errors import UsageError
from trimpot.evaluation.suite import Suite
from trimpot.evaluation.task import Decoding, Item, Task

ROWS = [{"question": f"{n}+1?", "answer": str(n + 1), "topic": "odd" if n % 2 else "even"} for n in range(8)]


def build(seed, items):
    made = tuple(Item(f"{n}?", answer=str(n), slices={"size": str(n % 2)}) for n in range(items or 4))
    return [
        Task("core/echo", "generate", made, "exact", Decoding(max_tokens=8)),
        Task("core/pick", "choice", (Item("q", (" a", " b")),), "acc"),
        Task("core/text", "rolling", (Item("abc"),), "bits_per_byte"),
    ]


@pytest.fixture
def call(monkeypatch, tmp_path):
    app = typer.Typer()
    app.command("eval")(cli.evaluate)
    app.add_typer(cli.app, name="suite")
    model = ScriptedModel(lambda prompt, sample: prompt.rstrip("?"), name="scripted")
    monkeypatch.setattr(cli, "open_model", lambda name: model)
    monkeypatch.setattr(cli, "suites", lambda: {"core": Suite("core", "Easy things.", build)})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str):
        result = CliRunner().invoke(app, list(arguments))
        if isinstance(result.exception, UsageError):
            raise result.exception
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    run.model = model
    return run


def test_a_table_with_slices_intervals_statuses_and_what_was_not_measured(call, tmp_path):
    done = call("eval", "any/model", "--suite", "core")
    assert "core/echo" in done.stdout
    assert "size=0" in done.stdout
    assert "1.000 [0.510, 1.000]" in done.stdout
    assert "bits/byte" in done.stdout
    assert "not scored: 1 answers" in done.stdout
    assert "1 × no choice is said to be right" in done.stdout
    assert "cells measured" in done.stdout
    (folder,) = (tmp_path / "evaluations").iterdir()
    assert folder.name.startswith("model-core-")
    assert sorted(path.name for path in folder.iterdir()) == ["evaluation.json", "outcomes.parquet"]


def test_json_is_one_object_alone_and_a_second_run_asks_nothing(call):
    first = json.loads(call("eval", "m", "--items", "3", "--output", "a", "--json").stdout)
    assert [row["task"] for row in first["scores"] if row["slice"] == "all"] == ["core/echo", "core/pick", "core/text"]
    assert first["scores"][0]["score"]["value"] == 1.0
    assert first["helm"]["coverage"]["measured"] > 0
    assert (first["items"], first["cache"]["hits"], first["cache"]["asked"]) == (3, 0, 6)
    second = json.loads(call("eval", "m", "--items", "3", "--output", "b", "--json").stdout)
    assert (second["cache"]["hits"], second["cache"]["asked"]) == (6, 0)
    assert second["scores"] == first["scores"]
    assert len(call.model.requests) == 3


def test_without_a_cache_and_with_one_of_its_own(call, tmp_path):
    assert json.loads(call("eval", "m", "--output", "a", "--no-cache", "--json").stdout)["cache"] is None
    assert not (tmp_path / "cache").exists()
    own = json.loads(call("eval", "m", "--output", "b", "--cache", "kept", "--json").stdout)
    assert own["cache"]["path"] == "kept/responses.sqlite"
    with pytest.raises(UsageError, match="--cache: is given beside --no-cache"):
        call("eval", "m", "--cache", "kept", "--no-cache")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "cora"], "there is no such suite. Did you mean 'core'"),
        (["--suite", "none.yaml"], "none.yaml: no such task file"),
        (["--too-long", "ignore"], "--too-long: 'ignore' is unknown"),
    ],
)
def test_bad_input_is_one_line(call, arguments, message):
    with pytest.raises(UsageError) as caught:
        call("eval", "m", *arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert call.model.requests == []


def test_programs_are_run_only_where_that_is_said(call, monkeypatch):
    task = Task("code/humaneval", "generate", (Item("def f():"),), "humaneval_not_run", Decoding(max_tokens=8))
    monkeypatch.setattr(cli, "suites", lambda: {"code": Suite("code", "", lambda seed, items: [task])})
    with pytest.raises(UsageError, match=r"task code/humaneval: runs programs .* Give --run-code"):
        call("eval", "m", "--suite", "code")
    assert call.model.requests == []
    assert [one.scorer for one in cli.allowed([task], True)] != [task.scorer]


def test_a_model_may_be_an_endpoint():
    model = cli.open_model("endpoint:http://127.0.0.1:9/v1#some-model")
    assert model.identity.name == "some-model"


def test_rows_become_a_suite_with_one_command_and_are_evaluated_by_its_name(call, tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    made = json.loads(call("suite", "new", "sums", "rows.jsonl", "--json").stdout)
    assert (made["items"], made["errors"], made["warnings"]) == (8, 0, 0)
    assert Path(made["file"]).exists()
    assert "sums" in call("suite", "list").stdout
    listed = json.loads(call("suite", "list", "--json").stdout)["suites"]
    assert {name: one["own"] for name, one in listed.items()} == {"core": False, "sums": True}
    done = json.loads(call("eval", "m", "--suite", "sums", "--output", "out", "--json").stdout)
    assert {row["slice"] for row in done["scores"]} == {"all", "topic=even", "topic=odd"}


def test_lint_exits_1_on_an_error_with_file_and_line(call, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"q": "1+1", "a": "2 = 1+1"}\n')
    (tmp_path / "t.yaml").write_text(
        'data: rows.jsonl\nprompt: "{{ q }}"\nanswer: "{{ a }}"\nscorer: exact\nstop: ["="]\n'
    )
    done = call("suite", "lint", "t.yaml")
    assert done.exit_code == 1
    assert "error: t.yaml:5: stop: '=' cuts the right answers of 1 of 1 items, such as rows.jsonl:1" in done.stdout
    assert json.loads(call("suite", "lint", "t.yaml", "--json").stdout)["errors"] == 1
    assert call("suite", "lint", "core").exit_code == 0
    with pytest.raises(UsageError, match=r"t\.yaml:5: stop"):
        call("eval", "m", "--suite", "t.yaml")


PROGRAM = """
import sys
import typer
from trimpot.cli import evaluate
from trimpot.core.errors import UsageError
app = typer.Typer()
app.command("eval")(evaluate.evaluate)
app.add_typer(evaluate.app, name="suite")
try:
    app()
except UsageError as error:
    sys.exit(f"trimpot: {error}")
"""


@pytest.mark.slow
def test_a_tiny_model_from_end_to_end(tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def trimpot(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", PROGRAM, *arguments]
        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)

    assert trimpot("suite", "new", "sums", "rows.jsonl", "--output", "sums.yaml").returncode == 0
    done = trimpot("eval", "tiny-0.1m", "--suite", "sums.yaml", "--output", "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cache"]["asked"] == 8
    assert "sums: answers: 8 of 8" in done.stderr
    again = trimpot("eval", "tiny-0.1m", "--suite", "sums.yaml", "--output", "again", "--json")
    assert json.loads(again.stdout)["cache"] == {
        "path": str(tmp_path / "cache/trimpot/responses.sqlite"), "hits": 8, "asked": 0,
    }  # fmt: skip
