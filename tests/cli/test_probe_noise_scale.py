"""The commands probe noise-scale and probe critical-batch, called as a command line calls them."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from trimpot.cli.probe_critical_batch import critical_batch
from trimpot.cli.probe_noise_scale import noise_scale
from trimpot.core.errors import UsageError
from trimpot.models import allocator

app = typer.Typer()
app.command("noise-scale")(noise_scale)
app.command("critical-batch")(critical_batch)


def call(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def error_of(*arguments: str) -> str:
    found = call(*arguments).exception
    assert isinstance(found, UsageError)
    return str(found)


@pytest.fixture
def rows(tmp_path, monkeypatch):
    monkeypatch.setattr(allocator, "keep_freed_memory", lambda: True)  # it lasts as long as the process
    path = tmp_path / "rows.jsonl"
    chats = [
        {"messages": [{"role": "user", "content": f"say {n}"}, {"role": "assistant", "content": "ab" * n}]}
        for n in range(1, 13)
    ]
    path.write_text("\n".join(json.dumps(chat) for chat in chats))
    return path


def test_noise_scale_prints_the_value_its_interval_and_what_to_do(rows) -> None:
    found = call("noise-scale", "tiny-0.1m", "--data", str(rows), "--batch", "4", "--examples", "10")
    assert found.exit_code == 0, found.output
    for said in ("B_simple:", "rows", "batch 4:", "norm layers:", "10 rows of"):
        assert said in found.output


def test_noise_scale_as_json_is_one_object_with_interval_and_advice(rows) -> None:
    found = call("noise-scale", "tiny-0.1m", "--data", str(rows), "--examples", "10", "--method", "norms", "--json")
    said = json.loads(found.stdout)
    assert set(said["scale"]["simple"]) == {"value", "low", "high", "n", "method", "level"}
    assert said["scale"]["simple"]["n"] == said["examples"] == 10
    assert said["advice"]["verdict"] in ("small", "balanced", "large", "unknown")
    assert said["method"] == "norms"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--method", "exac"), "--method: 'exac' is not a method. Did you mean 'exact'?"),
        (("--mask", "all-of-it"), "'all-of-it'"),
    ],
)
def test_noise_scale_refuses_unknown_words(rows, options, said) -> None:
    assert said in error_of("noise-scale", "tiny-0.1m", "--data", str(rows), *options)


def test_noise_scale_refuses_too_few_rows(tmp_path) -> None:
    path = tmp_path / "few.jsonl"
    path.write_text('{"text": "one row of plain text"}\n')
    assert "holds 1 rows. Give 3 at least" in error_of("noise-scale", "tiny-0.1m", "--data", str(path))


@pytest.fixture
def sweep_file(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("batch,steps,reached\n4,500,true\n16,200,true\n64,125,true\n256,999,false\n")
    return path


def test_critical_batch_fits_the_runs_that_reached_the_goal(sweep_file) -> None:
    found = call("critical-batch", str(sweep_file), "--batch", "4")
    assert found.exit_code == 0, found.output
    # S_min = 100 and E_min = 1,600: 1 + 16/4 times the steps, 1 + 4/16 times the examples.
    assert "critical batch: 16 [" in found.output
    assert "5x the fewest steps, 1.25x the fewest examples" in found.output
    assert "no run at batch 256 reached the goal" in found.output


def test_critical_batch_as_json(sweep_file) -> None:
    said = json.loads(call("critical-batch", str(sweep_file), "--batch", "4", "--json").stdout)
    assert said["critical_batch"]["value"] == pytest.approx(16)
    assert said["batch"] == {"batch": 4, "steps": pytest.approx(5), "examples": pytest.approx(1.25)}
    assert said["not_reached"] == [256]
    assert len(said["runs"]) == 3


def test_examples_serve_in_place_of_steps(tmp_path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("batch,examples\n4,2000\n16,3200\n64,8000\n")
    said = json.loads(call("critical-batch", str(path), "--json").stdout)
    assert said["fewest_examples"]["value"] == pytest.approx(1600)
    assert said["batch"] is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("batch,steps\n4,500\n16,200\n", "has 2 batch sizes that reached the goal"),
        ("batch,step\n4,500\n", "has no column 'steps'. Did you mean 'step'?"),
        ("steps\n500\n", "has no column 'batch'"),
        ("", "has no column 'batch'"),
        ("batch,steps\n", "holds no runs"),
        ("batch,steps\n4,five\n", ":2: steps: 'five' is not a number"),
        ("batch,steps\n4,-1\n", ":2: steps: -1 is not above 0"),
        ("batch,steps\n4.5,10\n", ":2: batch: 4.5 is not a whole number"),
        ("batch,steps,examples\n4,500,9\n", "500 steps of 4 are 2000 examples, not 9"),
        ("batch,steps,reached\n4,500,maybe\n", ":2: reached: 'maybe' is neither true nor false"),
        ("batch,steps,seed\n4,500,x\n", ":2: seed: 'x' is not a whole number"),
    ],
)
def test_critical_batch_names_the_line_that_is_wrong(tmp_path, text, said) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(text)
    assert said in error_of("critical-batch", str(path))


def test_critical_batch_wants_a_file_or_tiny() -> None:
    assert "takes a file of runs or --tiny" in error_of("critical-batch")
    assert "no such file" in error_of("critical-batch", "nowhere.csv")
    assert "is not a list of numbers" in error_of("critical-batch", "--tiny", "--batches", "8,many")
