"""The dry run: what it knows it says, what follows from another stage's compute it does not make up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from trimpot.models.tiny import tiny
from trimpot.recipe import dry_run
from trimpot.recipe.compute import weights_of
from trimpot.recipe.dry_run import COMPLETION_SHARE, TRAIN_EFFICIENCY, StageEstimate, estimate
from trimpot.recipe.read import build_recipe

RATE = 1e9


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows in the working folder, on a machine of a known speed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dry_run, "matmul_rate", lambda policy: RATE)
    rows = {
        "chat": [{"prompt": f"say {n}", "completion": "ab"} for n in range(4)],
        "prompts": [{"prompt": f"say {n}", "answer": "ab"} for n in range(4)],
    }
    for name, lines in rows.items():
        Path(f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def estimates(stages: list, evaluate: dict | None = None) -> dict[str, StageEstimate]:
    tree = {"model": "tiny-0.1m", "stages": stages, **({} if evaluate is None else {"evaluate": evaluate})}
    return {one.name: one for one in estimate(build_recipe(yaml.safe_load(yaml.safe_dump(tree)), "recipe"))}


GRADIENT = {"name": "grpo", "data": "prompts.jsonl", "group": 4, "max_tokens": 8, "steps": 5, "batch": 2}


def test_operations_of_rollouts_by_hand(folder: Path) -> None:
    one = estimates([{"policy_gradient": GRADIENT}])["grpo"]
    size, sampled = weights_of(tiny("0.1m").model), 4 * 8 * COMPLETION_SHARE
    # One token a byte, but for the three markers of a turn.
    prompt = len("*user\nsay 1*\n*assistant\n")
    assert one.tokens_per_step == (prompt + sampled) * 2
    assert one.tokens == 5 * one.tokens_per_step
    assert one.operations == 5 * (6 * size * one.tokens_per_step + 2 * size * sampled * 2)


def test_remax_samples_a_greedy_completion_more(folder: Path) -> None:
    group, remax = (
        estimates([{"policy_gradient": {**GRADIENT, "objective": name}}])["grpo"] for name in ("grpo", "remax")
    )
    size = weights_of(tiny("0.1m").model)
    assert remax.operations - group.operations == 5 * 2 * size * 8 * COMPLETION_SHARE * 2
    assert remax.tokens == group.tokens


def test_steps_that_another_stages_compute_buys_are_not_made_up(folder: Path) -> None:
    made = {"name": "right", "prompts": "prompts.jsonl", "method": "rejection", "samples": 2, "max_tokens": 8}
    rejection = {"name": "rejection", "compute_of": "grpo", "data": "stage:right", "batch": 2}
    found = estimates([{"policy_gradient": GRADIENT}, {"data": made}, {"sft": rejection}])
    one = found["rejection"]
    assert (one.steps, one.tokens, one.rows) == (None, None, None)
    assert one.cells()[2] == "as many as grpo's compute buys"
    assert "60" not in one.cells()
    assert one.operations == found["grpo"].operations - found["right"].operations > 0
    assert one.seconds == pytest.approx(one.operations / (RATE * TRAIN_EFFICIENCY))
    assert json.loads(json.dumps(one.as_dict()))["steps"] is None


def test_rows_of_a_data_stage_that_another_stage_writes_are_not_made_up(folder: Path) -> None:
    made = {"prompts": "prompts.jsonl", "method": "rejection", "samples": 2, "max_tokens": 8}
    again = {"name": "again", "prompts": "stage:data", "samples": 2}
    one = estimates([{"data": made}, {"data": again}])["again"]
    assert one.cells()[1] == "from an earlier stage"
    assert one.tokens == 0


def test_every_stage_is_evaluated_and_that_takes_time(folder: Path) -> None:
    stages = [{"sft": {"data": "chat.jsonl", "steps": 2, "batch": 2}}]
    plain = estimates(stages)["sft"]
    evaluated = estimates(stages, {"suite": "prompts.jsonl", "max_tokens": 8})
    assert evaluated["base"].rows == 4
    assert evaluated["sft"].seconds == pytest.approx(plain.seconds + evaluated["base"].seconds)


def test_recomputation_takes_less_memory(folder: Path) -> None:
    rows = {"data": "chat.jsonl", "steps": 2, "batch": 4}
    found = estimates([{"sft": rows}, {"sft": {**rows, "name": "less", "recompute": True}}])
    assert found["less"].memory_bytes < found["sft"].memory_bytes


def test_a_draw_that_is_used_again_is_sampled_once(folder: Path) -> None:
    size, sampled = weights_of(tiny("0.1m").model), 4 * 8 * COMPLETION_SHARE
    reused = {**GRADIENT, "epochs": 3, "minibatches": 2}
    one = estimates([{"policy_gradient": reused}])["grpo"]
    once, steps = 2 * size * sampled * 2 / 6, 5
    assert one.operations == pytest.approx(steps * (6 * size * one.tokens_per_step / 2 + once))


def test_the_reference_reads_a_row_of_a_file_once(folder: Path) -> None:
    pairs = [{"prompt": f"say {n}", "chosen": "ab", "rejected": "ba"} for n in range(4)]
    Path("pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in pairs))
    size = weights_of(tiny("0.1m").model)
    one = estimates([{"preference": {"data": "pairs.jsonl", "steps": 8, "batch": 2}}])["preference"]
    assert one.operations == pytest.approx(8 * (6 + 2 * 4 / 16) * size * one.tokens_per_step)
