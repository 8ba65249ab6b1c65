"""The runner on toy studies of milliseconds: hypothesis first, resume, new plans, verdicts."""

import dataclasses
import math
import random

import pytest

from trimpot.core.errors import UsageError
from trimpot.knobs.evidence import read_evidence, write_evidence
from trimpot.knobs.library import Library
from trimpot.knobs.schema import Claim, Source
from trimpot.store.ledger import Ledger
from trimpot.studies.measures import Difference, Slope
from trimpot.studies.runner import run_study
from trimpot.studies.study import Budget, Study

CLAIMS = {
    name: Claim(
        id=name, statement=f"{name} statement", source="s", place="p", condition="c", metric="y", direction=direction
    )
    for name, direction in (("rises", "up"), ("falls", "down"), ("noise-rises", "up"))
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


def execute(one, ledger, tmp_path, **options):
    return run_study(one, ledger, tmp_path / "work", workers=1, known=KNOWN, **options)


def test_a_true_effect_is_confirmed_its_reverse_refuted_and_noise_neither(ledger, tmp_path):
    evidence = execute(study(), ledger, tmp_path)
    assert {name: one.verdict for name, one in evidence.tested.items()} == {
        "rises": "confirmed",
        "falls": "refuted",
        "noise-rises": "inconclusive",
    }
    effect = evidence.tested["rises"].effect
    assert effect.low < 0.5 < effect.high
    assert effect.n == 5
    assert evidence.tested["noise-rises"].smallest_effect > 0.1
    assert evidence.control.passed


def test_nothing_is_confirmed_when_the_arms_are_the_same(ledger, tmp_path):
    evidence = execute(study(budgets={"quick": Budget(ARMS, 5, {"slope": 0.0})}), ledger, tmp_path)
    assert {one.verdict for one in evidence.tested.values()} == {"inconclusive"}


def test_a_control_that_differs_makes_every_verdict_inconclusive(ledger, tmp_path):
    def biased(values, settings, seed, folder):
        metrics = run(values, settings, seed, folder)
        return {**metrics, "y": metrics["y"] + 5 * values["order"]}

    evidence = execute(study(run=biased), ledger, tmp_path)
    assert not evidence.control.passed
    assert {one.verdict for one in evidence.tested.values()} == {"inconclusive"}


def test_the_hypothesis_is_in_the_ledger_before_the_first_run(ledger, tmp_path):
    def watching(values, settings, seed, folder):
        plan_hash = folder.parent.name
        stored = ledger.hypothesis(plan_hash)
        assert stored["study"] == "toy"
        assert stored["plan"]["claims"]["rises"]["statement"] == "rises statement"
        return run(values, settings, seed, folder)

    evidence = execute(study(run=watching), ledger, tmp_path)
    assert ledger.hypothesis(evidence.plan_hash)["plan"]["seeds"] == [0, 1, 2, 3, 4]


def test_a_killed_study_goes_on_and_ends_with_the_same_numbers(ledger, tmp_path):
    whole = execute(study(), Ledger(f"sqlite:///{tmp_path / 'other.sqlite'}"), tmp_path / "other")
    calls = []

    def dying(values, settings, seed, folder):
        if len(calls) == 7:
            raise KeyboardInterrupt
        calls.append(seed)
        return run(values, settings, seed, folder)

    def counting(values, settings, seed, folder):
        calls.append(seed)
        return run(values, settings, seed, folder)

    with pytest.raises(KeyboardInterrupt):
        execute(study(run=dying), ledger, tmp_path)
    assert len(ledger.runs(whole.plan_hash)) == 7
    resumed = execute(study(run=counting), ledger, tmp_path)
    assert len(calls) == 20
    assert resumed.results == whole.results
    assert resumed.tested == whole.tested


def test_a_finished_study_runs_nothing_again(ledger, tmp_path):
    def refusing(*_):
        raise AssertionError("ran again")

    first = execute(study(), ledger, tmp_path)
    assert execute(study(run=refusing, prepare=refusing), ledger, tmp_path).results == first.results
    assert not (tmp_path / "work" / first.plan_hash).exists()


@pytest.mark.parametrize(
    "change",
    [
        {"scale": "another"},
        {"budgets": {"quick": Budget(ARMS, 5, {"slope": 0.6})}},
        {"budgets": {"quick": Budget({**ARMS, "huge": {"knob": 1e3, "order": 0}}, 5, {"slope": 0.5})}},
        {"control": None},
        {"claims": {"rises": "y"}},
    ],
)
def test_an_edited_plan_is_a_new_study(ledger, tmp_path, change):
    first = execute(study(), ledger, tmp_path)
    second = execute(study(**change), ledger, tmp_path)
    assert second.plan_hash != first.plan_hash
    assert len(ledger.runs(first.plan_hash)) == 20


def test_other_words_of_a_claim_are_another_plan():
    words = {name: claim.statement for name, claim in CLAIMS.items()}
    assert study().plan("quick", 5, words) != study().plan("quick", 5, {**words, "rises": "y rises a lot"})
    assert study().plan("quick", 5, words) != study().plan("quick", 6, words)


def test_a_run_that_diverges_is_recorded_as_failed_and_its_seed_left_out(ledger, tmp_path):
    def diverging(values, settings, seed, folder):
        metrics = run(values, settings, seed, folder)
        return {**metrics, "y": math.nan} if seed == 3 and values["knob"] == 100 else metrics

    evidence = execute(study(run=diverging), ledger, tmp_path)
    assert evidence.failed == ("high, seed 3",)
    assert evidence.tested["rises"].effect.n == 4


def test_one_seed_decides_nothing(ledger, tmp_path):
    evidence = execute(study(), ledger, tmp_path, seeds=1)
    assert {one.verdict for one in evidence.tested.values()} == {"inconclusive"}
    assert evidence.tested["rises"].effect.low is None
    assert evidence.tested["rises"].smallest_effect is None


@pytest.mark.parametrize(
    ("options", "words"), [({"budget": "quik"}, "Did you mean 'quick'"), ({"seeds": 0}, "too few")]
)
def test_bad_options_are_named_and_write_nothing(ledger, tmp_path, options, words):
    with pytest.raises(UsageError, match=words):
        execute(study(), ledger, tmp_path, **options)
    assert not (tmp_path / "work").exists()


def test_a_claim_without_a_statement_is_refused(ledger, tmp_path):
    with pytest.raises(UsageError, match="'other' is unknown"):
        execute(study(claims={"other": "y"}), ledger, tmp_path)


def test_evidence_comes_back_from_its_file_as_it_was(ledger, tmp_path):
    evidence = execute(study(), ledger, tmp_path)
    assert read_evidence(write_evidence(evidence, tmp_path / "evidence")) == evidence
