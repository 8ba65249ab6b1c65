"""Verdicts that do not follow from the runs in their own file are found, whoever made its hashes fit again."""

import dataclasses

import pytest

from trimpot.core.hashing import content_hash
from trimpot.core.stats import Estimate
from trimpot.knobs.evidence import SHIPPED, Conditions, Evidence, write_evidence
from trimpot.knobs.schema import Claim
from trimpot.studies import STUDIES
from trimpot.studies.decide import decide
from trimpot.studies.measures import Difference
from trimpot.studies.recheck import check_verdicts, differing
from trimpot.studies.study import Budget, Study

ARMS = {"low": {"beta": 0.1, "order": 0}, "high": {"beta": 1.0, "order": 0}, "again": {"beta": 0.1, "order": 1}}
SEEDS = (10, 11, 12, 13)


def prepare(settings, seed, folder):
    """Nothing to prepare."""


def run(values, settings, seed, folder):
    return {"kl": values["beta"]}


TOY = Study(
    id="toy", question="How far?", model="tiny", scale="constructed", prepare=prepare, run=run, first_seed=10,
    tests={"kl": Difference("kl", "high", "low", "KL of the two")},
    claims={"closer": "kl", "alike": "kl"}, margins={"alike": 5.0},
    budgets={"quick": Budget(ARMS, 4, {"steps": 1})},
    control=Difference("kl", "low", "again", "KL of two orders"),
)  # fmt: skip
CLAIMS = {
    name: Claim(
        id=name, statement=f"It is {name}.", source="s", place="p", condition="c", metric="kl", direction=direction
    )
    for name, direction in (("closer", "down"), ("alike", "equal"))
}


def evidence():
    """Evidence with constructed numbers, decided by the rule."""
    plan = TOY.plan("quick", 4, CLAIMS)
    results = {
        "low": {"10": {"kl": 2.0}, "11": {"kl": 2.2}, "12": {"kl": 1.9}, "13": {"kl": 2.1}},
        "high": {"10": {"kl": 1.0}, "11": {"kl": 1.1}, "12": {"kl": 1.0}, "13": {"kl": 0.8}},
        "again": {"10": {"kl": 2.1}, "11": {"kl": 2.1}, "12": {"kl": 2.0}, "13": {"kl": 2.0}},
    }
    tested, control = decide(TOY, TOY.budget("quick"), results, SEEDS, CLAIMS)
    conditions = Conditions("tiny", "constructed", "quick", {"steps": 1}, {}, None, "2026-11-24", 1.0)
    return Evidence(
        "toy", "How far?", content_hash(plan), SEEDS, plan["arms"], results, (), tested, control, conditions, plan=plan
    )


def with_test(**changes):
    found = evidence()
    tested = dataclasses.replace(found.tested["closer"], **changes)
    return dataclasses.replace(found, tested={**found.tested, "closer": tested})


def with_run(value):
    found = evidence()
    high = {**found.results["high"], "10": {"kl": value}}
    return dataclasses.replace(found, results={**found.results, "high": high})


def test_what_follows_from_its_runs_is_let_be(tmp_path):
    found = evidence()
    assert {name: one.verdict for name, one in found.tested.items()} == {"closer": "confirmed", "alike": "confirmed"}
    write_evidence(found, tmp_path)
    assert check_verdicts([tmp_path], {"toy": TOY}) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": "refuted"},
        {"p_value": 1e-9},
        {"smallest_effect": 0.01},
        {"effect": Estimate(-3.0, -4.0, -2.0, 4, "t")},
    ],
    ids=["verdict", "p", "smallest effect", "effect"],
)
def test_a_verdict_or_number_that_was_written_in_is_named(changes, tmp_path):
    path = write_evidence(with_test(**changes), tmp_path)
    assert check_verdicts([tmp_path], {"toy": TOY}) == [f"{path}: its runs do not give what it says of closer"]


def test_a_run_that_was_changed_does_not_give_the_verdicts(tmp_path):
    path = write_evidence(with_run(3.0), tmp_path)
    assert check_verdicts([tmp_path], {"toy": TOY}) == [f"{path}: its runs do not give what it says of closer, alike"]


def test_a_control_that_was_left_out_is_named():
    assert differing(dataclasses.replace(evidence(), control=None), TOY) == ["control"]


def test_evidence_of_an_earlier_plan_or_of_another_study_is_passed_over(tmp_path):
    changed = dataclasses.replace(TOY, tests={"kl": Difference("kl", "high", "low", "other words")})
    assert differing(with_test(verdict="refuted"), changed) == []
    assert differing(dataclasses.replace(with_test(verdict="refuted"), plan=None), TOY) == []
    write_evidence(with_test(verdict="refuted"), tmp_path)
    (tmp_path / "broken.json").write_text("{}")
    assert check_verdicts([tmp_path], {}) == []


def test_the_verdicts_that_are_shipped_follow_from_their_runs():
    assert check_verdicts([SHIPPED], STUDIES) == []
