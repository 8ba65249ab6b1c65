"""Runs in a file beside the evidence: another machine goes on from there, and a changed file is named."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trimpot.core.errors import UsageError
from trimpot.knobs.evidence import read_evidence
from trimpot.store.ledger import Ledger
from trimpot.studies import partial as module
from trimpot.studies.partial import PartialFile, read_partial

ROOT = Path(__file__).parents[2]


@pytest.fixture
def stopped(toy, execute, tmp_path):
    """The file of a study that was stopped after seven of its twenty runs, and the study's calls since."""
    calls = []

    def counting(values, settings, seed, folder):
        if len(calls) == 7:
            calls.append("stopped")
            raise KeyboardInterrupt
        calls.append(seed)
        return toy.run(values, settings, seed, folder)

    path = tmp_path / "partial" / "toy.json"
    study = toy.study(run=counting)
    with pytest.raises(KeyboardInterrupt):
        execute(study, partial=path)
    calls.remove("stopped")
    return study, path, calls


def another(tmp_path):
    return Ledger(f"sqlite:///{tmp_path / 'another.sqlite'}")


def test_another_machine_goes_on_from_the_file(toy, execute, tmp_path, stopped):
    study, path, calls = stopped
    assert len(read_partial(path)["runs"]) == 7
    assert read_partial(path)["study"] == "toy"
    calls.append("another machine")  # so that the eighth call is not the one that stops
    evidence = execute(study, another(tmp_path), tmp_path / "elsewhere", partial=path)
    assert len(calls) == 21
    assert evidence.results == execute(toy.study()).results
    assert not path.exists()


def test_a_ledger_that_has_the_runs_already_takes_none_twice(execute, ledger, stopped):
    study, path, calls = stopped
    calls.append("again")
    content = read_partial(path)
    assert PartialFile(path, ledger, content["plan_hash"]).read() == 0
    execute(study, partial=path)
    assert len(calls) == 21


def test_the_file_of_another_plan_is_not_read_and_not_removed(toy, execute, tmp_path, stopped):
    _, path, calls = stopped
    text = path.read_text()
    evidence = execute(toy.study(scale="another"), another(tmp_path), tmp_path / "elsewhere", partial=path)
    assert len(calls) == 7
    assert len(evidence.results["low"]) == 5
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content["runs"][0]["result"]["metrics"].update(y=9.0), "changed after it was written"),
        (lambda content: content["plan"].update(rule="anything goes"), "its plan was changed"),
        (lambda content: content.pop("runs"), "cannot be read"),
    ],
)
def test_a_changed_file_is_named_and_nothing_is_taken_from_it(execute, tmp_path, stopped, change, words):
    study, path, _ = stopped
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    ledger = another(tmp_path)
    with pytest.raises(UsageError, match=words) as raised:
        execute(study, ledger, tmp_path / "elsewhere", partial=path)
    assert raised.value.where == str(path)
    assert ledger.runs(content["plan_hash"]) == []


def test_the_file_is_written_no_more_often_than_it_may_be(execute, toy, tmp_path, monkeypatch):
    path, seen = tmp_path / "toy.json", []

    def watching(values, settings, seed, folder):
        seen.append(len(read_partial(path)["runs"]) if path.exists() else 0)
        return toy.run(values, settings, seed, folder)

    execute(toy.study(run=watching), partial=path)
    assert set(seen) == {0}
    monkeypatch.setattr(module, "SECONDS", 0.0)
    seen.clear()
    execute(toy.study(run=watching, scale="another"), partial=path)
    assert seen == list(range(20))


SCRIPT = """
import math, random, sys, time
from pathlib import Path

from trimpot.knobs.evidence import write_evidence
from trimpot.knobs.library import Library
from trimpot.knobs.schema import Claim
from trimpot.store.ledger import Ledger
from trimpot.studies.measures import Slope
from trimpot.studies.runner import run_study
from trimpot.studies.study import Budget, Study, Tuning

def prepare(settings, seed, folder):
    (folder / "base").write_text(str(seed))

def run(values, settings, seed, folder):
    time.sleep(0.3)
    base, noise = float((folder / "base").read_text()), random.Random(f"{seed}/{values}")
    return {"y": base + math.log(values["knob"]) * values["learning_rate"] + noise.gauss(0, 0.1)}

CLAIM = Claim(id="rises", statement="y rises", source="s", place="p", condition="c", metric="y", direction="up")
STUDY = Study(
    id="toy", question="?", model="none", scale="a toy", tests={"y": Slope("y", "knob", "slope")},
    claims={"rises": "y"}, prepare=prepare, run=run, first_seed=10,
    budgets={"quick": Budget({"low": {"knob": 1.0}, "high": {"knob": 9.0}}, 5, {})},
    tuning=Tuning(values=(0.5, 1.0), metric="y", seeds=(0,)),
)

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    known = Library({}, {"rises": CLAIM}, {})
    write_evidence(run_study(STUDY, ledger, folder / "work", workers=2, known=known), folder)
"""


def runs_in(file: Path) -> int:
    if not file.exists():
        return 0
    with sqlite3.connect(file) as connection:
        try:
            return connection.execute("SELECT COUNT(*) FROM runs").fetchone()[0]
        except sqlite3.OperationalError:
            return 0


@pytest.mark.slow
def test_a_study_killed_with_signal_nine_ends_with_the_same_numbers(tmp_path):
    script = tmp_path / "toy_study.py"
    script.write_text(SCRIPT)
    folders = [tmp_path / name for name in ("whole", "killed")]
    for folder in folders:
        folder.mkdir()
    commands = [[sys.executable, str(script), str(folder)] for folder in folders]
    subprocess.run(commands[0], cwd=ROOT, check=True, timeout=300)
    process = subprocess.Popen(commands[1], cwd=ROOT)
    deadline = time.monotonic() + 240
    while runs_in(folders[1] / "ledger.sqlite") < 6:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    # Four runs tune the two arms, and ten are counted.
    assert 6 <= runs_in(folders[1] / "ledger.sqlite") < 14
    subprocess.run(commands[1], cwd=ROOT, check=True, timeout=300)
    whole, killed = (read_evidence(folder / "toy.json") for folder in folders)
    assert runs_in(folders[1] / "ledger.sqlite") == 14
    assert killed.plan_hash == whole.plan_hash
    assert killed.results == whole.results
    assert killed.tuned == whole.tuned
    assert killed.tested == whole.tested
