"""A recipe's preflight: stages as they are built, what a run does with failures, what it keeps and leaves alone."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from trimpot.cli.preflight import not_applicable
from trimpot.cli.preflight import preflight as command
from trimpot.core.errors import UsageError
from trimpot.models.tiny import tiny
from trimpot.preflight.check import FAILED, NOT_APPLICABLE, Result
from trimpot.recipe.preflight import ALL, Preflight, PreflightError, preflight, waits_for
from trimpot.recipe.read import Recipe, build_recipe
from trimpot.recipe.run import run_recipe
from trimpot.store.run_folder import RunFolder

LETTERS = "abcdefgh"
STEPS = {"steps": 3, "batch": 4}
SFT = {"sft": {"data": "chat.jsonl", "learning_rate": 1e-3, **STEPS}}
SUITE = {"suite": "prompts.jsonl", "items": 8, "max_tokens": 4}
FAMILIES: list[dict[str, Any]] = [
    SFT,
    {"sft": {"name": "lora", "start": "base", "data": "chat.jsonl", "trainable": "lora", "neftune_alpha": 5, **STEPS}},
    {"sft": {"name": "virtual", "start": "base", "data": "chat.jsonl", "trainable": "prompt", **STEPS}},
    {"reward": {"start": "base", "data": "pairs.jsonl", **STEPS}},
    {"preference": {"start": "base", "data": "pairs.jsonl", **STEPS}},
    {"preference": {"name": "kto", "start": "base", "objective": "kto", "data": "pairs.jsonl", **STEPS}},
    {"policy_gradient": {"start": "base", "data": "other.jsonl", "group": 4, "max_tokens": 4, **STEPS}},
    {"distill": {"start": "base", "data": "chat.jsonl", "teacher": "tiny-0.1m", "max_tokens": 4, **STEPS}},
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows in the working folder; what runs keep for other runs goes to a folder of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    words = [a + b + c for a in LETTERS for b in LETTERS for c in LETTERS]
    random.Random(0).shuffle(words)
    right = {word: word[0] * (2 + LETTERS.index(word[1]) % 3) for word in words}
    write("chat.jsonl", [{"prompt": word, "completion": right[word]} for word in words[:40]])
    write("pairs.jsonl", [{"prompt": word, "chosen": right[word], "rejected": "xyz"} for word in words[:40]])
    write("other.jsonl", [{"prompt": word, "answer": right[word]} for word in words[100:140]])
    write("prompts.jsonl", [{"prompt": word, "answer": right[word]} for word in words[-8:]])
    return tmp_path


def write(name: str, rows: Sequence[Any]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def recipe(stages: Sequence[Any], **top: Any) -> Recipe:
    tree = {"model": "tiny-0.1m", "evaluate": SUITE, **top, "stages": list(stages)}
    return build_recipe(yaml.safe_load(yaml.safe_dump(tree)), "recipe")


def statuses(results: Sequence[Result], stage: str) -> dict[str, str]:
    return {one.check: one.status for one in results if one.stage == stage}


def test_every_kind_of_stage_passes_the_cheap_checks() -> None:
    results = preflight(recipe(FAMILIES), Preflight())
    assert [(one.stage, one.check, one.text) for one in results if one.status == FAILED] == []
    for name in ("sft", "lora", "virtual", "reward", "preference", "kto"):
        made = statuses(results, name)
        assert made["accumulation"] == made["gradients_reach"] == made["loop_loss"] == "passed", name
    # Adapters are other weights than the model's own, a second stage on all weights is not.
    assert statuses(results, "lora")["future_leak"] == "passed"
    assert statuses(results, "preference")["future_leak"] == NOT_APPLICABLE
    sampled = statuses(results, "policy_gradient")
    assert sampled["rollout_trainer"] == "passed"
    assert sampled["accumulation"] == NOT_APPLICABLE


@pytest.mark.parametrize("stage", ["policy_gradient", "distill"])
def test_a_stage_that_samples_is_checked_on_a_draw_when_asked(stage: str) -> None:
    only = ("same_seed", "accumulation", "gradients_reach", "loop_loss", "overfit")
    # A reward that completions of random weights differ in, so that there is something to learn from.
    Path("own.py").write_text("def score(output, row): return sum(map(ord, output)) % 7\n")
    gradient = {"policy_gradient": {**FAMILIES[-2]["policy_gradient"], "rewards": {"own.py:score": 1.0}}}
    # A teacher that is the student would teach nothing.
    teacher = tiny("0.1m", seed=5)
    teacher.model.save_pretrained("teacher")
    teacher.tokenizer.save_pretrained("teacher")
    taught = {"distill": {**FAMILIES[-1]["distill"], "teacher": "teacher"}}
    results = preflight(recipe([gradient, taught]), Preflight(thorough=True, only=only, stage=stage))
    assert {one.stage for one in results} == {stage}
    found = statuses(results, stage)
    assert found.pop("overfit") == NOT_APPLICABLE
    assert set(found.values()) == {"passed"}, [one.text for one in results]


def test_a_stage_that_reads_what_another_writes_says_so() -> None:
    stages = [SFT, {"data": {"prompts": "other.jsonl"}}, {"preference": {"data": "stage:data", **STEPS}}]
    built = recipe(stages)
    assert [waits_for(stage) for stage in built.stages] == [None, None, "data"]
    results = preflight(built, Preflight(only=("duplicates",)))
    assert [(one.stage, one.check, one.status) for one in results] == [
        ("sft", "duplicates", "passed"),
        ("preference", ALL, NOT_APPLICABLE),
    ]
    assert "the stage data" in results[1].text


def test_an_unknown_stage_or_check_is_named() -> None:
    with pytest.raises(UsageError, match=r"'stf'.*Did you mean 'sft'"):
        preflight(recipe([SFT]), Preflight(stage="stf"))
    with pytest.raises(UsageError, match=r"recipe: preflight\.skip: 'overfitt' is not a check"):
        recipe([SFT], preflight={"skip": ["overfitt"]})
    with pytest.raises(UsageError, match=r"preflight\.skipp"):
        recipe([SFT], preflight={"skipp": []})
    with pytest.raises(UsageError, match="is not a mapping"):
        recipe([SFT], preflight=["duplicates"])


def test_skip_can_be_set_from_the_command_line_and_is_kept_in_the_recipe() -> None:
    tree = {"model": "tiny-0.1m", "stages": [SFT]}
    made = build_recipe(tree, "recipe", ["preflight.skip=[duplicates, template]"])
    assert made.preflight.skip == ("duplicates", "template")
    assert yaml.safe_load(made.text)["preflight"] == {"skip": ["duplicates", "template"]}
    plain = recipe([SFT])
    assert plain.is_resumed_as(recipe([SFT], preflight={"skip": ["template"]}).text)
    assert not plain.is_resumed_as(recipe([SFT], seed=1).text)


def test_a_run_after_preflight_is_the_run_without_it(folder: Path) -> None:
    made = recipe([SFT, {"preference": {"data": "pairs.jsonl", **STEPS}}])
    run_recipe(made, folder / "plain")
    run_recipe(made, folder / "checked", preflight=True)
    one, other = (RunFolder.open(folder / name) for name in ("plain", "checked"))
    for name in ("sft", "preference"):
        lines = [
            [{k: v for k, v in line.items() if "seconds" not in k and k != "tokens_per_second"} for line in log]
            for log in (one.stage(name).metrics(), other.stage(name).metrics())
        ]
        assert lines[0] == lines[1]
    kept = json.loads((folder / "checked" / "preflight.json").read_text())
    assert kept["skip"] == []
    assert {line["stage"] for line in kept["results"]} == {"sft", "preference"}
    assert {line["status"] for line in kept["results"]} <= {"passed", NOT_APPLICABLE}
    assert not (folder / "plain" / "preflight.json").exists()


def test_a_failed_check_stops_before_anything_is_written_and_can_be_skipped(folder: Path) -> None:
    rows = [json.loads(line) for line in Path("chat.jsonl").read_text().splitlines()]
    evaluated = json.loads(Path("prompts.jsonl").read_text().splitlines()[0])["prompt"]
    write("chat.jsonl", [*rows, rows[0], {"prompt": evaluated, "completion": "abc"}])
    made = recipe([SFT])
    with pytest.raises(PreflightError) as caught:
        run_recipe(made, folder / "run", preflight=True)
    assert not (folder / "run").exists()
    first, second = str(caught.value).splitlines()
    assert first.startswith("sft: duplicates: 1 of 42 rows are there twice: chat.jsonl:41 as chat.jsonl:1.")
    assert first.endswith("To run all the same: --set 'preflight.skip=[duplicates]'.")
    assert second.startswith("sft: train_test_overlap: 1 of 42 rows have a prompt of the evaluation: chat.jsonl:42.")
    skipping = recipe([SFT], preflight={"skip": ["duplicates", "train_test_overlap"]})
    run_recipe(skipping, folder / "run", preflight=True)
    kept = json.loads((folder / "run" / "preflight.json").read_text())
    assert kept["skip"] == ["duplicates", "train_test_overlap"]
    assert "duplicates" not in {line["check"] for line in kept["results"]}


def test_rows_that_a_stage_writes_are_checked_when_the_next_begins(folder: Path) -> None:
    # Every completion that ends is right, and the prompts are those of the evaluation.
    ends = {"verifier": "format", "metadata": {"pattern": "(?s).*"}}
    write("prompts.jsonl", [{"prompt": f"p{n}", **ends} for n in range(8)])
    make = {"prompts": "prompts.jsonl", "method": "rejection", "samples": 8, "max_tokens": 96}
    stages = [{"data": make}, {"sft": {"data": "stage:data", **STEPS}}]
    with pytest.raises(PreflightError, match="sft: train_test_overlap: ") as caught:
        run_recipe(recipe(stages), folder / "run", preflight=True)
    assert "have a prompt of the evaluation" in str(caught.value)
    assert RunFolder.open(folder / "run").stage("data").record()["status"] == "done"
    assert RunFolder.open(folder / "run").stage("sft").metrics() == []
    names = ["train_test_overlap", "duplicates", "empty_targets", "decoded_targets", "truncation"]
    skipping = recipe(stages, preflight={"skip": names})
    run = run_recipe(skipping, folder / "run", resume=True, preflight=True)
    assert run.stage("sft").record()["status"] == "done"
    assert run.recipe_text == skipping.text


app = typer.Typer()
app.command()(command)


def test_the_command_prints_a_table_and_exits_with_1_on_a_failure(folder: Path) -> None:
    Path("recipe.yaml").write_text(recipe([SFT]).text)
    names = ["--check", "duplicates", "--check", "truncation"]
    good = CliRunner().invoke(app, ["recipe.yaml", *names])
    assert good.exit_code == 0, good.output
    assert "2 passed" in good.output
    rows = Path("chat.jsonl").read_text()
    Path("chat.jsonl").write_text(rows + rows.splitlines()[0] + "\n")
    bad = CliRunner().invoke(app, ["recipe.yaml", *names])
    assert bad.exit_code == 1
    assert "sft: duplicates failed. Take the repeated rows out" in bad.output
    told = CliRunner().invoke(app, ["recipe.yaml", *names, "--json"])
    assert told.exit_code == 1
    record = json.loads(told.stdout)
    assert [(one["check"], one["status"]) for one in record["results"]] == [
        ("duplicates", FAILED),
        ("truncation", "passed"),
    ]
    skipped = CliRunner().invoke(app, ["recipe.yaml", *names, "--set", "preflight.skip=[duplicates]"])
    assert skipped.exit_code == 0
    assert "1 passed; skipped by the recipe: duplicates" in skipped.output


def test_what_does_not_apply_is_one_line_for_each_reason() -> None:
    def result(check: str, text: str) -> Result:
        return Result("sft", check, NOT_APPLICABLE, None, text, "", "", 0.0)

    assert not_applicable([result("a", "no rows"), result("b", "no rows"), result("c", "no model")]) == [
        "sft: not applicable: a, b: no rows",
        "sft: not applicable: c: no model",
    ]


@pytest.mark.slow
def test_the_stated_memory_is_measured_in_a_process_of_its_own() -> None:
    results = preflight(recipe([SFT]), Preflight(thorough=True, only=("memory_estimate",)))
    (one,) = results
    assert one.status in ("passed", FAILED)
    assert one.measured is not None
