"""Run a recipe: check everything, then stage after stage; a stopped run goes on where it was."""

from __future__ import annotations

import json
import resource
import shutil
import time
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.core.rows import PromptRow, Row
from trimpot.data.lineage import lineage_table
from trimpot.data.pairs import pairs_from_samples
from trimpot.data.template import ChatTemplate
from trimpot.evaluation.run import EvaluationSettings
from trimpot.models.load import load
from trimpot.recipe.context import Context, Listener, Silence, check_rows, read_rows, suite_rows
from trimpot.recipe.evaluate_stage import evaluate_stage
from trimpot.recipe.read import Recipe
from trimpot.recipe.schema import PairSettings, Stage, build_stage
from trimpot.recipe.train_stage import train_stage
from trimpot.rollout.engine import SamplingSettings, generate
from trimpot.rollout.source import decode
from trimpot.rollout.verifiers import find_verifier
from trimpot.store.atomic import write_text
from trimpot.store.environment import now
from trimpot.store.run_folder import RunFolder, StageFolder

TRAINS_POLICY = ("sft", "preference", "policy_gradient")


def run_recipe(recipe: Recipe, output: Path, resume: bool = False, listener: Listener | None = None) -> RunFolder:
    """Runs all stages of a recipe into ``output``; with ``resume`` goes on with what is there.

    The model is loaded and every row read and tokenised before the folder is made: bad input leaves nothing behind.

    Raises:
        UsageError: bad rows, model or settings; the folder exists (without resume) or is of another recipe.
    """
    hearer = listener or Silence()
    if resume:
        run = RunFolder.open(output)
        if run.recipe_text != recipe.text:
            raise UsageError(str(output), "was made by another recipe", "Resume with the recipe in its folder.")
    elif output.exists() and (output.is_file() or any(output.iterdir())):
        RunFolder.create(output)  # raises, before anything is loaded
    hearer.note(f"loading {recipe.model}")
    stages = _with_base_evaluation(recipe)
    finished = _finished(output, stages) if resume else 0
    base = _model_before(output, stages[:finished], recipe)
    policy = load(base, recipe.device, recipe.dtype, recipe.seed)
    template = ChatTemplate(policy.tokenizer)
    rows, items = check_rows(recipe, template)
    if not resume:
        run = RunFolder.create(output)
        run.write_recipe(recipe.text)
        everything: list[Row] = [*items, *(row for part in rows.values() for row in part)]
        lineage_table(everything).write_parquet(run.lineage_path)
    context = Context(recipe, run, policy, template, items, rows, hearer)
    for index, stage in enumerate(stages):
        if index >= finished:
            _run_stage(context, stage, index)
    return run


def _with_base_evaluation(recipe: Recipe) -> tuple[Stage, ...]:
    if recipe.evaluate is None:
        return recipe.stages
    return (build_stage("evaluate", "base", {}), *recipe.stages)


def _finished(output: Path, stages: tuple[Stage, ...]) -> int:
    done = 0
    for stage in stages:
        record = output / stage.name / "stage.json"
        if not record.exists() or json.loads(record.read_text()).get("status") != "done":
            break
        done += 1
    return done


def _model_before(output: Path, stages: tuple[Stage, ...], recipe: Recipe) -> str:
    for stage in reversed(stages):
        if stage.kind in TRAINS_POLICY:
            return str(output / stage.name / "model")
    return recipe.model


def _run_stage(context: Context, stage: Stage, index: int) -> None:
    folder = context.run.stage(stage.name)
    record: dict[str, Any] = {"kind": stage.kind, "index": index, "settings": stage.values(), "started": now()}
    folder.write_record({**record, "status": "running"})
    began = time.perf_counter()
    try:
        record.update(_work(context, stage, folder))
    except BaseException as error:
        folder.write_record({**record, "status": "failed", "notes": f"{type(error).__name__}: {error}"})
        raise
    # The process's highest so far: a stage that needs less than one before it shows that one's.
    record["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    folder.write_record({**record, "status": "done", "seconds": time.perf_counter() - began})
    # Checkpoints are for resuming: the model is exported and the record says done.
    shutil.rmtree(folder.checkpoints_folder, ignore_errors=True)


def _work(context: Context, stage: Stage, folder: StageFolder) -> dict[str, Any]:
    evaluation = context.recipe.evaluate
    if stage.kind == "data":
        return _make_pairs(context, stage, folder)
    if stage.kind == "evaluate":
        settings = stage.get(EvaluationSettings)
        rows = context.evaluation_rows
        if stage.name != "base" or evaluation is None:
            rows = suite_rows(settings.suite, settings.items, context.recipe.seed)
        else:
            settings = evaluation
        return {"notes": evaluate_stage(context, folder, rows, settings)}
    counts = train_stage(context, stage, folder)
    if evaluation is not None and stage.kind in TRAINS_POLICY:
        counts["notes"] = evaluate_stage(context, folder, context.evaluation_rows, evaluation)
    return counts


def _make_pairs(context: Context, stage: Stage, folder: StageFolder) -> dict[str, Any]:
    """Samples completions of every prompt, scores them, and writes the constructed pairs to rows.jsonl."""
    settings: PairSettings = stage.get(PairSettings)
    rows = context.rows.get(stage.name) or read_rows(stage, context.run, context.recipe.seed)
    prompts = [row for row in rows if isinstance(row, PromptRow)]
    sampling = SamplingSettings(settings.temperature, settings.max_tokens)
    groups = generate(
        context.policy, [context.template.prompt(row) for row in prompts], settings.samples, sampling,
        context.stage_seed(stage), context.progress("sample pairs"),
    )  # fmt: skip
    texts = [[decode(context.policy, one) for one in group] for group in groups]
    scores = [
        [find_verifier(row.verifier)(text, row).value for text in group]
        for row, group in zip(prompts, texts, strict=True)
    ]
    pairs = pairs_from_samples(prompts, texts, scores)
    if not pairs:
        mend = "Raise samples or temperature, or put more SFT before it."
        raise UsageError(stage.name, "no prompt got both a right and a wrong completion", mend)
    lines = [
        {
            "prompt": [message.as_dict() for message in pair.prompt],
            "chosen": [message.as_dict() for message in pair.chosen],
            "rejected": [message.as_dict() for message in pair.rejected],
            "slices": dict(pair.slices),
        }
        for pair in pairs
    ]
    write_text(folder.path / "rows.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    lineage_table(pairs).write_parquet(folder.path / "lineage.parquet")
    notes = f"constructed: {len(pairs)} pairs of {len(prompts)} prompts x {settings.samples} own samples, by verifier"
    return {"rows": len(pairs), "notes": notes}
