"""Checkpoints: weights, optimiser and step in safetensors and JSON, written atomically, restored bitwise."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from trimpot.core.errors import UsageError
from trimpot.core.hashing import content_hash
from trimpot.store.atomic import atomic_folder, write_json
from trimpot.training.loop import TrainState


def save_checkpoint(state: TrainState, folder: Path, keep: int, settings: dict[str, object]) -> Path:
    """Writes ``folder/step-N`` and drops all but the newest ``keep``. A failed write leaves the older ones as they are.

    Raises:
        UsageError: the disk is full.
    """
    target = folder / f"step-{state.step}"
    folder.mkdir(parents=True, exist_ok=True)
    trainable = state.trainee.trainable()
    names = {id(value): name for name, value in trainable.items()}
    moments = {
        f"{names[id(parameter)]}/{key}": value.contiguous()
        for parameter, entry in state.optimizer.state.items()
        for key, value in entry.items()
    }
    with atomic_folder(target) as temporary:
        save_file(
            {name: value.detach().contiguous() for name, value in trainable.items()}, temporary / "weights.safetensors"
        )
        save_file(moments, temporary / "optimizer.safetensors")
        save_file({"cpu": torch.get_rng_state()}, temporary / "random.safetensors")
        write_json(
            temporary / "state.json",
            {"step": state.step, "settings": content_hash(settings), "carried": dict(state.carried)},
        )
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints of a stage, oldest first."""
    found = [path for path in folder.glob("step-*") if re.fullmatch(r"step-\d+", path.name)]
    return sorted((path for path in found if (path / "state.json").exists()), key=lambda path: int(path.name[5:]))


def restore_checkpoint(state: TrainState, checkpoint: Path, settings: dict[str, object]) -> None:
    """Puts weights, optimiser, random state and step of a checkpoint into ``state``.

    Raises:
        UsageError: the checkpoint was made under other settings, or of another model.
    """
    record = json.loads((checkpoint / "state.json").read_text())
    if record["settings"] != content_hash(settings):
        mend = "Resume with the recipe of the run folder, or start a new run."
        raise UsageError(str(checkpoint), "was made with other settings", mend)
    weights = load_file(checkpoint / "weights.safetensors")
    trainable = state.trainee.trainable()
    if weights.keys() != trainable.keys():
        raise UsageError(str(checkpoint), "holds other parameters than the model trains", "Start a new run.")
    with torch.no_grad():
        for name, value in trainable.items():
            value.copy_(weights[name])
    moments = load_file(checkpoint / "optimizer.safetensors")
    for name, value in trainable.items():
        entry = {
            key: moments[f"{name}/{key}"].to(value.device)
            for key in ("step", "exp_avg", "exp_avg_sq")
            if f"{name}/{key}" in moments
        }
        if entry:
            state.optimizer.state[value] = entry
    torch.set_rng_state(load_file(checkpoint / "random.safetensors")["cpu"])
    state.step, state.carried = int(record["step"]), record["carried"]
