"""The runner on toy studies of milliseconds: hypothesis first, resume, new plans, verdicts."""

import dataclasses
import math
import re

import pytest

from trimpot.core.errors import UsageError
from trimpot.core.hashing import content_hash
from trimpot.knobs.evidence import read_evidence, write_evidence
from trimpot.store.ledger import Ledger
from trimpot.studies.own import split_rows
from trimpot.studies.study import Budget
from trimpot.studies.workers import Workers


def test_a_true_effect_is_confirmed_its_reverse_refuted_and_noise_neither(toy, execute):
    evidence = execute(toy.study())
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


def test_nothing_is_confirmed_when_the_arms_are_the_same(toy, execute):
    evidence = execute(toy.study(budgets={"quick": Budget(toy.ARMS, 5, {"slope": 0.0})}))
    assert {one.verdict for one in evidence.tested.values()} == {"inconclusive"}


def test_equality_is_confirmed_within_the_margin_and_refuted_outside_it(toy, execute):
    claims = {"rises": "y", "stays": "y"}
    flat = {"quick": Budget(toy.ARMS, 5, {"slope": 0.0})}
    within = execute(toy.study(claims=claims, margins={"stays": 0.2}, budgets=flat)).tested["stays"]
    assert (within.verdict, within.margin) == ("confirmed", 0.2)
    assert within.p_value < 0.05
    assert execute(toy.study(claims=claims, margins={"stays": 0.2})).tested["stays"].verdict == "refuted"
    unsure = execute(toy.study(claims=claims, margins={"stays": 1e-4}, budgets=flat)).tested
    assert unsure["stays"].verdict == "inconclusive"
    assert unsure["rises"].margin is None


@pytest.mark.parametrize("margins", [{}, {"stays": 0.0}])
def test_equality_without_a_margin_is_refused_before_anything_is_written(toy, execute, tmp_path, margins):
    with pytest.raises(UsageError, match="'stays' says equal"):
        execute(toy.study(claims={"stays": "y"}, margins=margins))
    assert not (tmp_path / "work").exists()


def test_a_control_that_differs_makes_every_verdict_inconclusive(toy, execute):
    def biased(values, settings, seed, folder):
        metrics = toy.run(values, settings, seed, folder)
        return {**metrics, "y": metrics["y"] + 5 * values["order"]}

    evidence = execute(toy.study(run=biased, claims={"rises": "y", "stays": "y"}, margins={"stays": 1e3}))
    assert not evidence.control.passed
    assert {one.verdict for one in evidence.tested.values()} == {"inconclusive"}


def test_the_hypothesis_is_in_the_ledger_before_the_first_run(toy, execute, ledger):
    def watching(values, settings, seed, folder):
        plan_hash = folder.parent.name
        stored = ledger.hypothesis(plan_hash)
        assert stored["study"] == "toy"
        assert stored["plan"]["claims"]["rises"]["statement"] == "rises statement"
        return toy.run(values, settings, seed, folder)

    evidence = execute(toy.study(run=watching))
    assert ledger.hypothesis(evidence.plan_hash)["plan"]["seeds"] == [0, 1, 2, 3, 4]


def test_the_plan_says_what_would_refute_each_claim(toy, execute):
    plan = execute(toy.study(claims={"rises": "y", "falls": "y", "stays": "y"}, margins={"stays": 0.2})).plan
    refuted = {name: claim["refuted_by"] for name, claim in plan["claims"].items()}
    assert "mean is below 0" in refuted["rises"]
    assert "mean is above 0" in refuted["falls"]
    assert "outside ±0.2" in refuted["stays"]
    assert plan["claims"]["falls"]["direction"] == "down"


def test_a_killed_study_goes_on_and_ends_with_the_same_numbers(toy, execute, ledger, tmp_path):
    whole = execute(toy.study(), Ledger(f"sqlite:///{tmp_path / 'other.sqlite'}"), tmp_path / "other")
    calls = []

    def dying(values, settings, seed, folder):
        if len(calls) == 7:
            raise KeyboardInterrupt
        return counting(values, settings, seed, folder)

    def counting(values, settings, seed, folder):
        calls.append(seed)
        return toy.run(values, settings, seed, folder)

    # The plan hashes the file of the run's function: both are in this one, the toy's own is not.
    with pytest.raises(KeyboardInterrupt):
        execute(toy.study(run=dying))
    resumed = execute(toy.study(run=counting))
    assert len(ledger.runs(resumed.plan_hash)) == len(calls) == 20
    assert resumed.results == whole.results
    assert resumed.tested == whole.tested


def test_a_finished_study_runs_nothing_again(toy, execute, tmp_path):
    first = execute(toy.study())

    def refusing(*_):
        raise AssertionError("ran again")

    refusing.__code__ = refusing.__code__.replace(co_filename=toy.run.__code__.co_filename)
    assert execute(toy.study(run=refusing, prepare=refusing)).results == first.results
    assert not (tmp_path / "work" / first.plan_hash).exists()


@pytest.mark.parametrize(
    "change",
    [
        {"scale": "another"},
        {"budgets": {"quick": {"slope": 0.6}}},
        {"budgets": {"quick": {"slope": 0.5, "more": 1}}},
        {"control": None},
        {"claims": {"rises": "y"}},
        {"margins": {"rises": 0.1}},
    ],
)
def test_an_edited_plan_is_a_new_study(toy, execute, ledger, change):
    first = execute(toy.study())
    if "budgets" in change:
        change = {"budgets": {name: Budget(toy.ARMS, 5, settings) for name, settings in change["budgets"].items()}}
    second = execute(toy.study(**change))
    assert second.plan_hash != first.plan_hash
    assert len(ledger.runs(first.plan_hash)) == 20


def test_other_words_or_another_direction_of_a_claim_are_another_plan(toy):
    plan = toy.study().plan("quick", 5, toy.CLAIMS)
    assert toy.study().plan("quick", 5, toy.CLAIMS) == plan
    for change in ({"statement": "y rises a lot"}, {"direction": "down"}):
        changed = toy.CLAIMS["rises"].model_copy(update=change)
        assert toy.study().plan("quick", 5, {**toy.CLAIMS, "rises": changed}) != plan
    assert toy.study().plan("quick", 6, toy.CLAIMS) != plan


def test_a_run_that_diverges_is_recorded_as_failed_and_its_seed_left_out(toy, execute):
    def diverging(values, settings, seed, folder):
        metrics = toy.run(values, settings, seed, folder)
        return {**metrics, "y": math.nan} if seed == 3 and values["knob"] == 100 else metrics

    evidence = execute(toy.study(run=diverging))
    assert evidence.failed == ("high, seed 3",)
    assert evidence.tested["rises"].effect.n == 4


def test_one_seed_decides_nothing(toy, execute):
    evidence = execute(toy.study(), seeds=1)
    assert {one.verdict for one in evidence.tested.values()} == {"inconclusive"}
    assert evidence.tested["rises"].effect.low is None
    assert evidence.tested["rises"].smallest_effect is None


@pytest.mark.parametrize(
    ("options", "words"), [({"budget": "quik"}, "Did you mean 'quick'"), ({"seeds": 0}, "too few")]
)
def test_bad_options_are_named_and_write_nothing(toy, execute, tmp_path, options, words):
    with pytest.raises(UsageError, match=words):
        execute(toy.study(), **options)
    assert not (tmp_path / "work").exists()


def test_a_claim_without_a_statement_is_refused(toy, execute):
    with pytest.raises(UsageError, match="'other' is unknown"):
        execute(toy.study(claims={"other": "y"}))


def test_words_are_values_of_a_knob(toy, execute):
    arms = {name: {**values, "loss": "sigmoid"} for name, values in toy.ARMS.items()}
    evidence = execute(toy.study(budgets={"quick": Budget(arms, 2, {"slope": 0.5})}))
    assert evidence.arms["low"] == {"knob": 1.0, "order": 0, "loss": "sigmoid"}


def test_evidence_comes_back_from_its_file_as_it_was(toy, execute, tmp_path):
    evidence = execute(toy.study())
    assert evidence.plan_hash == content_hash(evidence.plan)
    assert evidence.conditions.settings["code"] == evidence.plan["code"]["hash"]
    assert read_evidence(write_evidence(evidence, tmp_path / "evidence")) == evidence


def test_a_plan_changed_after_the_fact_is_named_even_where_the_file_is_hashed_anew(toy, execute, tmp_path):
    evidence = execute(toy.study())
    plan = {**evidence.plan, "rule": "Whatever comes out is confirmed."}
    path = write_evidence(dataclasses.replace(evidence, plan=plan), tmp_path)
    with pytest.raises(UsageError, match="its plan was changed") as raised:
        read_evidence(path)
    assert raised.value.where == str(path)


@pytest.mark.parametrize(
    ("change", "words"), [({"seeds": (0, 1)}, "seeds"), ({"arms": {}}, "arms"), ({"tested": {}}, "claims")]
)
def test_evidence_that_leaves_its_plan_is_named_even_where_it_is_hashed_anew(toy, execute, tmp_path, change, words):
    path = write_evidence(dataclasses.replace(execute(toy.study()), **change), tmp_path)
    with pytest.raises(UsageError, match=f"differs from its own plan in {words}"):
        read_evidence(path)


def test_the_progress_counts_runs_and_says_how_long_the_rest_takes(toy, execute):
    def slow(values, settings, seed, folder):
        return {**toy.run(values, settings, seed, folder)}

    told = []
    execute(toy.study(run=slow), progress=lambda *heard: told.append(heard))
    assert told[0][:2] == (0, 20)
    assert "about 6 min on two cores" in told[0][2]
    assert [done for done, _, text in told if text.startswith(tuple(toy.ARMS))] == list(range(1, 21))
    assert re.search(r"^high, seed 3; about \d+ s left$", next(text for _, _, text in told if "high, seed 3" in text))
    assert told[-1] == (20, 20, "middle again, seed 4")
    told.clear()
    execute(toy.study(run=slow), progress=lambda *heard: told.append(heard))
    assert [done for done, _, _ in told] == [20]


def test_a_usage_error_comes_back_whole_from_another_process():
    with Workers(2) as workers, pytest.raises(UsageError) as raised:
        list(workers.run([(split_rows, ("no-such-rows.jsonl",))]))
    assert raised.value.where == "no-such-rows.jsonl"
    assert raised.value.mend
