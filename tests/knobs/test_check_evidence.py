"""Tampering after the fact: `trimpot card --check` names the evidence file or the plan that was changed."""

import json
import sqlite3

import pytest
from typer.testing import CliRunner

from trimpot.cli.main import app
from trimpot.core.hashing import content_hash
from trimpot.core.stats import Estimate
from trimpot.knobs.check_evidence import check_evidence, check_ledger
from trimpot.knobs.evidence import SHIPPED, ClaimTest, Conditions, Evidence, user_folder, write_evidence
from trimpot.store.ledger import Ledger

STATEMENT = "A larger β ends nearer to the reference."
PLAN = {
    "study": "dpo-beta", "question": "How far?", "model": "tiny-0.1m", "scale": "tiny", "budget": "quick",
    "claims": {"closer": {"statement": STATEMENT, "direction": "down", "test": "kl"}}, "rule": "mean over seeds",
    "arms": {"a": {"beta": 0.1}}, "seeds": [10, 11], "settings": {"steps": 1},
}  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("TRIMPOT_LEDGER", raising=False)
    return tmp_path


def constructed():
    """Evidence that nothing measured."""
    tested = ClaimTest(STATEMENT, "slope", Estimate(-0.5, -0.7, -0.3, 2, "t"), 0.01, 0.2, "confirmed")
    return Evidence(
        study="dpo-beta", question="How far?", plan_hash=content_hash(PLAN), seeds=(10, 11), arms=PLAN["arms"],
        results={"a": {"10": {"kl": 1.0}, "11": {"kl": 2.0}}}, failed=(), tested={"closer": tested}, control=None,
        conditions=Conditions("tiny-0.1m", "tiny", "quick", {"steps": 1}, {}, None, "2026-11-24", 1.0), plan=PLAN,
    )  # fmt: skip


def rewritten(path, change, hashes=("content",)):
    """Changes the content of an evidence file and makes the hashes that are named fit it again."""
    content = json.loads(path.read_text())
    content.pop("content_hash")
    change(content)
    if "plan" in hashes:
        content["plan_hash"] = content_hash(content["plan"])
    path.write_text(json.dumps({"content_hash": content_hash(content), **content}))


def problems_of_the_command():
    done = CliRunner().invoke(app, ["card", "--check", "--json"])
    found = json.loads(done.stdout)["problems"]
    assert done.exit_code == (1 if found else 0)
    return found


def set_verdict(content):
    content["tested"]["closer"]["verdict"] = "refuted"


def set_rule(content):
    content["plan"]["rule"] = "the best seed counts"


def set_seeds(content):
    content["plan"]["seeds"] = [10]


def set_claim(content):
    content["tested"]["closer"]["statement"] = "A larger β ends nearer to the moon."


def test_what_nobody_touched_has_no_problem():
    write_evidence(constructed(), user_folder())
    assert check_evidence([user_folder(), SHIPPED]) == []
    assert problems_of_the_command() == []


@pytest.mark.parametrize("field", ['"confirmed"', '"kl": 1.0', '"closer"', '"quick"', '"down"', "-0.5"])
def test_an_evidence_file_that_was_edited_is_named(field):
    path = write_evidence(constructed(), user_folder())
    text = path.read_text()
    assert field in text
    path.write_text(text.replace(field, field.replace("1", "3").replace("c", "k").replace("o", "0").replace("5", "6")))
    (problem,) = problems_of_the_command()
    assert problem.startswith(f"{path}: ")
    assert "changed after it was" in problem


def test_a_plan_that_was_rewritten_with_the_content_hash_made_to_fit_is_named():
    path = write_evidence(constructed(), user_folder())
    rewritten(path, set_rule)
    (problem,) = problems_of_the_command()
    assert problem.startswith(f"{path}: its plan was changed after it was hashed")


@pytest.mark.parametrize(
    ("change", "hashes", "words"),
    [
        (set_seeds, ("content", "plan"), "differs from its own plan in seeds"),
        (set_claim, ("content",), "differs from its own plan in claims"),
    ],
)
def test_evidence_that_is_not_what_its_plan_announced_is_named(change, hashes, words):
    path = write_evidence(constructed(), user_folder())
    rewritten(path, change, hashes)
    assert problems_of_the_command() == [f"{path}: {words}"]


def test_evidence_under_the_name_of_another_study_is_named():
    path = write_evidence(constructed(), user_folder())
    other = path.rename(path.with_name("grpo-group-size.json"))
    assert check_evidence([user_folder()]) == [f"{other}: is evidence of the study dpo-beta"]


def test_a_hypothesis_that_was_edited_in_the_ledger_is_named(home):
    ledger = Ledger()
    plan_hash = ledger.record_hypothesis("dpo-beta", PLAN)
    ledger.close()
    assert check_ledger() == []
    connection = sqlite3.connect(home / "trimpot" / "ledger.sqlite")
    connection.execute("DROP TRIGGER hypotheses_no_update")
    connection.execute("UPDATE hypotheses SET plan = replace(plan, 'mean over seeds', 'the best seed counts')")
    connection.commit()
    connection.close()
    assert problems_of_the_command() == [
        f"ledger: hypothesis {plan_hash} of study dpo-beta: its plan was edited after it was written"
    ]


def test_a_ledger_that_cannot_be_read_is_a_problem_and_one_that_is_not_there_is_none(home):
    assert check_ledger() == []
    assert not (home / "trimpot").exists(), "the check must not make a ledger"
    (home / "trimpot").mkdir()
    (home / "trimpot" / "ledger.sqlite").write_text("not a database, " * 100)
    (problem,) = check_ledger()
    assert "the ledger cannot be used" in problem
