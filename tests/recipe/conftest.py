"""A small recipe on a tiny model, with rows in files, as a user would write it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from trimpot.recipe.context import Silence
from trimpot.recipe.read import Recipe
from trimpot.recipe.run import run_recipe

RECIPE = """
model: tiny-0.1m
evaluate: {{suite: {folder}/prompts.jsonl, items: 4, max_tokens: 4, samples: 2}}
stages:
  - sft: {{data: {folder}/chat.jsonl, steps: 8, batch: 2, learning_rate: 1e-3, checkpoint_every: 3}}
  - reward: {{data: {folder}/pairs.jsonl, steps: 4, batch: 2, checkpoint_every: 3}}
  - preference: {{data: {folder}/pairs.jsonl, steps: 7, batch: 2, learning_rate: 1e-4, checkpoint_every: 3}}
  - policy_gradient:
      {{data: {folder}/prompts.jsonl, steps: 7, batch: 2, group: 4, max_tokens: 6,
       rewards: {{"{folder}/rewards.py:score": 1.0}}, learning_rate: 1e-3, kl: 0.1, checkpoint_every: 3}}
"""


@pytest.fixture(autouse=True)
def own_cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs keep for other runs goes to a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


class StopError(Exception):
    """Stands for a kill inside the process."""


@pytest.fixture
def run_until() -> Callable[..., None]:
    """Runs a recipe until a stage has done a step (0: until it begins), and stops there."""

    def run(recipe: Recipe, output: Path, stage: str, step: int, resume: bool = False) -> None:
        def stop(here: str, done: int) -> None:
            if (here, done) == (stage, step):
                raise StopError

        listener = Silence()
        listener.stage_begins = lambda one, done, steps: stop(one.name, 0)
        listener.step_done = lambda one, done: stop(one.name, done.number)
        with pytest.raises(StopError):
            run_recipe(recipe, output, resume=resume, listener=listener)

    return run


def write_rows(path: Path, rows: list) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    write_rows(tmp_path / "chat.jsonl", [{"prompt": f"say {n}", "completion": "ab" * n} for n in range(1, 6)])
    write_rows(
        tmp_path / "pairs.jsonl",
        [{"prompt": f"say {n}", "chosen": "ab" * n, "rejected": "c" * n} for n in range(1, 6)],
    )
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": f"say {n}", "answer": "ab" * n} for n in range(1, 6)])
    (tmp_path / "rewards.py").write_text("def score(output, row): return output.count('a')\n")
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(folder=tmp_path))
    return path
