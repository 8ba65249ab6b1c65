"""The command line as a user calls it: exit codes, one line for bad input, JSON alone on standard output."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROWS = '{"prompt": "say 1", "completion": "a"}\n{"prompt": "say 2", "completion": "aa"}\n'
RECIPE = """
model: tiny-0.1m
stages:
  - sft: {data: rows.jsonl, steps: 3, batch: 2}
"""


def trimpot(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trimpot.cli.main", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text(ROWS)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def test_run_report_and_json(folder: Path) -> None:
    done = trimpot(folder, "run", "recipe.yaml", "--output", "out", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["stages"][0]["name"] == "sft"
    assert Path(folder / result["report"]).exists()
    again = trimpot(folder, "report", "out")
    assert again.returncode == 0
    assert "report.html" in again.stdout
    existing = trimpot(folder, "run", "recipe.yaml", "--output", "out")
    assert existing.returncode == 2
    assert "exists already" in existing.stderr
    resumed = trimpot(folder, "run", "recipe.yaml", "--resume", "out", "--json")
    assert resumed.returncode == 0, resumed.stderr


def test_dry_run_prints_and_writes_nothing(folder: Path) -> None:
    before = sorted(folder.iterdir())
    done = trimpot(folder, "run", "recipe.yaml", "recipe.yaml", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    (stage,) = json.loads(done.stdout)["recipe.yaml"]
    assert stage["rows"] == 2
    assert stage["steps"] == 3
    assert stage["tokens"] > 0
    assert stage["memory_bytes"] > 0
    assert stage["seconds"] > 0
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "recipe.yaml", "--set", "sft.stepz=4"), "'steps'"),
        (("run", "recipy.yaml"), "recipe.yaml"),
        (("run", "recipe.yaml", "--set", "sft.data=none.jsonl"), "none.jsonl"),
        (("report", "nowhere"), "nowhere"),
        (("run", "recipe.yaml", "--resume", "nowhere"), "nowhere"),
    ],
)
def test_bad_input_is_one_line_and_status_2(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    done = trimpot(folder, *arguments)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("trimpot: ")]
    assert len(lines) == 1
    assert words in lines[0]
    assert "Traceback" not in done.stderr
    assert not (folder / "runs").exists()


def test_strict_exits_1_when_a_detector_fired(folder: Path) -> None:
    recipe = RECIPE.replace("steps: 3", "steps: 40, learning_rate: 10.0, schedule: constant, warmup: 0")
    (folder / "recipe.yaml").write_text(recipe)
    done = trimpot(folder, "run", "recipe.yaml", "--output", "out", "--strict")
    assert done.returncode == 1, done.stderr
    assert "alarm loss_spike" in done.stderr
    assert (folder / "out" / "sft" / "alarms.jsonl").read_text()
    assert (folder / "out" / "report.html").exists()
    assert trimpot(folder, "run", "recipe.yaml", "--output", "two").returncode == 0


def test_help_imports_nothing_heavy(folder: Path) -> None:
    code = (
        "import sys; sys.argv = ['trimpot', '--help']\n"
        "from trimpot.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'transformers', 'polars', 'altair', 'scipy', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout


def test_resume_names_the_folder_alone(folder: Path) -> None:
    done = trimpot(folder, "run", "recipe.yaml", "--resume", "out", "--output", "other")
    assert done.returncode == 2
    assert "--output is given beside --resume" in done.stderr
    assert not (folder / "other").exists()


@pytest.mark.parametrize("options", [[], ["--system-allocator"]])
def test_freed_memory_is_kept_unless_told_otherwise(options: list[str], folder: Path, monkeypatch) -> None:
    from typer.testing import CliRunner

    from trimpot.cli.main import app
    from trimpot.models import allocator

    asked: list[bool] = []
    monkeypatch.setattr(allocator, "keep_freed_memory", lambda: asked.append(True))
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app, ["run", "recipe.yaml", "--output", "out", *options])
    assert result.exit_code == 0, result.output
    assert bool(asked) == (not options)
