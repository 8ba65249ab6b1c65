"""Recipes: overrides, defaults, presets, and one clear line for each kind of bad input, with nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trimpot.core.errors import UsageError
from trimpot.evaluation.run import EvaluationSettings
from trimpot.models import load
from trimpot.models.adapters import TrainableSettings
from trimpot.models.export import export
from trimpot.recipe.read import build_recipe, read_recipe
from trimpot.recipe.run import run_recipe
from trimpot.rollout.sampling import SamplingSettings
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


def test_stages_are_addressed_by_the_names_of_their_folders() -> None:
    tree = {"stages": [{"sft": {"data": "a"}}, {"sft": {"data": "b", "name": "right"}}, {"sft": {"data": "c"}}]}
    recipe = build_recipe(tree, "text", ["sft.steps=1", "sft-2.steps=3", "right.steps=2", "sft-2.learning_rate=5e-3"])
    assert [stage.name for stage in recipe.stages] == ["sft", "right", "sft-2"]
    assert [stage.get(LoopSettings).steps for stage in recipe.stages] == [1, 2, 3]
    assert recipe.stages[2].get(OptimizerSettings).learning_rate == 5e-3


def test_the_evaluation_of_every_stage_and_an_evaluate_stage_have_names_of_their_own() -> None:
    tree = {"evaluate": {"items": 3}, "stages": [{"sft": {"data": "a"}}, {"evaluate": {"items": 4}}]}
    recipe = build_recipe(tree, "text", ["evaluate.items=5", "evaluate[1].items=6"])
    assert recipe.evaluate is not None
    assert recipe.evaluate.items == 5
    assert recipe.stages[1].get(EvaluationSettings).items == 6


def test_an_override_without_a_value_takes_a_key_out() -> None:
    tree = {"stages": [{"sft": {"data": "a", "trainable": "lora", "lora_rank": 4}}]}
    recipe = build_recipe(tree, "text", ["sft.trainable=all", "sft.lora_rank="])
    assert recipe.stages[0].get(TrainableSettings) == TrainableSettings()
    assert "lora_rank" not in recipe.text


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
        ("stages: [{SFT: {data: a}}]", "stage 1: 'SFT' is unknown"),
        ("stages: [{3: {data: a}}]", "stage 1: 3 is unknown"),
        ("stages: [{sft: {data: a, 3: 4}}]", "sft.3: is not a setting"),
        ("stages: [{policy_gradient: {data: a, preset: [paper]}}]", "preset.*is unknown"),
        ("stages: [{sft: {data: a, steps: yes}}]", "sft.steps: True is not a number"),
        ("stages: [{sft: {data: a, rows: yes}}]", "sft.rows: True is not a number"),
        ("stages: [{sft: {data: a, learning_rate: .inf}}]", "learning_rate: inf is out of range. Give a finite number"),
        ("stages: [{policy_gradient: {data: a, rewards: {exact: yes}}}]", "rewards.exact: True is not a number"),
        ("stages: [{policy_gradient: {data: a, rewards: {exact: 1, math: high}}}]", "rewards.math: 'high' is not of"),
        ("stages: [{policy_gradient: {data: a, rewards: exact}}]", "not of type mapping of names to numbers"),
        ("stages: [{policy_gradient: {data: a, stop: x}}]", "not of type list of texts"),
        ("stages: [{sft: {data: a, lora_rank: 4}}]", "lora_rank: does nothing with trainable: all. Set"),
        ("stages: [{sft: {data: a, trainable: lora, last_layers: 1}}]", "last_layers: does nothing with trainable"),
        ("stages: [{sft: {data: a, virtual_tokens: 8}}]", "Set trainable: prompt or prefix, or leave"),
        ("stages: [{preference: {data: a, samples: 4}}]", "samples: does nothing with online: false. Set online: true"),
        ("stages: [{preference: {data: a, top_p: 0.9}}]", "top_p: does nothing with online: false"),
        ("stages: [{data: {prompts: a, per_prompt: 2}}]", "per_prompt: does nothing with method: pairs"),
        ("stages: [{sft: {data: a, compute_of: b, steps: 4}}]", "steps: does nothing with compute_of: b. Leave"),
        ("stages: [{reward: {data: a, trusted_every: 4}}]", "trusted_every: does nothing with trusted: none."),
        ("stages: [{evaluate: {judge: verifier}}]", "judge: does nothing with best_of: 0. Set best_of, or"),
        ("stages: [{evaluate: {best_of: 1}}]", "best_of: 1 leaves nothing to pick"),
        ("stages: [{data: {prompts: a, temperature: 0}}]", "8 of each prompt at temperature 0 make no pair"),
        ("stages: [{data: {prompts: a, samples: 1}}]", "1 of each prompt at temperature 1 make no pair"),
        ("stages: [{preference: {data: a, online: true, temperature: 0}}]", "preference.temperature: 0 gives equal"),
    ],
)
def test_bad_recipes_get_one_clear_line(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        read_recipe_text(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sft.steps", "="),
        ("stf.steps=3", r"no stage 'stf'. Known: 'sft', 'reward', 'preference', 'policy_gradient', 'evaluate'"),
        ("sft[2].steps=3", "no stage"),
        ("sft[0].steps=3", "no stage"),
        ("sft-2.steps=3", "no stage"),
        ("evaluate[2].items=3", "no stage"),
        ("sft.steps=[1", r"--set sft.steps: '\[1' is not valid YAML"),
        ("learning_rate=3", "is not a key of a recipe.*stage.key=value"),
        ("sft.stepz=", "takes out a key that the recipe does not have"),
    ],
)
def test_bad_overrides(recipe_file: Path, override: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        read_recipe(recipe_file, [override])
    assert "\n" not in str(caught.value)


def test_an_override_of_a_stage_that_is_no_mapping() -> None:
    with pytest.raises(UsageError, match="3 is not a mapping"):
        build_recipe({"stages": [{"sft": 3}]}, "text", ["sft.steps=1"])


def test_a_key_that_is_there_twice_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("stages:\n  - sft:\n      data: a\n      steps: 3\n      steps: 4\n")
    with pytest.raises(UsageError, match=r"recipe\.yaml:5: the key 'steps' is there twice"):
        read_recipe(tmp_path / "recipe.yaml")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes(b"model: \xff\n")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_recipe(tmp_path / "recipe.yaml")
    (tmp_path / "recipe.yaml").write_bytes(b"model: \x00\n")
    with pytest.raises(UsageError, match="not valid YAML") as caught:
        read_recipe(tmp_path / "recipe.yaml")
    assert "\n" not in str(caught.value)


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


@pytest.mark.parametrize("text", ["stages: [{sft: {data: a, name: 2024-13-01}}]", "stages: &a [*a]"])
def test_yaml_that_python_cannot_hold_gets_one_clear_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"is not valid YAML|not one stage"):
        read_recipe(tmp_path / "recipe.yaml")
