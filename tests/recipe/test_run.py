"""A whole run on a tiny model: the folder it leaves, kill -9 and resume, a full disk, exported models."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from trimpot.core.errors import UsageError
from trimpot.models import load
from trimpot.recipe.read import read_recipe
from trimpot.recipe.run import run_recipe
from trimpot.store.outcomes import read_outcomes
from trimpot.store.run_folder import RunFolder
from trimpot.training import checkpoint

TIMES = ("seconds", "draw_seconds", "tokens_per_second")
STAGES = ["base", "sft", "reward", "preference", "policy_gradient"]


def logs(run: Path) -> dict[str, list]:
    folder = RunFolder.open(run)
    found = {}
    for stage in folder.stages():
        metrics = [{k: v for k, v in line.items() if k not in TIMES} for line in stage.metrics()]
        found[stage.name] = [metrics, stage.alarms(), stage.samples(), stage.batches()]
    return found


def test_a_run_leaves_its_folder(recipe_file: Path, tmp_path: Path) -> None:
    run = run_recipe(read_recipe(recipe_file), tmp_path / "run")
    assert [stage.name for stage in run.stages()] == STAGES
    for stage in run.stages():
        assert stage.record()["status"] == "done"
        assert len(read_outcomes(stage.outcomes_path)) == 4
        assert stage.name == "reward" or len(read_outcomes(stage.sampled_outcomes_path)) == 8
        assert not stage.checkpoints_folder.exists()
    assert [line["step"] for line in run.stage("sft").metrics()] == list(range(1, 9))
    assert all(len(line["row_ids"]) == 2 for line in run.stage("sft").batches())
    assert len(run.stage("policy_gradient").samples()) == 7 * 2 * 4
    assert run.stage("policy_gradient").metrics()[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert run.stage("preference").record()["notes"][0].startswith("greedy, against sft: ")
    assert run.stage("preference").record()["notes"][2].startswith("sampled, against sft: ")
    assert "best of 4" in " ".join(run.stage("reward").record()["notes"])
    folder = run.stage("policy_gradient").model_folder
    ours, plain = load(str(folder)), AutoModelForCausalLM.from_pretrained(folder)
    ours.model.set_attn_implementation("sdpa")
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(ours.model(ids).logits, plain(ids).logits)
    hashes = {stage.name: read_outcomes(stage.outcomes_path)[0].weights for stage in run.stages()}
    assert hashes["policy_gradient"] == ours.weights_hash() != hashes["sft"] != hashes["base"]


def test_two_runs_are_equal(recipe_file: Path, tmp_path: Path) -> None:
    recipe = read_recipe(recipe_file)
    for name in ("one", "two"):
        run_recipe(recipe, tmp_path / name)
    assert logs(tmp_path / "one") == logs(tmp_path / "two")


CHILD = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from trimpot.recipe.read import read_recipe
from trimpot.recipe.run import run_recipe
run_recipe(read_recipe(sys.argv[1]), Path(sys.argv[2]), resume=sys.argv[3] == "resume")
"""


def child(recipe: Path, output: Path, mode: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", CHILD, str(recipe), str(output), mode], stderr=subprocess.PIPE)


def wait_for(output: Path, stage: str, step: int, process: subprocess.Popen) -> None:
    path = output / stage / "metrics.jsonl"
    while process.poll() is None:
        if path.exists() and path.read_text().count("\n") >= step:
            return
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kills", [[("sft", 5), ("sft", 7)], [("preference", 2), ("policy_gradient", 5)], [("reward", 4)]]
)
def test_bug_12_kill_and_resume_repeats_every_line_bitwise(recipe_file: Path, tmp_path: Path, kills: list) -> None:
    assert child(recipe_file, tmp_path / "whole", "new").wait() == 0
    mode = "new"
    for stage, step in kills:
        process = child(recipe_file, tmp_path / "killed", mode)
        wait_for(tmp_path / "killed", stage, step, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        mode = "resume"
    last = child(recipe_file, tmp_path / "killed", "resume")
    assert last.wait() == 0, last.stderr.read().decode()
    assert logs(tmp_path / "killed") == logs(tmp_path / "whole")
    final = [load(str(tmp_path / name / "policy_gradient" / "model")).weights_hash() for name in ("whole", "killed")]
    assert final[0] == final[1]


@pytest.mark.parametrize("places", [[("sft", 2)], [("sft", 4), ("sft", 8)], [("policy_gradient", 5)]])
def test_bug_12_stop_and_resume_repeats_every_line(
    recipe_file: Path, tmp_path: Path, places: list, run_until: Callable[..., None]
) -> None:
    recipe = read_recipe(recipe_file)
    run_recipe(recipe, tmp_path / "whole")
    for number, place in enumerate(places):
        run_until(recipe, tmp_path / "stopped", *place, resume=number > 0)
    run_recipe(recipe, tmp_path / "stopped", resume=True)
    assert logs(tmp_path / "stopped") == logs(tmp_path / "whole")


def test_resume_refuses_another_recipe(recipe_file: Path, tmp_path: Path, run_until: Callable[..., None]) -> None:
    run_until(read_recipe(recipe_file), tmp_path / "run", "sft", 1)
    with pytest.raises(UsageError, match="another recipe"):
        run_recipe(read_recipe(recipe_file, ["sft.steps=9"]), tmp_path / "run", resume=True)


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("left", ["environment.json", "lineage.parquet", ".environment.json.0123456789ab.tmp", ""])
def test_a_run_killed_before_its_folder_was_whole_begins_anew(
    recipe_file: Path, tmp_path: Path, left: str, resume: bool
) -> None:
    recipe = read_recipe(recipe_file, ["evaluate=", "preference.steps=1", "policy_gradient.steps=1", "sft.steps=1"])
    (tmp_path / "run").mkdir()
    if left:
        (tmp_path / "run" / left).write_text("half")
    run = run_recipe(recipe, tmp_path / "run", resume=resume)
    assert run.recipe_text == recipe.text
    assert run.environment["python"]
    assert {stage.record()["status"] for stage in run.stages()} == {"done"}


def test_a_kill_between_the_folder_and_its_recipe(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_until: Callable[..., None]
) -> None:
    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    recipe = read_recipe(recipe_file)
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_recipe", kill)
        with pytest.raises(KeyboardInterrupt):
            run_recipe(recipe, tmp_path / "run")
    assert (tmp_path / "run" / "environment.json").exists()
    run_until(recipe, tmp_path / "run", "sft", 1, resume=True)
    with pytest.raises(UsageError, match="exists already"):
        run_recipe(recipe, tmp_path / "run")
    (tmp_path / "run" / "recipe.yaml").unlink()
    with pytest.raises(UsageError, match=r"has lost its recipe\.yaml"):
        run_recipe(recipe, tmp_path / "run", resume=True)


def test_an_existing_run_folder_is_refused_untouched(recipe_file: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        run_recipe(read_recipe(recipe_file), tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_a_full_disk_keeps_the_previous_checkpoint_and_the_run_resumes(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read_recipe(recipe_file)
    run_recipe(recipe, tmp_path / "whole")
    real, calls = checkpoint.save_file, []

    def full_at_second_checkpoint(tensors: dict, path: Path) -> None:
        calls.append(path)
        real(tensors, path)
        if "step-6" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(checkpoint, "save_file", full_at_second_checkpoint)
    with pytest.raises(UsageError, match="disk is full"):
        run_recipe(recipe, tmp_path / "run")
    kept = list((tmp_path / "run" / "sft" / "checkpoints").iterdir())
    assert [path.name for path in kept] == ["step-3"]
    assert json.loads((kept[0] / "state.json").read_text())["step"] == 3
    monkeypatch.setattr(checkpoint, "save_file", real)
    run_recipe(recipe, tmp_path / "run", resume=True)
    assert logs(tmp_path / "run") == logs(tmp_path / "whole")
