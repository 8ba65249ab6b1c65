"""Equal effort: every arm tries the same values before the counted runs, and keeps its own best one."""

import math

import pytest

from trimpot.core.errors import UsageError
from trimpot.knobs.evidence import read_evidence, write_evidence
from trimpot.studies.study import Budget, Tuning

TUNING = Tuning(values=(0.1, 0.2, 0.4), metric="y", seeds=(100, 101))


@pytest.fixture
def best(toy):
    """A run whose y is highest, at 0, where the learning rate is 0.1 in the arm low and 0.4 elsewhere."""

    def run(values, settings, seed, folder):
        best = 0.1 if values["knob"] == 1.0 else 0.4
        return {"y": -abs(values["learning_rate"] - best), "noise": float(seed)}

    return run


def test_each_arm_keeps_the_value_with_the_highest_mean(toy, execute, ledger, best):
    evidence = execute(toy.study(run=best, tuning=TUNING))
    assert {arm: one["chosen"] for arm, one in evidence.tuned.items()} == {
        "low": 0.1, "middle": 0.4, "high": 0.4, "middle again": 0.4,
    }  # fmt: skip
    assert evidence.tuned["low"]["tried"] == {"0.1": 0.0, "0.2": pytest.approx(-0.1), "0.4": pytest.approx(-0.3)}
    assert all(run["y"] == 0.0 for by_seed in evidence.results.values() for run in by_seed.values())
    runs = ledger.runs(evidence.plan_hash)
    tuned = [run for run in runs if run["arm"].startswith("tuning: ")]
    # Three arms, three values and two seeds; the control's second arm has the choice of the first.
    assert len(tuned) == 3 * 3 * 2
    assert {run["seed"] for run in tuned} == {100, 101}
    assert "tuning: low, learning_rate=0.1" in {run["arm"] for run in tuned}
    assert set(evidence.results) == set(toy.ARMS)
    assert set(evidence.results["low"]) == {"0", "1", "2", "3", "4"}
    assert evidence.plan["tuning"]["seeds"] == [100, 101]


def test_the_lowest_is_kept_where_it_is_asked_for(toy, execute, best):
    tuning = Tuning(values=(0.1, 0.2, 0.4), metric="y", seeds=(100,), lowest=True)
    assert execute(toy.study(run=best, tuning=tuning)).tuned["low"]["chosen"] == 0.4


def test_without_tuning_nothing_is_tuned(toy, execute):
    assert execute(toy.study()).tuned == {}


def test_a_value_that_diverged_once_is_not_kept(toy, execute):
    def run(values, settings, seed, folder):
        diverged = values["learning_rate"] == 0.4 and seed == 101
        return {"y": math.inf if diverged else values["learning_rate"], "noise": 0.0}

    evidence = execute(toy.study(run=run, tuning=TUNING))
    assert {one["chosen"] for one in evidence.tuned.values()} == {0.2}
    assert evidence.tuned["low"]["tried"]["0.4"] is None
    assert "tuning: low, learning_rate=0.4, seed 101" in evidence.failed


def test_a_budget_may_take_fewer_of_the_tuning_seeds(toy, execute, ledger, best):
    budgets = {"quick": Budget(toy.ARMS, 2, {"slope": 0.5}, tuning_seeds=1)}
    evidence = execute(toy.study(run=best, tuning=TUNING, budgets=budgets))
    assert evidence.plan["tuning"]["seeds"] == [100]
    assert len(ledger.runs(evidence.plan_hash)) == 3 * 3 + 4 * 2


@pytest.mark.parametrize("count", [0, 3])
def test_a_budget_cannot_take_no_seed_or_more_than_there_are(toy, count):
    budget = Budget(toy.ARMS, 2, {"slope": 0.5}, tuning_seeds=count)
    with pytest.raises(ValueError, match=f"{count} tuning seeds of 2"):
        toy.study(tuning=TUNING, budgets={"quick": budget}).plan("quick", 2, toy.CLAIMS)


def test_a_seed_is_not_both_tuned_on_and_counted(toy):
    with pytest.raises(ValueError, match=r"\[4\] are both"):
        toy.study(tuning=Tuning(seeds=(4, 5))).plan("quick", 5, toy.CLAIMS)


def test_a_metric_that_no_run_has_is_named_with_those_there_are(toy, execute, best):
    with pytest.raises(UsageError, match=r"'accuracy'.*noise, y"):
        execute(toy.study(run=best, tuning=Tuning(values=(0.1,), metric="accuracy", seeds=(100,))))


def test_a_study_killed_in_its_tuning_goes_on_and_keeps_the_same_values(toy, execute, best):
    calls = []

    def dying(values, settings, seed, folder):
        calls.append(values)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return best(values, settings, seed, folder)

    with pytest.raises(KeyboardInterrupt):
        execute(toy.study(run=dying, tuning=TUNING))
    evidence = execute(toy.study(run=best, tuning=TUNING))
    assert evidence.tuned["low"]["chosen"] == 0.1
    assert evidence.tuned["high"]["chosen"] == 0.4


def test_what_was_tuned_comes_back_from_the_file(toy, execute, best, tmp_path):
    evidence = execute(toy.study(run=best, tuning=TUNING))
    assert read_evidence(write_evidence(evidence, tmp_path / "evidence")) == evidence
