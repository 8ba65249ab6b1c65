"""A ledger whose file was written to behind its back says what was changed."""

import sqlite3

import pytest

from trimpot.core.errors import UsageError
from trimpot.store.ledger import Ledger, default_exists

PLAN = {"question": "does β move kl?", "arms": {"a": {"beta": 0.05}}, "seeds": [0, 1]}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(file):
    made = Ledger(f"sqlite:///{file}")
    yield made
    made.close()


def behind_its_back(file, *statements):
    """Writes to the file with the database's own refusal taken away first."""
    connection = sqlite3.connect(file)
    for verb in ("update", "delete"):
        connection.execute(f"DROP TRIGGER hypotheses_no_{verb}")
    for statement, *values in statements:
        connection.execute(statement, values)
    connection.commit()
    connection.close()


def test_a_ledger_that_nobody_touched_is_sound(ledger):
    assert ledger.verify() == []
    first = ledger.record_hypothesis("dpo-beta", PLAN)
    ledger.record_hypothesis("grpo-group-size", {**PLAN, "seeds": [2]})
    ledger.record_run(first, "a", 0, {"kl": 1.0})
    assert ledger.verify() == []


@pytest.mark.parametrize(
    ("old", "new"),
    [("0.05", "0.06"), ("does β move kl?", "does β move accuracy?"), ("[0,1]", "[0, 1]")],
    ids=["an arm", "the question", "only a space"],
)
def test_a_plan_that_was_edited_is_named(ledger, file, old, new):
    sound = ledger.record_hypothesis("grpo-group-size", {**PLAN, "seeds": [2]})
    plan_hash = ledger.record_hypothesis("dpo-beta", PLAN)
    statement = "UPDATE hypotheses SET plan = replace(plan, ?, ?) WHERE plan_hash = ?"
    behind_its_back(file, (statement, old, new, plan_hash))
    (problem,) = Ledger(ledger.url).verify()
    assert problem == f"hypothesis {plan_hash} of study dpo-beta: its plan was edited after it was written"
    assert sound not in problem


def test_a_plan_written_anew_under_another_hash_leaves_its_runs_behind(ledger, file):
    plan_hash = ledger.record_hypothesis("dpo-beta", PLAN)
    for seed in (0, 1):
        ledger.record_run(plan_hash, "a", seed, {"kl": 1.0})
    behind_its_back(file, ("DELETE FROM hypotheses WHERE plan_hash = ?", plan_hash))
    assert Ledger(ledger.url).verify() == [f"hypothesis {plan_hash} of study dpo-beta: is gone, but has runs"]


def test_whether_there_is_a_default_ledger(monkeypatch, tmp_path):
    monkeypatch.delenv("TRIMPOT_LEDGER", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert not default_exists()
    Ledger().close()
    assert default_exists()
    monkeypatch.setenv("TRIMPOT_LEDGER", f"sqlite:///{tmp_path / 'none.sqlite'}")
    assert not default_exists()
    monkeypatch.setenv("TRIMPOT_LEDGER", "postgresql+psycopg://host/name")
    assert default_exists()
    monkeypatch.setenv("TRIMPOT_LEDGER", "nonsense")
    with pytest.raises(UsageError, match="is no database URL"):
        default_exists()
