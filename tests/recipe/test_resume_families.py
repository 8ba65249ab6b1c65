"""A stopped run of every family goes on to the lines it would have had: critics, carried numbers, reused draws."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from trimpot.models.load import load
from trimpot.recipe.read import build_recipe
from trimpot.recipe.run import run_recipe
from trimpot.store.run_folder import RunFolder

TIMES = ("seconds", "draw_seconds", "tokens_per_second")
WORDS = ["ab", "ba", "aab", "abb", "bab"]


def lines(run: Path, stage: str) -> list:
    folder = RunFolder.open(run).stage(stage)
    metrics = [{k: v for k, v in line.items() if k not in TIMES} for line in folder.metrics()]
    return [metrics, folder.alarms(), folder.samples(), folder.batches()]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("policy_gradient", {"objective": "ppo", "group": 2, "epochs": 2, "target_kl": 0.01, "checkpoint_every": 3}),
        ("policy_gradient", {"objective": "dapo", "group": 4, "dynamic_sampling": 2, "trainable": "lora"}),
        ("preference", {"objective": "beta_dpo"}),
        ("preference", {"objective": "kto", "trainable": "lora"}),
        ("preference", {"online": True, "samples": 3, "data": "prompts"}),
        ("sft", {"trainable": "prefix", "virtual_tokens": 3, "data": "chat", "neftune_alpha": 5.0}),
        ("distill", {"teacher": "tiny-0.1m", "data": "chat"}),
        ("reward", {"label_smoothing": 0.1, "held_out": 0.2, "trainable": "last_k", "last_layers": 1}),
    ],
    ids=lambda value: value.get("objective", value.get("trainable", "")) if isinstance(value, dict) else value,
)
def test_bug_12_stop_and_resume_repeats_every_line_of_every_family(
    kind: str, settings: dict, tmp_path: Path, run_until: Callable[..., None]
) -> None:
    (tmp_path / "rewards.py").write_text("def score(output, row):\n    return len(set(output)) / 8\n")
    files = {
        "chat": [{"prompt": f"say {n}", "completion": word} for n, word in enumerate(WORDS)],
        "pairs": [{"prompt": f"say {n}", "chosen": word, "rejected": "c" * (n + 1)} for n, word in enumerate(WORDS)],
        "prompts": [{"prompt": f"say {n}", "answer": word} for n, word in enumerate(WORDS)],
    }
    for name, rows in files.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    samples = kind == "policy_gradient" or settings.get("online")
    data = settings.get("data", "prompts" if kind == "policy_gradient" else "pairs")
    given = {"steps": 8, "batch": 2, "checkpoint_every": 2, "learning_rate": 1e-3, **settings}
    given["data"] = str(tmp_path / f"{data}.jsonl")
    if samples or kind == "distill":
        given["max_tokens"] = 6
    if samples:
        given["rewards"] = {f"{tmp_path}/rewards.py:score": 1.0}
    tree = {"model": "tiny-0.1m", "stages": [{kind: given}]}
    recipe = build_recipe(yaml.safe_load(yaml.safe_dump(tree)), "recipe")
    run_recipe(recipe, tmp_path / "whole")
    for number, step in enumerate((3, 7)):
        run_until(recipe, tmp_path / "stopped", kind, step, resume=number > 0)
    run_recipe(recipe, tmp_path / "stopped", resume=True)
    assert lines(tmp_path / "stopped", kind) == lines(tmp_path / "whole", kind)
    if kind != "reward":
        final = [load(str(tmp_path / name / kind / "model")).weights_hash() for name in ("whole", "stopped")]
        assert final[0] == final[1]
