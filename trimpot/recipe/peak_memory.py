"""The memory that a stage's steps need, measured: a process of its own trains two of them and says its peak."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from trimpot.core.errors import UsageError
from trimpot.recipe.read import Recipe

STEPS = 2
"""The second one has gradients, moments and activations at one time."""


def measured_peak(recipe: Recipe, stage: str, seconds: float) -> float | None:
    """Bytes at the peak of a process that builds this stage and trains two steps; None: it took longer than this.

    On a CPU the whole process counts, on CUDA what torch holds on the device.

    Raises:
        UsageError: the process failed; the last line that it wrote is the problem.
    """
    with tempfile.TemporaryDirectory(prefix="trimpot-preflight-") as folder:
        file = Path(folder) / "recipe.yaml"
        file.write_text(recipe.text, encoding="utf-8")
        command = [sys.executable, "-m", "trimpot.recipe.peak_memory", str(file), stage]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=max(seconds, 1.0), check=False)
        except subprocess.TimeoutExpired:
            return None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it wrote nothing"])[-1]
        raise UsageError(stage, f"its steps failed in a process of their own ({last})", "Mend that first.")
    return float(done.stdout.split()[-1])


def main(file: str, name: str) -> None:
    """Trains the first steps of a stage and prints the peak in bytes."""
    import torch

    from trimpot.models.allocator import keep_freed_memory
    from trimpot.models.load import load
    from trimpot.recipe.checks import check_recipe
    from trimpot.recipe.context import Context
    from trimpot.recipe.jobs import build_job
    from trimpot.recipe.read import read_recipe
    from trimpot.recipe.settings import StartSettings
    from trimpot.recipe.trunks import trunks_for
    from trimpot.store.run_folder import RunFolder
    from trimpot.training.loop import TrainState, train
    from trimpot.training.settings import LoopSettings, OptimizerSettings

    keep_freed_memory()
    recipe = read_recipe(file)
    policy = load(recipe.model, recipe.device, recipe.dtype, recipe.seed)
    checked = check_recipe(recipe, policy)
    stage = next(one for one in recipe.stages if one.name == name)
    settings = {
        **stage.settings,
        StartSettings: StartSettings(),
        LoopSettings: replace(stage.get(LoopSettings), steps=STEPS, probes=()),
    }
    stage = replace(stage, settings=settings)
    context = Context(recipe, RunFolder(Path("runs")), policy, checked.items, checked.rows)
    del policy
    with contextlib.closing(build_job(context, stage)) as job, trunks_for(context, stage, job):
        state = TrainState.new(job.trainee, stage.get(OptimizerSettings), job.factors)
        for _ in train(state, job.plan):
            pass
        device = job.trainee.device
    if device.type == "cuda":
        print(torch.cuda.max_memory_allocated(device))
    else:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


if __name__ == "__main__":
    main(*sys.argv[1:])
