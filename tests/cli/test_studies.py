"""The command study: the list, a study on one's own model, and sweeps, as a user calls them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trimpot.cli.main import app
from trimpot.core.errors import UsageError
from trimpot.knobs.evidence import evidence_of, user_folder
from trimpot.knobs.library import library
from trimpot.knobs.status import claim_statuses
from trimpot.store.ledger import Ledger
from trimpot.studies import STUDIES
from trimpot.studies.measures import Slope
from trimpot.studies.study import Budget, Study
from trimpot.studies.sweep_files import sweep_file

RECIPE = """
model: tiny-0.1m
evaluate: {suite: prompts.jsonl, items: 5, max_tokens: 4}
stages:
  - sft: {data: chat.jsonl, steps: 120, batch: 5, learning_rate: 3e-3, schedule: constant}
"""
NEW = ("study", "new", "small.yaml", "--arms", "sft.steps=1,40", "--seeds", "3")
PREDICT = ("--predict", "loss falls with sft.steps; it learns")
CLAIM = "dpo-larger-beta-stays-closer"
ROWS = ("study", "new", "small.yaml", "--arms", "sft.data=chat.jsonl,none.jsonl", "--predict")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's with a recipe and rows; one process runs all."""
    rows = [(f"say {number}", letter) for number, letter in enumerate("abcde")]
    for name, key in (("chat.jsonl", "completion"), ("prompts.jsonl", "answer")):
        write(tmp_path / name, [{"prompt": prompt, key: answer} for prompt, answer in rows])
    (tmp_path / "small.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TRIMPOT_LEDGER", raising=False)
    monkeypatch.setattr("trimpot.studies.runner.WORKERS", 1)
    return tmp_path


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(*arguments: str):
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    return done


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, UsageError), (done.output, done.exception)
    assert "\n" not in str(done.exception)
    return str(done.exception)


# A toy study that can be asked of one's own model


def toy_prepare(settings, seed, folder):
    (folder / "seed").write_text(str(seed))


def toy_run(values, settings, seed, folder):
    sign = -1.0 if settings.get("subject") == "own" else 1.0
    return {"kl": 10.0 + sign * values["beta"] + 0.01 * seed}


def toy(**changes) -> Study:
    arms = {f"beta={beta:g}": {"beta": beta} for beta in (1.0, 2.0)}
    settings = {"prompts": 1000, "pairs": 500, "held_out": 64}
    given = {
        "id": "toy",
        "question": "Does KL fall with β?",
        "model": "tiny-0.1m",
        "scale": "a toy",
        "tests": {"kl": Slope("kl", "beta", "slope of KL on log β")},
        "claims": {CLAIM: "kl"},
        "budgets": {"quick": Budget(arms, 3, settings, minutes=6.0), "full": Budget(arms, 6, settings, minutes=12.0)},
        "prepare": toy_prepare,
        "run": toy_run,
        "kinds": ("prompts",),
    }
    return Study(**{**given, **changes})


@pytest.fixture
def one_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimpot.studies.STUDIES", {"toy": toy()})


@pytest.fixture
def own_rows(folder: Path) -> str:
    write(folder / "mine.jsonl", [{"prompt": f"say {number}", "answer": str(number)} for number in range(100)])
    return "mine.jsonl"


def test_the_list_has_every_study_with_verdicts_cost_and_age():
    found = json.loads(run("study", "--json").stdout)
    assert list(found["studies"]) == list(STUDIES)
    shipped = found["studies"]["dpo-beta"]
    assert shipped["budgets"]["quick"]["minutes"] > 0
    (evidence,) = [one for one in shipped["evidence"] if one["whose"] == "shipped"]
    assert set(evidence["verdicts"].values()) <= {"confirmed", "refuted", "inconclusive"}
    assert evidence["age_days"] >= 0
    assert evidence["computing_minutes"] > 0
    assert found["yours"] == {}
    text = run("study").stdout
    for name, study in STUDIES.items():
        assert f"{name}: {study.question}" in text
    assert "quick about" in text
    assert "min of computing" in text


def test_a_study_is_run_and_listed_as_yours(one_study):
    done = run("study", "toy")
    assert "toy, quick budget: 2 arms x 3 seeds, about 6 min on two cores" in done.stderr
    assert "6/6" in done.stderr
    assert "refuted: A larger β ends nearer to the reference. (dpo) slope of KL" in done.stdout
    file = user_folder() / "toy.json"
    assert f"evidence: {file}" in done.stdout
    assert "about 3 min" not in done.stderr
    entry = json.loads(run("study", "--json").stdout)["studies"]["toy"]
    assert entry["evidence"][0]["verdicts"] == {CLAIM: "refuted"}
    assert "toy: Does KL fall with β?" in run("study").stdout
    file.write_text(file.read_text().replace('"refuted"', '"confirmed"'))
    assert "was changed after it was written" in run("study").stdout


def test_minutes_follow_the_number_of_seeds_and_output_names_the_folder(one_study, folder):
    done = run("study", "toy", "--budget", "full", "--seeds", "2", "--output", "here", "--json")
    assert "2 arms x 2 seeds, about 4 min" in done.stderr
    assert json.loads(done.stdout)["file"] == "here/toy.json"
    assert [file.name for file in (folder / "here").iterdir()] == ["toy.json"]
    assert not (user_folder() / "toy.json").exists()


def test_the_same_question_on_ones_own_model_is_yours_and_changes_no_status(one_study, own_rows):
    before = claim_statuses([CLAIM], library())
    done = run("study", "toy", "--model", "tiny-0.1m", "--data", own_rows)
    assert "confirmed (yours): A larger β ends nearer" in done.stdout
    (file,) = user_folder().glob("*.json")
    assert file.name.startswith("toy--tiny-0.1m--mine.jsonl-")
    evidence = json.loads(file.read_text())
    assert evidence["conditions"]["model"] == "tiny-0.1m"
    assert "mine.jsonl" in evidence["conditions"]["scale"]
    assert evidence["conditions"]["settings"]["data_hash"]
    assert evidence_of("toy") == {}
    assert claim_statuses([CLAIM], library()) == before
    entry = json.loads(run("study", "--json").stdout)["studies"]["toy"]
    assert [(one["whose"], one["model"]) for one in entry["evidence"]] == [("yours, own model", "tiny-0.1m")]
    assert "yours, on tiny-0.1m on" in run("study").stdout


def test_other_rows_under_the_same_name_are_run_anew(one_study, own_rows, folder):
    first = json.loads(run("study", "toy", "--model", "tiny-0.1m", "--data", own_rows, "--json").stdout)
    write(folder / own_rows, [{"prompt": f"tell {number}", "answer": str(number)} for number in range(100)])
    second = json.loads(run("study", "toy", "--model", "tiny-0.1m", "--data", own_rows, "--json").stdout)
    assert first["plan_hash"] != second["plan_hash"]
    assert first["file"] == second["file"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("toi",), "Did you mean 'toy'"),
        (("toy", "--budget", "ful"), "Did you mean 'full'"),
        (("toy", "--seeds", "0"), "too few"),
        (("toy", "--model", "tiny-0.1m"), "--model: is given without --data"),
        (("toy", "--data", "mine.jsonl"), "--data: is given without --model"),
        (("--seeds", "3"), "--seeds: is given without a study"),
        (("toy", "--model", "tiny-0.1m", "--data", "pairs.jsonl"), "takes prompts"),
        (("toy", "--model", "tiny-0.1m", "--data", "none.jsonl"), "none.jsonl"),
        (("toy", "--model", "./no-model", "--data", "mine.jsonl"), "no-model"),
        (("toy", "--model", "tiny-9m", "--data", "mine.jsonl"), "tiny-9m"),
        (("fixed", "--model", "tiny-0.1m", "--data", "mine.jsonl"), "cannot run on a model"),
    ],
)
def test_bad_input_is_one_line(own_rows, folder, monkeypatch, arguments, words):
    monkeypatch.setattr("trimpot.studies.STUDIES", {"toy": toy(), "fixed": toy(id="fixed", kinds=())})
    rows = [{"prompt": f"say {number}", "chosen": "a", "rejected": "b"} for number in range(100)]
    write(folder / "pairs.jsonl", rows)
    assert words in refused("study", *arguments)
    assert not user_folder().exists()


# Sweeps


def test_a_sweep_is_predicted_run_scored_shown_and_listed(folder, monkeypatch):
    done = run(*NEW, *PREDICT)
    (file,) = user_folder().glob("*.json")
    name = file.stem
    assert f"{name}: 2 arms x 3 seeds, under 1 min by the dry run" in done.stderr
    assert "6/6" in done.stderr
    assert "right: loss falls with sft.steps; it learns" in done.stdout
    assert "confirmed: loss falls with sft.steps; loss from sft.steps 1 to 40: -" in done.stdout
    assert "sft.steps=40: loss" in done.stdout
    assert f"chart: {file.with_suffix('.svg')}" in done.stdout
    assert file.with_suffix(".svg").read_text().startswith("<svg")
    assert sweep_file(name).exists()

    def refusing(*_, **__):
        raise AssertionError("ran again")

    monkeypatch.setattr("trimpot.studies.runner.run_study", refusing)
    monkeypatch.chdir("/")
    shown = run("study", name, "--json")
    found = json.loads(shown.stdout)
    assert found["outcome"] == "right"
    assert [one["arm"] for one in found["compared"]] == ["sft.steps=1", "sft.steps=40"]
    assert found["compared"][1]["smallest_effect"] > 0
    entry = json.loads(run("study", "--json").stdout)["yours"][name]
    assert entry["outcome"] == "right"
    assert entry["evidence"]["age_days"] < 1
    assert f"{name} (yours): predicted: loss falls" in run("study").stdout
    assert "whose arms, seeds and model its prediction has fixed" in refused("study", name, "--seeds", "9")
    sweep_file(name).write_text(sweep_file(name).read_text().replace("falls with", "rises with"))
    assert "changed after its prediction was written" in refused("study", name)


def test_a_sweep_that_was_stopped_goes_on_by_its_name(monkeypatch):
    from trimpot.studies import sweep_runs

    calls = []
    real = sweep_runs.run_recipe

    def stopping(*given, **named):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*given, **named)

    monkeypatch.setattr(sweep_runs, "run_recipe", stopping)
    done = CliRunner().invoke(app, [*NEW, *PREDICT, "--name", "mine"])
    assert done.exit_code == 130
    assert "Go on with: trimpot study mine" in done.stderr
    assert "not finished; go on with: trimpot study mine" in run("study").stdout
    (plan,) = [run["plan_hash"] for run in _hypotheses()]
    assert len(Ledger().runs(plan)) == 3
    found = json.loads(run("study", "mine", "--json").stdout)
    assert len(calls) == 7
    assert found["outcome"] == "right"
    assert found["plan_hash"] == plan
    assert "holds another study of that name" in refused(*NEW, "--predict", "1 > 40", "--name", "mine")


def _hypotheses() -> list[dict]:
    import sqlite3

    from trimpot.store.ledger import default_url

    with sqlite3.connect(default_url().removeprefix("sqlite:///")) as database:
        return [{"plan_hash": row[0]} for row in database.execute("select plan_hash from hypotheses")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*NEW[:3], *PREDICT), "--arms: is missing"),
        (NEW, "--predict: is missing"),
        ((*NEW, "--predict", "it gets better"), "METRIC rises|falls|stays with KNOB"),
        ((*NEW, "--predict", "3 is best"), "is not one of the arms"),
        ((*NEW, *PREDICT, "--metric", "accuracy"), "speaks of loss"),
        ((*NEW[:-1], "1", *PREDICT), "1 is too few"),
        ((*NEW, *PREDICT, "--name", "dpo-beta"), "is taken by trimpot"),
        (("study", "new", "smal.yaml", *NEW[3:], *PREDICT), "small.yaml"),
        (("study", "new", "small.yaml", "--arms", "sft.stepz=1,2", *PREDICT), "'steps'"),
        ((*ROWS, "recipe is best"), "is not one of the arms"),
        ((*ROWS, "chat.jsonl is best"), "none.jsonl"),
    ],
)
def test_bad_input_of_a_sweep_is_one_line_and_writes_nothing(arguments, words):
    assert words in refused(*arguments)
    assert not sweep_file("x").parent.exists()


def test_wrong_input_ends_with_status_2(folder):
    done = subprocess.run(
        [sys.executable, "-m", "trimpot.cli.main", *NEW, "--predict", "it gets better"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("trimpot: ")]
    assert "cannot be scored" in line
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_sweep_killed_by_the_system_ends_with_the_same_numbers(folder, monkeypatch):
    """``kill -9`` of the command with its two processes, then on from there; beside it one that was not killed."""
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "whole"))
    expected = json.loads(run(*NEW, *PREDICT, "--name", "mine", "--json").stdout)
    command = [sys.executable, "-m", "trimpot.cli.main", *NEW, *PREDICT, "--name", "mine"]
    killed = {**os.environ, "XDG_DATA_HOME": str(folder / "killed")}
    process = subprocess.Popen(command, env=killed, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(b"1/6"):
            process.send_signal(signal.SIGKILL)
            break
    process.stderr.close()
    assert process.wait() == -signal.SIGKILL
    time.sleep(1.0)  # its workers see that it is gone
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "killed"))
    assert 1 <= len(Ledger().runs(expected["plan_hash"])) < 6
    monkeypatch.chdir("/")
    found = json.loads(run("study", "mine", "--json").stdout)
    for part in ("plan_hash", "results", "tested", "outcome"):
        assert found[part] == expected[part]


def test_the_help_of_both_commands_says_what_they_are():
    text = " ".join(run("study", "--help").stdout.split())
    assert "trimpot study new makes one of a recipe" in text
    assert "stage.key=value,value" in " ".join(run("study", "new", "--help").stdout.split())
