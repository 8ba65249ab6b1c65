"""Recomputation and frozen trunks through a recipe: the same losses, fewer passes, and nothing left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from trimpot.core.errors import UsageError
from trimpot.models.load import load
from trimpot.models.trunk import Trunk
from trimpot.recipe import trunks
from trimpot.recipe.read import build_recipe
from trimpot.recipe.run import run_recipe
from trimpot.store.run_folder import RunFolder
from trimpot.training import frozen_rows

WORDS = ["ab", "ba", "aab", "abb", "bab", "bba"]
HEAD = {"trainable": "head", "held_out": 0.0, "learning_rate": 1e-2}
LAST = {"trainable": "last_k", "last_layers": 1, "learning_rate": 1e-3}


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, str]:
    lines = {
        "sft": [{"prompt": f"say {n}", "completion": word} for n, word in enumerate(WORDS)],
        "pairs": [{"prompt": f"say {n}", "chosen": word, "rejected": "c" * (n + 1)} for n, word in enumerate(WORDS)],
        "policy_gradient": [{"prompt": f"say {n}", "answer": word} for n, word in enumerate(WORDS)],
        "process": [
            {"prompt": f"q{n}", "completions": ["a", "b"], "labels": [True, n % 2 == 0]} for n in range(len(WORDS))
        ],
    }
    (tmp_path / "rewards.py").write_text("def score(output, row):\n    return len(set(output)) / 8\n")
    for name, some in lines.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in some))
    return {name: str(tmp_path / f"{name}.jsonl") for name in lines}


def recipe_of(stages: list):
    return build_recipe(yaml.safe_load(yaml.safe_dump({"model": "tiny-0.1m", "stages": stages})), "recipe")


def run(folder: Path, kind: str, settings: dict) -> RunFolder:
    return run_recipe(recipe_of([{kind: {"steps": 5, "batch": 4, "checkpoint_every": 0, **settings}}]), folder)


def losses(one: RunFolder, kind: str) -> list[tuple[float, float]]:
    return [(line["loss"], line["grad_norm"]) for line in one.stage(kind).metrics()]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("sft", {}),
        ("sft", {"trainable": "lora", "neftune_alpha": 5.0}),
        ("sft", LAST),
        ("reward", {"held_out": 0.0}),
        ("preference", {"trainable": "prefix", "objective": "beta_dpo"}),
        ("distill", {"teacher": "tiny-0.1m", "data": "sft", "max_tokens": 4}),
        ("policy_gradient", {"objective": "ppo", "group": 2, "max_tokens": 4}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_recompute_changes_no_loss(kind: str, settings: dict, rows: dict, tmp_path: Path) -> None:
    data = rows[settings.get("data", "pairs" if kind in ("reward", "preference") else kind)]
    given = {"learning_rate": 1e-3, **settings, "data": data}
    if kind == "policy_gradient":
        given["rewards"] = {f"{tmp_path}/rewards.py:score": 1.0}
    found = [run(tmp_path / name, kind, {**given, "recompute": name == "on"}) for name in ("off", "on")]
    assert losses(found[0], kind) == losses(found[1], kind)
    assert found[1].stage(kind).record()["settings"]["recompute"] is True


def test_recompute_is_on_while_its_stage_trains_and_off_after(
    rows: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Trunk] = []

    def of_stage(*given: bool) -> Trunk:
        seen.append(Trunk(*given))
        return seen[-1]

    monkeypatch.setattr(trunks, "Trunk", of_stage)
    stages = [{"sft": {"data": rows["sft"], "steps": 1, "recompute": True}}, {"sft": {"data": rows["sft"], "steps": 1}}]
    run_recipe(recipe_of(stages), tmp_path / "run")
    assert [trunk.recompute for trunk in seen] == [True, False, False, False]


@pytest.mark.parametrize(
    ("kind", "data", "settings", "layers"),
    [
        ("sft", "sft", LAST, 1),
        ("reward", "pairs", {**LAST, "held_out": 0.0}, 1),
        ("reward", "pairs", HEAD, 2),
        ("reward", "pairs", {**HEAD, "trusted": "pairs"}, 2),
        ("reward", "process", {**HEAD, "objective": "process_reward"}, 2),
        ("preference", "pairs", LAST, 1),
        ("preference", "pairs", {**LAST, "objective": "kto"}, 1),
    ],
    ids=lambda value: value.get("objective", value["trainable"]) if isinstance(value, dict) else value,
)
def test_frozen_layers_run_once_and_losses_are_those_of_running_them(
    kind: str, data: str, settings: dict, layers: int, rows: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {**settings, "data": rows[data], **({"trusted": rows["pairs"]} if "trusted" in settings else {})}
    kept = run(tmp_path / "kept", kind, given)
    assert kept.stage(kind).record()["frozen_layers_run_once"] == layers
    monkeypatch.setattr(trunks, "keep_states", lambda *_: None)
    plain = run(tmp_path / "plain", kind, given)
    assert "frozen_layers_run_once" not in plain.stage(kind).record()
    assert len(losses(kept, kind)) == 5
    for one, other in zip(losses(kept, kind), losses(plain, kind), strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)


def test_a_head_trains_alone(rows: dict, tmp_path: Path) -> None:
    one = run(tmp_path / "run", "reward", {**HEAD, "data": rows["pairs"], "steps": 20})
    from transformers import AutoModelForSequenceClassification

    judge = AutoModelForSequenceClassification.from_pretrained(one.stage("reward").model_folder)
    trunk = load("tiny-0.1m").model.base_model.state_dict()
    for name, value in judge.base_model.state_dict().items():
        assert (value == trunk[name]).all(), name
    assert judge.score.weight.abs().max() > 0
    assert losses(one, "reward")[-1][0] < losses(one, "reward")[0][0]


@pytest.mark.parametrize(
    "settings",
    [{"steps": 1}, {"neftune_alpha": 5.0}, {"trainable": "all"}, {"trainable": "lora"}],
    ids=["no row comes back", "noise", "all", "lora"],
)
def test_where_states_would_not_serve_none_are_kept(settings: dict, rows: dict, tmp_path: Path) -> None:
    given = {**LAST, **settings, "data": rows["sft"]}
    if given["trainable"] != "last_k":
        del given["last_layers"]
    one = run(tmp_path / "run", "sft", given)
    assert "frozen_layers_run_once" not in one.stage("sft").record()


def test_a_policy_has_no_head_of_its_own(rows: dict, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="head: only a reward model has"):
        run(tmp_path / "run", "sft", {"data": rows["sft"], "trainable": "head"})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("memory", [2**30, 0], ids=["memory", "file"])
def test_bug_12_a_stopped_run_meets_the_same_states(
    memory: int, rows: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_until: Callable[..., None]
) -> None:
    monkeypatch.setattr(frozen_rows, "MEMORY_BYTES", memory)
    given = {**LAST, "data": rows["sft"], "batch": 4, "steps": 8, "checkpoint_every": 2, "micro_batch_tokens": 60}
    recipe = recipe_of([{"sft": given}])
    run_recipe(recipe, tmp_path / "whole")
    run_until(recipe, tmp_path / "stopped", "sft", 5)
    run_recipe(recipe, tmp_path / "stopped", resume=True)
    runs = [RunFolder.open(tmp_path / name) for name in ("whole", "stopped")]
    assert losses(runs[0], "sft") == losses(runs[1], "sft")
    weights = [load(str(one.stage("sft").model_folder)).weights_hash() for one in runs]
    assert weights[0] == weights[1]
