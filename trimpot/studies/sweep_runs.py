"""One run of a sweep: a recipe with an arm's values under a seed, and what its run folder says of it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from trimpot.core.errors import UsageError, nearest
from trimpot.core.hashing import content_hash
from trimpot.recipe.names import BASE
from trimpot.recipe.read import Recipe, build_recipe
from trimpot.recipe.run import run_recipe
from trimpot.store.outcomes import read_outcomes
from trimpot.store.run_folder import RunFolder, StageFolder
from trimpot.studies.study import Settings, Values
from trimpot.studies.sweep_measures import ITEM

EVALUATIONS = {
    "accuracy": "outcomes.parquet",
    "sampled_accuracy": "sampled_outcomes.parquet",
    "best_of_accuracy": "best_of_outcomes.parquet",
}
"""Metric -> the file of a stage that has its items: greedy answers, sampled ones, the picks of n."""
LATE = 0.1
"""Share of a stage's steps, its last, over which training metrics are averaged: one step's batch says little. Ours."""
NOT_MEASURED = ("step", "seconds", "draw_seconds", "tokens_per_second")
"""The step, and times, which runs side by side would blur."""
STOPPED = "stopped: "
"""Opens the name of the value that stands for a run that could not go on, with the reason."""


def prepare(settings: Settings, seed: int, folder: Path) -> None:
    """Nothing: arms of a seed share the recipe, which says all, and rows that are the same under the same seed."""


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """Runs the recipe with an arm's values, from where a killed run stopped, and reads what it measured.

    The run's folder is removed when it has been read, as exported models fill a disk. A run that ends by an error of
    its own, such as a data stage that found no pair, has no metrics: it counts as failed.

    Raises:
        UsageError: bad rows or settings, before anything ran; a metric that the run does not have.
    """
    recipe = arm_recipe(settings["recipe"], settings["own"], values, seed)
    target = folder / content_hash(dict(values))
    try:
        done = run_recipe(recipe, target, resume=target.exists())
    except UsageError as error:
        if not (target / "recipe.yaml").exists():
            raise
        found = {f"{STOPPED}{error}": math.nan}
    else:
        found = metrics_of(done, settings["metric"])
    shutil.rmtree(target)
    return found


def arm_recipe(recipe: str, own: Values, values: Values, seed: int) -> Recipe:
    """The recipe (its YAML) under a seed, with those values of an arm that are not its own.

    Raises:
        UsageError: as for a recipe's overrides; names the arm's knob.
    """
    tree = yaml.safe_load(recipe)
    tree["seed"] = seed
    changes = [f"{knob}={written(value)}" for knob, value in values.items() if value != own[knob]]
    try:
        return build_recipe(tree, "recipe", changes)
    except UsageError as error:
        where, mend = (text.replace("--set", "--arms") for text in (error.where, error.mend))
        raise UsageError(where, error.problem, mend) from error


def written(value: float | str) -> str:
    """A value as YAML has it; a number that is whole without a point, as some settings take whole numbers only."""
    if isinstance(value, str):
        return value
    if value == int(value):
        return str(int(value))
    text: str = yaml.safe_dump(float(value))
    return text.splitlines()[0]


def metrics_of(run: RunFolder, metric: str) -> dict[str, float]:
    """What a run measured, by name; a name that is a stage's alone is there only as the ``metric`` asked for.

    ``accuracy`` (``sampled_accuracy``, ``best_of_accuracy``) is the mean score over items of the last stage that was
    evaluated so, and without an evaluation a training metric of that name. ``held_out_accuracy`` is the last reward
    model's. Everything else is the last training stage's: the mean over the last tenth of its steps. ``STAGE.METRIC``
    is the same of any stage. ``alarms/DETECTOR`` counts findings. Of the metric asked for, where it is a mean over
    items, each item's score stands beside it.

    Raises:
        UsageError: the run does not have the metric; names the nearest that it has.
    """
    stages = run.stages()
    found: dict[str, float] = {}
    apart: dict[str, float] = {}
    for stage in stages:
        late = late_metrics(stage)
        found = {**found, **late} if late else found
        judged = (stage.record().get("held_out") or {}).get("accuracy")
        if judged is not None and judged["value"] is not None:
            late["held_out_accuracy"] = found["held_out_accuracy"] = float(judged["value"])
        apart.update({f"{stage.name}.{name}": value for name, value in late.items()})
    for name, file in EVALUATIONS.items():
        scores = _last_scores(stages, file)
        if scores:
            found[name] = math.fsum(scores.values()) / len(scores)
            if name == metric:
                found.update({ITEM + item: score for item, score in scores.items()})
    for stage in stages:
        for alarm in stage.alarms():
            name = f"alarms/{alarm['detector']}"
            found[name] = found.get(name, 0.0) + 1.0
    if metric in apart:
        found[metric] = apart[metric]
    if metric not in found:
        known = [name for name in (*found, *apart) if not name.startswith((ITEM, "alarms/"))]
        raise UsageError("--metric", f"{metric!r} is nothing that the recipe's runs measure", nearest(metric, known))
    return {name: value for name, value in found.items() if name == metric or math.isfinite(value)}


def late_metrics(stage: StageFolder) -> dict[str, float]:
    """The means of a stage's training metrics over the last tenth of its steps, at least one; times are left out."""
    lines = stage.metrics()
    last = lines[-max(1, round(LATE * len(lines))) :]
    found: dict[str, float] = {}
    for name in dict.fromkeys(name for line in last for name in line):
        values = [float(line[name]) for line in last if isinstance(line.get(name), int | float)]
        if values and name not in NOT_MEASURED:
            found[name] = math.fsum(values) / len(values)
    return found


def _last_scores(stages: list[StageFolder], file: str) -> Mapping[str, float]:
    """Item -> its mean score, of the last stage that has the file; the base model and reward models do not count."""
    for stage in reversed(stages):
        path = stage.path / file
        if path.exists() and stage.name != BASE and stage.record()["kind"] != "reward":
            return _item_scores(path)
    return {}


def _item_scores(path: Path) -> dict[str, float]:
    """An item that could not be scored has none; an answer that could not be read has 0, as in the run's report."""
    scores: dict[str, list[float]] = {}
    for one in read_outcomes(path):
        if one.score is not None:
            scores.setdefault(one.item, []).append(one.score)
    return {item: math.fsum(values) / len(values) for item, values in scores.items()}


def reason_of(result: Mapping[str, Any]) -> str:
    """Why a run failed, from what the ledger holds of it: the error that stopped it, or metrics that are not finite."""
    names = [str(name) for name in result.get("not_finite", ())]
    stopped = [name.removeprefix(STOPPED) for name in names if name.startswith(STOPPED)]
    return stopped[0] if stopped else f"{', '.join(names)} not finite"
