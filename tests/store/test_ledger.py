import subprocess
import sys

import pytest
from sqlalchemy import create_engine, text

from trimpot.core.errors import UsageError
from trimpot.core.hashing import content_hash
from trimpot.store.ledger import Ledger, default_url

PLAN = {"question": "does beta move kl?", "arms": [0.05, 0.1], "seeds": [0, 1]}


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(f"sqlite:///{tmp_path / 'deep' / 'ledger.sqlite'}")
    yield made
    made.close()


def test_hypothesis_comes_back(ledger):
    plan_hash = ledger.record_hypothesis("dpo-beta", PLAN)
    assert plan_hash == content_hash(PLAN)
    first = ledger.hypothesis(plan_hash)
    assert (first["study"], first["plan"]) == ("dpo-beta", PLAN)
    assert ledger.record_hypothesis("dpo-beta", PLAN) == plan_hash
    assert ledger.hypothesis(plan_hash) == first
    assert ledger.hypothesis("none") is None


def test_a_different_plan_under_the_same_hash_is_refused(ledger, monkeypatch):
    plan_hash = ledger.record_hypothesis("dpo-beta", PLAN)
    monkeypatch.setattr("trimpot.store.ledger.content_hash", lambda _: plan_hash)
    with pytest.raises(UsageError, match="is already written, for study dpo-beta"):
        ledger.record_hypothesis("dpo-beta", {**PLAN, "seeds": [0]})
    with pytest.raises(UsageError, match="already written"):
        ledger.record_hypothesis("another", PLAN)
    assert ledger.hypothesis(plan_hash)["plan"] == PLAN


@pytest.mark.parametrize("statement", ["UPDATE hypotheses SET plan = '{}'", "DELETE FROM hypotheses"])
def test_the_database_itself_refuses_an_edit(ledger, statement):
    ledger.record_hypothesis("dpo-beta", PLAN)
    with (
        pytest.raises(Exception, match="a hypothesis is not edited after it is written"),
        create_engine(ledger.url).begin() as connection,
    ):
        connection.execute(text(statement))


def test_runs(ledger):
    plan_hash = ledger.record_hypothesis("dpo-beta", PLAN)
    ledger.record_run(plan_hash, "0.1", 1, {"kl": 2.0})
    ledger.record_run(plan_hash, "0.1", 0, {"kl": 1.0, "other": [1]})
    ledger.record_run(plan_hash, "0.05", 0, {}, status="failed")
    ledger.record_run(plan_hash, "0.1", 0, {"other": [1], "kl": 1.0})
    rows = ledger.runs(plan_hash)
    assert [(row["arm"], row["seed"], row["status"], row["result"]) for row in rows] == [
        ("0.05", 0, "failed", {}),
        ("0.1", 0, "done", {"kl": 1.0, "other": [1]}),
        ("0.1", 1, "done", {"kl": 2.0}),
    ]
    assert ledger.runs("none") == []
    assert {row["study"] for row in rows} == {"dpo-beta"}


def test_a_run_is_written_once(ledger):
    plan_hash = ledger.record_hypothesis("dpo-beta", PLAN)
    ledger.record_run(plan_hash, "0.1", 0, {"kl": 1.0})
    with pytest.raises(UsageError, match=r"run 0\.1, seed 0: is already written"):
        ledger.record_run(plan_hash, "0.1", 0, {"kl": 1.5})
    with pytest.raises(UsageError, match="already written"):
        ledger.record_run(plan_hash, "0.1", 0, {"kl": 1.0}, status="failed")
    assert [row["result"] for row in ledger.runs(plan_hash)] == [{"kl": 1.0}]


def test_a_run_needs_its_hypothesis(ledger):
    with pytest.raises(UsageError, match="there is no hypothesis abc"):
        ledger.record_run("abc", "0.1", 0, {})
    with pytest.raises(ValueError, match="none of done, failed"):
        ledger.record_run("abc", "0.1", 0, {}, status="great")


def test_unusable_urls(tmp_path):
    with pytest.raises(UsageError, match="is no database URL"):
        Ledger("nonsense")
    (tmp_path / "text.sqlite").write_text("not a database, " * 100)
    with pytest.raises(UsageError, match="the ledger cannot be used: file is not a database"):
        Ledger(f"sqlite:///{tmp_path / 'text.sqlite'}")


def test_default_place(monkeypatch, tmp_path):
    monkeypatch.delenv("TRIMPOT_LEDGER", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_url() == f"sqlite:///{tmp_path}/trimpot/ledger.sqlite"
    monkeypatch.setenv("TRIMPOT_LEDGER", "postgresql+psycopg://host/name")
    assert default_url() == "postgresql+psycopg://host/name"


def test_two_processes_from_the_first_moment(tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    code = (
        "import sys; from trimpot.store.ledger import Ledger\n"
        "ledger = Ledger(sys.argv[1]); plan = ledger.record_hypothesis('s', {'a': 1})\n"
        "[ledger.record_run(plan, 'shared', seed, {'x': seed}) for seed in range(25)]\n"
        "[ledger.record_run(plan, sys.argv[2], seed, {'x': seed}) for seed in range(25)]"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, url, name]) for name in ("one", "two")]
    assert [process.wait(timeout=60) for process in started] == [0, 0]
    rows = Ledger(url).runs(content_hash({"a": 1}))
    assert len(rows) == 75
