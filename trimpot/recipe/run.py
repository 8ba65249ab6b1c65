"""Run a recipe: check everything, then stage after stage; a stopped run goes on where it was."""

from __future__ import annotations

import functools
import json
import resource
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.core.rows import Row
from trimpot.data.lineage import write_lineage
from trimpot.evaluation.run import EvaluationSettings
from trimpot.models.load import load
from trimpot.preflight.check import Result
from trimpot.recipe.checks import Checked, check_recipe
from trimpot.recipe.context import Context, Listener, Silence
from trimpot.recipe.data_stage import make_rows
from trimpot.recipe.evaluate_stage import evaluate_stage
from trimpot.recipe.names import BASE, TRAINS_POLICY
from trimpot.recipe.preflight import Preflight, preflight_rows, preflight_stages, refuse_failed
from trimpot.recipe.read import Recipe
from trimpot.recipe.schema import Stage
from trimpot.recipe.settings import JudgeSettings, StartSettings
from trimpot.recipe.train_stage import train_stage
from trimpot.store.atomic import write_json
from trimpot.store.environment import now
from trimpot.store.run_folder import RunFolder, StageFolder


def run_recipe(
    recipe: Recipe, output: Path, resume: bool = False, listener: Listener | None = None, preflight: bool = False
) -> RunFolder:
    """Runs all stages of a recipe into ``output``; with ``resume`` goes on with what is there.

    The model is loaded and every row read and tokenised before the folder is made: bad input leaves nothing behind.
    Where a run was killed before its folder was whole, both begin anew. With ``preflight`` the cheap checks are made
    before that too, of rows that an earlier stage writes when their stage begins; the folder keeps what they found.

    Raises:
        UsageError: bad rows, model or settings; the folder exists (without resume) or is of another recipe.
        PreflightError: a check failed that the recipe does not skip.
    """
    hearer = listener or Silence()
    begun = resume and _has_begun(output, recipe)
    if resume and not begun:
        hearer.note(f"{output}: was stopped before it began; begins anew")
    elif not begun and not RunFolder.is_free(output):
        RunFolder.create(output)  # raises, before anything is loaded
    hearer.note(f"loading {recipe.model}")
    stages = _with_base_evaluation(recipe)
    finished = _finished(output, stages) if begun else 0
    base = _model_before(output, stages[:finished], recipe)
    policy = load(base, recipe.device, recipe.dtype, recipe.seed)
    checked = check_recipe(recipe, policy, [stage.name for stage in stages[:finished]])
    results: list[Result] = []
    if preflight and not begun:
        del policy  # stages are checked on models of their own, and this one is loaded again
        asked = Preflight(skip=recipe.preflight.skip, progress=functools.partial(hearer.progress, "preflight"))
        results = preflight_stages(recipe, checked, asked)
        refuse_failed(results)
        policy = load(base, recipe.device, recipe.dtype, recipe.seed)
    run = RunFolder.open(output) if begun else _new_run(output, recipe, checked)
    if begun and run.recipe_text != recipe.text:
        run.write_recipe(recipe.text)  # it differs in what preflight skips
    if preflight:
        _keep(run, recipe, results)
    context = Context(recipe, run, policy, checked.items, checked.rows, hearer)
    del policy  # a stage that starts from another model must not keep this one in memory
    for index, stage in enumerate(stages):
        if index >= finished:
            _run_stage(context, stage, index, preflight)
    return run


def _keep(run: RunFolder, recipe: Recipe, results: Sequence[Result]) -> None:
    """Adds what checks found to preflight.json; a newer answer of a stage's check takes the place of an older one."""
    path = run.path / "preflight.json"
    lines = json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else []
    new = [one.as_dict() for one in results]
    stages = {one["stage"] for one in new}
    write_json(
        path, {"skip": list(recipe.preflight.skip), "results": [x for x in lines if x["stage"] not in stages] + new}
    )


def _has_begun(output: Path, recipe: Recipe) -> bool:
    """Whether there is something to go on with.

    Raises:
        UsageError: no run folder, one of another recipe, or one that has lost its recipe.
    """
    if output.is_dir() and RunFolder.is_free(output):
        return False
    text = RunFolder.open(output).recipe_text
    if not text:
        raise UsageError(str(output), "has lost its recipe.yaml", "Put it back, or choose another --output.")
    if text != recipe.text and not recipe.is_resumed_as(text):
        raise UsageError(str(output), "was made by another recipe", "Resume with the recipe in its folder.")
    return True


def _new_run(output: Path, recipe: Recipe, checked: Checked) -> RunFolder:
    """The run's folder, whole once its recipe is there: that comes last."""
    run = RunFolder.create(output)
    everything: list[Row] = [*checked.items, *(row for part in checked.rows.values() for row in part)]
    write_lineage(everything, run.lineage_path)
    run.write_recipe(recipe.text)
    return run


def _with_base_evaluation(recipe: Recipe) -> tuple[Stage, ...]:
    if recipe.evaluate is None:
        return recipe.stages
    settings = {EvaluationSettings: recipe.evaluate, JudgeSettings: JudgeSettings()}
    return (Stage("evaluate", BASE, settings), *recipe.stages)


def _finished(output: Path, stages: tuple[Stage, ...]) -> int:
    done = 0
    for stage in stages:
        if StageFolder(output / stage.name).record().get("status") != "done":
            break
        done += 1
    return done


def _model_before(output: Path, stages: tuple[Stage, ...], recipe: Recipe) -> str:
    for stage in reversed(stages):
        if stage.kind in TRAINS_POLICY:
            return str(output / stage.name / "model")
    return recipe.model


def _hints(context: Context, stage: Stage) -> list[str]:
    """What a policy gradient must be compared with before its gain is called one."""
    others = [one.get(StartSettings).compute_of for one in context.recipe.stages if StartSettings in one.settings]
    if stage.kind != "policy_gradient" or stage.name in others:
        return []
    return [
        "no baseline at equal compute: rejection sampling (a data stage with method: rejection, then an sft stage with "
        f"compute_of: {stage.name}) is often as good; see recipes/grpo.yaml"
    ]


def _run_stage(context: Context, stage: Stage, index: int, preflight: bool) -> None:
    folder = context.run.stage(stage.name)
    record: dict[str, Any] = {"kind": stage.kind, "index": index, "settings": stage.values(), "started": now()}
    if stage.start is not None:
        record["start"] = stage.start
    folder.write_record({**record, "status": "running"})
    began = time.perf_counter()
    try:
        record.update(_work(context, stage, folder, preflight))
    except BaseException as error:
        folder.write_record({**record, "status": "failed", "notes": f"{type(error).__name__}: {error}"})
        raise
    # The process's highest so far: a stage that needs less than one before it shows that one's.
    record["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    folder.write_record({**record, "status": "done", "seconds": time.perf_counter() - began})
    # Checkpoints are for resuming: the model is exported and the record says done.
    shutil.rmtree(folder.checkpoints_folder, ignore_errors=True)


def _work(context: Context, stage: Stage, folder: StageFolder, preflight: bool) -> dict[str, Any]:
    evaluation = context.recipe.evaluate
    if stage.kind == "evaluate":
        rows = context.evaluation_rows if stage.name == BASE else context.prompts(stage)
        return {"notes": evaluate_stage(context, folder, rows, stage.get(EvaluationSettings), stage.get(JudgeSettings))}
    # What samples rows, or learns to judge, leaves the policy as it was.
    before = None if stage.kind in TRAINS_POLICY else context.policy
    if stage.start is not None:
        name = context.recipe.model if stage.start == BASE else str(context.run.stage(stage.start).model_folder)
        del context.policy  # before the other is loaded, so that both are never there unless both are needed
        context.policy = load(name, context.recipe.device, context.recipe.dtype, context.recipe.seed)
    if preflight and StartSettings in stage.settings:
        late = preflight_rows(context, stage)
        _keep(context.run, context.recipe, late)
        refuse_failed(late)
    if before is not None:
        counts = (make_rows if stage.kind == "data" else train_stage)(context, stage, folder)
        context.policy = before
        return counts
    counts = train_stage(context, stage, folder)
    if evaluation is not None:
        notes = evaluate_stage(context, folder, context.evaluation_rows, evaluation, JudgeSettings())
        counts["notes"] = notes + _hints(context, stage)
    return counts
