"""The real study at its smallest: one seed, two arms, a few steps."""

import dataclasses
import json

import pytest

from trimpot.cli import knobs as commands
from trimpot.cli import studies as study_commands
from trimpot.core.rows import Message, PreferencePair
from trimpot.knobs.evidence import read_evidence
from trimpot.knobs.library import library
from trimpot.studies import STUDIES, reversal
from trimpot.studies.study import Budget

SMALL = {
    "stop_at": 0.2, "sft_steps": 260, "prompts": 64, "pairs": 32, "held_out": 16,
    "samples": 4, "steps": 4, "batch": 8, "learning_rate": 3e-4,
}  # fmt: skip


def test_words_are_different_and_a_longer_list_begins_with_the_shorter():
    rows = reversal.words(4096, 0)
    assert len({row.id for row in rows}) == 4096
    assert rows[:10] == reversal.words(10, 0)
    assert rows[0].answer == rows[0].prompt[0].content[::-1]
    with pytest.raises(ValueError, match="4097"):
        reversal.words(4097, 0)


def test_wrong_labels_are_the_share_asked_for_and_change_nothing_else():
    pairs = [
        PreferencePair((Message("user", f"{i}"),), (Message("assistant", "right"),), (Message("assistant", "wrong"),))
        for i in range(1000)
    ]
    wrong = reversal.with_wrong_labels(pairs, 0.2, 0)
    assert 150 < sum(pair.chosen[0].content == "wrong" for pair in wrong) < 250
    assert [pair.prompt for pair in wrong] == [pair.prompt for pair in pairs]
    assert reversal.with_wrong_labels(pairs, 0.0, 0) == pairs


def test_every_budget_has_five_seeds_and_a_control():
    study = STUDIES["dpo-beta"]
    for budget in study.budgets.values():
        assert budget.seeds >= 5
        assert study.control.applies(budget.arms)
    assert all(study.id in library().claims[name].studies for name in study.claims)


def test_one_test_decides_both_sides_of_a_disagreement():
    """A mean below 0 confirms one side and refutes the other: they have one quantity and opposite directions."""
    study, known = STUDIES["dpo-beta"], library()
    for one, other in (
        ("dpo-larger-beta-stays-closer", "dpo-larger-beta-moves-further"),
        ("dpo-raises-chosen", "dpo-chosen-falls"),
    ):
        assert study.claims[one] == study.claims[other]
        assert {known.claims[one].direction, known.claims[other].direction} == {"up", "down"}
    assert study.tests[study.claims["dpo-suppresses-rejected"]].metric == "logratio/rejected"


def test_the_command_runs_the_study_end_to_end(tmp_path, monkeypatch, capsys):
    study = STUDIES["dpo-beta"]
    arms = {name: values for name, values in study.budgets["quick"].arms.items() if name in ("beta=0.1", "beta=1")}
    small = dataclasses.replace(study, budgets={"quick": Budget(arms, 1, SMALL)})
    monkeypatch.setitem(STUDIES, "dpo-beta", small)
    monkeypatch.setattr("trimpot.studies.runner.WORKERS", 1)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("TRIMPOT_LEDGER", raising=False)
    study_commands.study("dpo-beta", seeds=1, budget="quick", output=None, json=True)
    out, progress = capsys.readouterr()
    printed = json.loads(out)
    assert "2/2" in progress
    evidence = read_evidence(tmp_path / "trimpot" / "evidence" / "dpo-beta.json")
    assert printed["plan_hash"] == evidence.plan_hash
    assert set(evidence.results["beta=1"]["10"]) >= {"kl", "accuracy", "rewards/margins", "logratio/chosen"}
    assert (tmp_path / "trimpot" / "evidence" / "dpo-beta.svg").read_text().startswith("<svg")
    assert {one.verdict for one in evidence.tested.values()} == {"inconclusive"}
    commands.card("dpo.beta", check=False, json=True)
    claims = json.loads(capsys.readouterr().out)["claims"]
    assert claims[0]["status"] == "inconclusive"
    assert claims[0]["evidence"] == "yours"
