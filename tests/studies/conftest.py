"""A study of milliseconds: y rises with the logarithm of a knob, a second metric is noise."""

from __future__ import annotations

import dataclasses
import math
import random
from types import SimpleNamespace

import pytest

from trimpot.knobs.library import Library
from trimpot.knobs.schema import Claim, Source
from trimpot.store.ledger import Ledger
from trimpot.studies.measures import Difference, Slope
from trimpot.studies.runner import run_study
from trimpot.studies.study import Budget, Study

DIRECTIONS = {"rises": "up", "falls": "down", "noise-rises": "up", "stays": "equal"}
CLAIMS = {
    name: Claim(
        id=name, statement=f"{name} statement", source="s", place="p", condition="c", metric="y", direction=direction
    )
    for name, direction in DIRECTIONS.items()
}
SOURCE = Source(key="s", title="t", address="a", really="r", verified="primary", how="h")
KNOWN = Library({"s": SOURCE}, CLAIMS, {})
ARMS = {
    "low": {"knob": 1.0, "order": 0},
    "middle": {"knob": 10.0, "order": 0},
    "high": {"knob": 100.0, "order": 0},
    "middle again": {"knob": 10.0, "order": 1},
}


def prepare(settings, seed, folder):
    (folder / "base").write_text(str(seed))


def run(values, settings, seed, folder):
    base = float((folder / "base").read_text())
    noise = random.Random(f"{seed}/{values}")
    y = base + settings["slope"] * math.log(values["knob"]) + noise.gauss(0, 0.1)
    return {"y": y, "noise": noise.gauss(0, 1)}


def study(**changes):
    base = Study(
        id="toy",
        question="Does y rise with the knob?",
        model="none",
        scale="a toy",
        tests={
            "y": Slope("y", "knob", "slope of y on log knob", where={"order": 0}),
            "noise": Slope("noise", "knob", "slope of noise on log knob", where={"order": 0}),
        },
        claims={"rises": "y", "falls": "y", "noise-rises": "noise"},
        budgets={"quick": Budget(ARMS, 5, {"slope": 0.5}), "full": Budget(ARMS, 8, {"slope": 0.5})},
        prepare=prepare,
        run=run,
        control=Difference("y", "middle", "middle again", "y of two orders"),
    )
    return dataclasses.replace(base, **changes)


@pytest.fixture
def ledger(tmp_path):
    with_file = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield with_file
    with_file.close()


@pytest.fixture
def execute(ledger, tmp_path):
    """Runs a study in this process; by default with the test's ledger and folder."""

    def call(one, ledger=ledger, work=tmp_path / "work", **options):
        return run_study(one, ledger, work, **{"workers": 1, "known": KNOWN, **options})

    return call


@pytest.fixture
def toy():
    return SimpleNamespace(study=study, run=run, prepare=prepare, ARMS=ARMS, CLAIMS=CLAIMS, KNOWN=KNOWN)
