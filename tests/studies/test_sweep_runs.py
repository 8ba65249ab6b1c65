"""Sweeps of a recipe on a tiny model: made, checked, run, stopped, scored, kept in files."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import yaml

from trimpot.core.errors import UsageError
from trimpot.knobs.evidence import read_evidence, write_evidence
from trimpot.recipe.context import Silence
from trimpot.recipe.read import build_recipe, read_recipe
from trimpot.store.jsonl import append_line
from trimpot.store.ledger import Ledger
from trimpot.store.run_folder import StageFolder
from trimpot.studies import sweep_runs
from trimpot.studies.recheck import differing
from trimpot.studies.runner import run_study
from trimpot.studies.study import Budget
from trimpot.studies.sweep import BUDGET, check_arms, check_inputs, new_sweep, study_of
from trimpot.studies.sweep_arms import own_value, rooted
from trimpot.studies.sweep_files import is_of, own_name, read_sweep, sweep_file, sweep_names, write_sweep
from trimpot.studies.sweep_listing import age_text, sweep_entry
from trimpot.studies.sweep_result import arm_results, detectors_fired, draw_sweep, is_flat, outcome
from trimpot.studies.sweep_runs import arm_recipe, late_metrics, reason_of

RECIPE_TEXT = """
model: tiny-0.1m
evaluate: {suite: prompts.jsonl, items: 5, max_tokens: 4}
stages:
  - sft: {data: chat.jsonl, steps: 120, batch: 5, learning_rate: 3e-3, schedule: constant}
"""


@pytest.fixture
def recipe_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = [(f"say {number}", letter) for number, letter in enumerate("abcde")]
    for name, key in (("chat.jsonl", "completion"), ("prompts.jsonl", "answer")):
        lines = [json.dumps({"prompt": prompt, key: answer}) for prompt, answer in rows]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    (tmp_path / "small.yaml").write_text(RECIPE_TEXT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Path("small.yaml")


@pytest.fixture
def ledger(tmp_path: Path):
    with_file = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield with_file
    with_file.close()


def execute(sweep, ledger, tmp_path):
    study, known = study_of(sweep)
    return run_study(study, ledger, tmp_path / "work", BUDGET, workers=1, known=known)


def test_the_recipes_own_values_are_those_it_runs_with(recipe_file):
    recipe = read_recipe(recipe_file)
    assert own_value(recipe, "sft.steps") == 120.0
    assert own_value(recipe, "sft[1].batch") == 5.0
    assert own_value(recipe, "sft.mask") == "assistant"
    assert own_value(recipe, "sft.lora_targets") == "all-linear"
    assert own_value(recipe, "sft.dora") == "false"
    assert own_value(recipe, "evaluate.items") == 5.0
    assert own_value(recipe, "model") == "tiny-0.1m"
    text = "stages: [{policy_gradient: {data: prompts.jsonl, objective: grpo, preset: paper}}]"
    assert own_value(build_recipe(yaml.safe_load(text), "text"), "policy_gradient.preset") == "paper"
    assert own_value(recipe, "sft.nothing") == own_value(recipe, "no.such") == "null"


def test_an_arm_differs_from_the_recipe_in_its_value_and_the_seed(recipe_file):
    text = read_recipe(recipe_file).text
    own = {"sft.steps": 120.0, "sft.batch": 5.0}
    recipe = arm_recipe(text, own, {"sft.steps": 4.0, "sft.batch": 5.0}, 7)
    assert recipe.seed == 7
    assert recipe.stages[0].values() == {**read_recipe(recipe_file).stages[0].values(), "steps": 4}
    with pytest.raises(UsageError, match=r"--arms pref\.beta: there is no stage 'pref'"):
        arm_recipe(text, {"pref.beta": "null"}, {"pref.beta": 0.1}, 0)


def test_files_are_named_by_their_whole_path_and_nothing_else_is(recipe_file, tmp_path):
    (tmp_path / "rewards.py").write_text("def score(output, row): return 1.0\n")
    (tmp_path / "tiny-0.1m").mkdir()
    assert rooted("chat.jsonl") == str(tmp_path / "chat.jsonl")
    assert rooted("rewards.py:score") == f"{tmp_path / 'rewards.py'}:score"
    for name in ("tiny-0.1m", "embedded:reasoning-easy", "stage:sft", "exact", "org/model", ""):
        assert rooted(name) == name
    sweep = new_sweep(recipe_file, ["sft.steps=4,8"], 2, "loss falls with steps")
    assert set(sweep.inputs) == {str(tmp_path / "chat.jsonl"), str(tmp_path / "prompts.jsonl")}


def test_a_file_as_a_value_is_hashed_too_and_the_arm_keeps_its_short_name(recipe_file, tmp_path):
    (tmp_path / "other.jsonl").write_text('{"prompt": "say 9", "completion": "z"}\n')
    sweep = new_sweep(recipe_file, ["sft.data=chat.jsonl,other.jsonl"], 2, "chat.jsonl > other.jsonl")
    assert list(sweep.arms) == ["sft.data=chat.jsonl", "sft.data=other.jsonl"]
    assert sweep.arms["sft.data=other.jsonl"] == {"sft.data": str(tmp_path / "other.jsonl")}
    assert str(tmp_path / "other.jsonl") in sweep.inputs


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seeds": 1}, "1 is too few"),
        ({"name": "Mine / yours"}, "is no name"),
        ({"knobs": ["sft.stepz=4,8"]}, "'steps'"),
        ({"knobs": ["sft.steps=4,many"]}, "not of type int"),
        ({"knobs": ["sft.learning_rate=-1,1"]}, "out of range"),
        ({"file": Path("smal.yaml")}, "small.yaml"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_written(recipe_file, options, words):
    given = {"file": recipe_file, "knobs": ["sft.steps=4,8"], "seeds": 2, "predict": "loss falls with steps"}
    with pytest.raises(UsageError, match=words):
        new_sweep(**{**given, **options})
    assert sweep_names() == []


def test_the_checks_of_a_dry_run_are_made_for_every_arm(recipe_file, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"prompt": "say 9"}\n')
    good = new_sweep(recipe_file, ["sft.steps=4,8"], 2, "loss falls with steps")
    assert check_arms(good) > 0
    bad = new_sweep(recipe_file, ["sft.data=chat.jsonl,bad.jsonl"], 2, "chat.jsonl is best")
    with pytest.raises(UsageError, match=r"sft\.data=bad\.jsonl: .*bad\.jsonl:1"):
        check_arms(bad)


# A whole sweep


def test_a_prediction_is_scored_by_runs_of_the_recipe(recipe_file, ledger, tmp_path):
    sweep = new_sweep(recipe_file, ["sft.steps=1,120"], 6, "accuracy rises with steps; five rows are soon learnt")
    evidence = execute(sweep, ledger, tmp_path)
    assert outcome(evidence) == "right"
    tested = evidence.tested["prediction"]
    assert tested.statement == "accuracy rises with sft.steps"
    assert tested.effect.value > 0.5
    assert tested.effect.n == 6
    plan = ledger.hypothesis(evidence.plan_hash)["plan"]
    assert plan["settings"]["prediction"] == sweep.predict
    assert plan["seeds"] == [1, 2, 3, 4, 5, 6]
    few, many = evidence.results["sft.steps=1"]["1"], evidence.results["sft.steps=120"]["1"]
    assert len([name for name in many if name.startswith("item/")]) == 5
    assert many["loss"] < few["loss"]
    assert not {"step", "seconds", "tokens_per_second", "sft.loss"} & set(many)
    assert "trimpot/recipe/run.py" in plan["code"]["files"]
    first, second = arm_results(evidence, "accuracy")
    assert first.difference is None
    assert second.difference.value == pytest.approx(tested.effect.value)
    assert second.p_value == pytest.approx(tested.p_value)
    assert not is_flat(evidence, "accuracy")
    assert draw_sweep(evidence, "accuracy", tmp_path / "chart.svg").read_text().startswith("<svg")
    assert not list((tmp_path / "work").glob("*/"))
    assert differing(evidence, study_of(sweep)[0]) == []
    assert read_evidence(write_evidence(evidence, tmp_path / "evidence")) == evidence
    assert is_of(evidence, sweep)
    assert not is_of(evidence, dataclasses.replace(sweep, predict="accuracy falls with steps"))


def test_the_opposite_prediction_is_wrong_and_no_change_is_undecided_or_flat(recipe_file, ledger, tmp_path):
    wrong = new_sweep(recipe_file, ["sft.steps=1,40"], 4, "loss rises with steps")
    assert outcome(execute(wrong, ledger, tmp_path)) == "wrong"
    flat = new_sweep(recipe_file, ["sft.steps=1,2"], 2, "accuracy rises with steps")
    evidence = execute(flat, ledger, tmp_path)
    assert outcome(evidence) == "undecided"
    assert is_flat(evidence, "accuracy")


class KilledError(Exception):
    """Stands for a kill inside the process."""


def test_a_killed_sweep_goes_on_within_the_run_and_ends_with_the_same_numbers(
    recipe_file, ledger, tmp_path, monkeypatch
):
    text = RECIPE_TEXT.replace("steps: 120", "steps: 8, checkpoint_every: 2")
    recipe_file.write_text(text)
    sweep = new_sweep(recipe_file, ["sft.batch=2,5"], 2, "5 > 2", metric="loss")
    whole = execute(sweep, Ledger(f"sqlite:///{tmp_path / 'other.sqlite'}"), tmp_path / "other")
    seen = []
    real = sweep_runs.run_recipe

    def dying(recipe, output, resume):
        seen.append(resume)
        if len(seen) == 3:
            listener = Silence()

            def stop(stage, step):
                if step.number == 5:
                    raise KilledError

            listener.step_done = stop
            return real(recipe, output, resume=resume, listener=listener)
        return real(recipe, output, resume=resume)

    monkeypatch.setattr(sweep_runs, "run_recipe", dying)
    with pytest.raises(KilledError):
        execute(sweep, ledger, tmp_path)
    assert len(ledger.runs(whole.plan_hash)) == 2
    resumed = execute(sweep, ledger, tmp_path)
    assert seen == [False, False, False, True, False]
    assert resumed.results == whole.results
    assert resumed.tested == whole.tested


def test_a_run_that_cannot_go_on_counts_as_failed_with_its_reason(recipe_file, ledger, tmp_path):
    """A data stage that finds no right sample: the model is random, so at one sample it has none."""
    stages = "  - data: {prompts: prompts.jsonl, method: rejection, samples: 1, max_tokens: 2}\n"
    recipe_file.write_text(RECIPE_TEXT + stages)
    sweep = new_sweep(recipe_file, ["sft.steps=1,120"], 2, "120 > 1")
    evidence = execute(sweep, ledger, tmp_path)
    assert evidence.failed == ("sft.steps=1, seed 1", "sft.steps=1, seed 2")
    assert set(evidence.results["sft.steps=120"]) == {"1", "2"}
    assert outcome(evidence) == "undecided"
    failed = [run for run in ledger.runs(evidence.plan_hash) if run["status"] == "failed"]
    assert "no completion was right" in reason_of(failed[0]["result"])
    assert reason_of({"not_finite": ["loss"]}) == "loss not finite"


def test_a_metric_that_no_run_has_is_named_with_the_nearest(recipe_file, ledger, tmp_path):
    sweep = new_sweep(recipe_file, ["sft.steps=1,2"], 2, "los falls with steps")
    with pytest.raises(UsageError, match="Did you mean 'loss'"):
        execute(sweep, ledger, tmp_path)


def test_a_metric_of_one_stage_is_asked_for_by_its_name(recipe_file, ledger, tmp_path):
    recipe_file.write_text(RECIPE_TEXT + "  - sft: {data: chat.jsonl, steps: 2, batch: 5, name: second}\n")
    sweep = new_sweep(recipe_file, ["sft.steps=1,20"], 2, "sft.loss falls with sft.steps")
    evidence = execute(sweep, ledger, tmp_path)
    found = evidence.results["sft.steps=1"]["1"]
    assert found["sft.loss"] > found["loss"]
    assert not any(name.startswith("item/") for name in found)


def test_training_metrics_are_means_over_the_last_tenth(tmp_path):
    stage = StageFolder(tmp_path)
    for step in range(1, 21):
        append_line(tmp_path / "metrics.jsonl", {"step": step, "loss": float(step), "seconds": 1.0, "kl": None})
    assert late_metrics(stage) == {"loss": 19.5}
    assert late_metrics(StageFolder(tmp_path / "none")) == {}


# Files


def test_a_sweep_comes_back_as_it_was_and_an_edited_one_is_named(recipe_file):
    sweep = new_sweep(recipe_file, ["sft.steps=4,8"], 2, "loss falls with steps; ja, weil ß")
    path = write_sweep(sweep)
    assert path == sweep_file(sweep.name)
    assert path.parent.name == "studies"
    assert read_sweep(sweep.name) == sweep
    assert write_sweep(sweep) == path
    assert sweep_names() == [sweep.name]
    assert sweep_entry(sweep.name)["outcome"] is None
    other = dataclasses.replace(sweep, predict="loss rises with steps")
    with pytest.raises(UsageError, match="another study of that name"):
        write_sweep(other)
    path.write_text(path.read_text().replace("falls", "rises"))
    with pytest.raises(UsageError, match="changed after its prediction was written"):
        read_sweep(sweep.name)
    assert "changed after" in sweep_entry(sweep.name)["problem"]
    path.write_text("kind: sweep\n")
    with pytest.raises(UsageError, match="cannot be read as a study"):
        read_sweep(sweep.name)


def test_the_same_sweep_has_the_same_name_and_another_prediction_another(recipe_file):
    first, again, other = (
        new_sweep(recipe_file, ["sft.steps=4,8"], 2, text) for text in ("4 > 8", "4 > 8", "4 < 8")
    )  # fmt: skip
    assert first == again
    assert first.name != other.name
    assert first.name.startswith("small-steps-")


def test_rows_that_changed_since_the_prediction_stop_the_sweep(recipe_file, tmp_path):
    sweep = new_sweep(recipe_file, ["sft.steps=4,8"], 2, "loss falls with steps")
    check_inputs(sweep)
    with (tmp_path / "chat.jsonl").open("a") as file:
        file.write('{"prompt": "say 9", "completion": "z"}\n')
    with pytest.raises(UsageError, match=r"chat\.jsonl: is not what it was"):
        check_inputs(sweep)
    (tmp_path / "chat.jsonl").unlink()
    with pytest.raises(UsageError, match=r"chat\.jsonl: is not what it was"):
        check_inputs(sweep)


def test_names_of_evidence_on_own_models_tell_them_apart():
    assert own_name("dpo-beta", "smollm2-135m", "embedded:reasoning-easy") == (
        "dpo-beta--smollm2-135m--embedded-reasoning-easy"
    )
    one, other = (own_name("dpo-beta", model, "/d/rows.jsonl") for model in ("/a/model", "/b/model"))
    assert one != other
    assert one.startswith("dpo-beta--model-")


@pytest.mark.parametrize(
    ("days", "text"),
    [
        (0.01, "under an hour old"),
        (0.05, "1 hour old"),
        (0.3, "7 hours old"),
        (1.0, "1 day old"),
        (12.4, "12 days old"),
    ],
)
def test_ages_in_words(days, text):
    assert age_text(days) == text


def test_alarms_count_runs(recipe_file, ledger, tmp_path):
    sweep = new_sweep(recipe_file, ["sft.steps=1,2"], 2, "1 > 2")
    evidence = execute(sweep, ledger, tmp_path)
    results = {arm: {seed: dict(found) for seed, found in runs.items()} for arm, runs in evidence.results.items()}
    for metrics in results["sft.steps=2"].values():
        metrics["alarms/loss_spike"] = 3.0
    assert detectors_fired(dataclasses.replace(evidence, results=results))["loss_spike"] == 2


def test_holm_is_over_the_arms_and_a_missing_seed_is_left_out(recipe_file, ledger, tmp_path):
    """Constructed results: differences 1, 1.2, 0.8 and 0.1, -0.1, 0.3 to the first arm; one seed of the third fails."""
    sweep = new_sweep(recipe_file, ["sft.steps=1,2,3"], 3, "1 > 2", metric="loss")
    evidence = execute(dataclasses.replace(sweep, seeds=2), ledger, tmp_path)
    rows = {"sft.steps=1": (0.0, 0.0, 0.0), "sft.steps=2": (1.0, 1.2, 0.8), "sft.steps=3": (0.1, -0.1, math.nan)}
    results = {
        arm: {str(seed): {"loss": value} for seed, value in enumerate(values) if math.isfinite(value)}
        for arm, values in rows.items()
    }
    found = arm_results(dataclasses.replace(evidence, results=results, seeds=(0, 1, 2)), "loss")
    assert found[1].difference.value == pytest.approx(1.0)
    # t = 1/(0.2/√3) = 8.66 with 2 degrees of freedom: p = 0.0131, twice that among two.
    assert found[1].p_value == pytest.approx(0.0262, abs=2e-4)
    assert found[2].difference.n == 2
    assert found[2].p_value == 1.0


def test_the_budget_of_a_sweep_is_its_own(recipe_file):
    sweep = new_sweep(recipe_file, ["sft.steps=4,8"], 2, "loss falls with steps")
    study, known = study_of(sweep, 3.0)
    assert set(study.budgets) == {BUDGET}
    assert isinstance(study.budgets[BUDGET], Budget)
    assert study.budgets[BUDGET].minutes == 3.0
    assert set(known.claims) == {"prediction"}
    assert study.first_seed == 1
