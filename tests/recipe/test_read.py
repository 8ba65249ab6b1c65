"""Recipes: overrides, defaults, presets, and one clear line for each kind of bad input, with nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trimpot.core.errors import UsageError
from trimpot.models import load
from trimpot.models.export import export
from trimpot.recipe.read import build_recipe, read_recipe
from trimpot.recipe.run import run_recipe
from trimpot.rollout.engine import SamplingSettings
from trimpot.rollout.settings import RolloutSettings
from trimpot.training.settings import LoopSettings, OptimizerSettings

ROOT = Path(__file__).parents[2]


def test_shipped_recipes_are_valid() -> None:
    for path in (ROOT / "recipes").glob("*.yaml"):
        assert read_recipe(path).stages


def test_overrides_and_defaults(recipe_file: Path) -> None:
    recipe = read_recipe(recipe_file, ["sft.steps=3", "preference.beta=0.5", "evaluate.items=2", "seed=7"])
    assert recipe.seed == 7
    assert recipe.evaluate is not None
    assert recipe.evaluate.items == 2
    assert recipe.stages[0].get(LoopSettings).steps == 3
    assert recipe.stages[0].get(OptimizerSettings).learning_rate == 1e-3
    assert recipe.stages[2].objective.beta == 0.5
    assert read_recipe_text(recipe.text).text == recipe.text


def read_recipe_text(text: str):
    import yaml

    return build_recipe(yaml.safe_load(text), "text")


def test_presets_differ_as_published() -> None:
    stages = {
        name: read_recipe_text(f"stages: [{{policy_gradient: {{data: x.jsonl, preset: {name}}}}}]").stages[0]
        for name in ("paper", "trl")
    }
    assert stages["paper"].get(RolloutSettings).group == 64
    assert stages["paper"].objective.kl == 0.04
    assert stages["paper"].objective.normalisation == "sequence"
    assert stages["trl"].get(RolloutSettings).group == 8
    assert stages["trl"].objective.kl == 0.0
    assert stages["trl"].objective.normalisation == "token"
    mine = read_recipe_text("stages: [{policy_gradient: {data: x, preset: paper, group: 4}}]").stages[0]
    assert mine.get(RolloutSettings).group == 4


def test_dr_grpo_divides_by_the_rollouts_limit() -> None:
    stage = read_recipe_text("stages: [{policy_gradient: {data: x, normalisation: fixed, max_tokens: 40}}]").stages[0]
    assert stage.objective.completion_limit == stage.get(SamplingSettings).max_tokens == 40


def test_repeated_stages_are_addressed_by_number() -> None:
    tree = {"stages": [{"sft": {"data": "a"}}, {"sft": {"data": "b"}}]}
    recipe = build_recipe(tree, "text", ["sft[2].steps=5"])
    assert [stage.name for stage in recipe.stages] == ["sft", "sft-2"]
    assert [stage.get(LoopSettings).steps for stage in recipe.stages] == [60, 5]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("modle: x\nstages: [{sft: {data: a}}]", "modle.*'model'"),
        ("stages: [{sft: {data: a, learning_rat: 1}}]", "sft.learning_rat.*'learning_rate'"),
        ("stages: [{preference: {data: a, bta: 1}}]", "preference.bta.*'beta'"),
        ("stages: [{stf: {data: a}}]", "stf.*'sft'"),
        ("stages: [{preference: {data: a, objective: dop}}]", "dop.*'dpo'"),
        ("stages: [{policy_gradient: {data: a, preset: papre}}]", "papre.*'paper'"),
        ("stages: [{sft: {data: a, steps: many}}]", "sft.steps.*many"),
        ("stages: [{sft: {data: a, steps: 0}}]", "sft.steps.*at least 1"),
        ("stages: [{preference: {data: a, beta: 0}}]", "preference.beta.*above 0"),
        ("stages: [{policy_gradient: {data: a, group: 1}}]", "group.*at least 2"),
        ("stages: [{sft: {data: a, trainable: lorra}}]", "trainable.*'lora'"),
        ("seed: x\nstages: [{sft: {data: a}}]", "seed"),
        ("stages: []", "stages"),
        ("- sft", "mapping"),
        ("stages: [{sft: 3}]", "not a mapping"),
        ("stages: [sft]", "not one stage"),
    ],
)
def test_bad_recipes_get_one_clear_line(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        read_recipe_text(text)
    assert "\n" not in str(caught.value)


def test_bad_overrides(recipe_file: Path) -> None:
    for override, words in [("sft.steps", "="), ("stf.steps=3", "'sft'"), ("sft[2].steps=3", "no stage")]:
        with pytest.raises(UsageError, match=words):
            read_recipe(recipe_file, [override])


def test_missing_and_malformed_files(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("stages: [\n")
    with pytest.raises(UsageError, match=r"recipe\.yaml:\d"):
        read_recipe(tmp_path / "recipe.yaml")
    with pytest.raises(UsageError, match=r"recipe\.yaml"):
        read_recipe(tmp_path / "recipes.yaml")


@pytest.mark.parametrize(
    ("file", "line", "words"),
    [
        ("chat.jsonl", "{not json", r"chat\.jsonl:6"),
        ("chat.jsonl", {"prompt": "a", "chosen": "b", "rejected": "c"}, r"chat\.jsonl:6.*preference pair"),
        ("chat.jsonl", {"messages": [{"role": "user", "content": "a"}]}, r"chat\.jsonl:6.*assistant"),
        ("chat.jsonl", {"prompt": "a", "completion": ""}, r"chat\.jsonl:6.*empty"),
        ("pairs.jsonl", {"prompt": "a", "chosen": "b", "rejected": "b"}, r"pairs\.jsonl:6"),
        ("pairs.jsonl", {"prompt": "a", "completion": "b"}, r"pairs\.jsonl:6"),
        ("prompts.jsonl", {"nothing": 1}, r"prompts\.jsonl:6"),
    ],
)
def test_bad_rows_are_named_before_anything_is_written(
    recipe_file: Path, tmp_path: Path, file: str, line: object, words: str
) -> None:
    with (tmp_path / file).open("a") as rows:
        rows.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
    with pytest.raises(UsageError, match=words) as caught:
        run_recipe(read_recipe(recipe_file), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_other_bad_input_leaves_nothing_behind(recipe_file: Path, tmp_path: Path) -> None:
    export(load("tiny-0.1m"), tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    for override, words in [
        (f"sft.data={tmp_path}/chatt.jsonl", "chat.jsonl"),
        ("sft.max_length=12", "max_length"),
        ("preference.data=stage:data", "stage"),
        ("policy_gradient.rewards={rewards.py:missing: 1}", "rewards.py"),
        (f"model={tmp_path}/model", "no weights"),
        ("evaluate.suite=embedded:unknown", "unknown"),
        ("sft.data=null", "missing"),
    ]:
        with pytest.raises(UsageError, match=words):
            run_recipe(read_recipe(recipe_file, [override]), tmp_path / "run")
        assert not (tmp_path / "run").exists()
