"""A sweep: a study that a user makes of a recipe, knobs and a prediction, without Python."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from trimpot.core.errors import UsageError
from trimpot.core.hashing import bytes_hash, content_hash, file_sha256
from trimpot.knobs.library import Library
from trimpot.knobs.schema import Claim
from trimpot.recipe.dry_run import estimate
from trimpot.recipe.read import Recipe, build_recipe, read_recipe
from trimpot.recipe.settings import ENSEMBLE
from trimpot.studies.study import Budget, Study, Values
from trimpot.studies.sweep_arms import PATHS, make_arms, own_value, read_knobs, rooted
from trimpot.studies.sweep_prediction import Prediction, read_prediction
from trimpot.studies.sweep_runs import arm_recipe, prepare, run
from trimpot.studies.workers import one_thread

BUDGET = "sweep"
"""The name of the one budget that a sweep has."""
FEWEST_SEEDS = 2
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")


@dataclass(frozen=True)
class Sweep:
    """All that a sweep is. Fixed once it is written: another recipe, arm, seed or prediction is another sweep.

    ``source`` is the recipe file it was made from, ``recipe`` its YAML with whole paths; ``own`` the recipe's own value
    of every knob. ``inputs``: hash of each file and folder the recipe names, as they were when the prediction was made.
    Seeds count up from ``first_seed``, the one after the recipe's own, which its author has seen.
    """

    name: str
    source: str
    recipe: str
    own: Values
    arms: Mapping[str, Values]
    seeds: int
    first_seed: int
    metric: str
    predict: str
    inputs: Mapping[str, str]

    @property
    def prediction(self) -> Prediction:
        """The prediction as comparisons of the arms."""
        return read_prediction(self.predict, self.arms, self.metric)

    def recipes(self) -> dict[str, Recipe]:
        """Every arm's recipe under the first seed."""
        return {arm: arm_recipe(self.recipe, self.own, values, self.first_seed) for arm, values in self.arms.items()}


def new_sweep(
    file: Path, knobs: Sequence[str], seeds: int, predict: str, metric: str | None = None, name: str | None = None
) -> Sweep:
    """Reads recipe, knobs (``stage.key=value,value``) and prediction, and makes every arm's recipe.

    Without a ``name`` it is made of the recipe's, the knobs' and a hash of the whole, so that the same is the same.

    Raises:
        UsageError: a recipe, knob, value, seed count, name or prediction that cannot be used.
    """
    if seeds < FEWEST_SEEDS:
        raise UsageError("--seeds", f"{seeds} is too few", f"Give at least {FEWEST_SEEDS}: an interval needs them.")
    if name is not None and not NAME.fullmatch(name):
        raise UsageError("--name", f"{name!r} is no name", "Write small letters, digits, points, _ and -.")
    given, tree = read_knobs(knobs), rooted_recipe(yaml.safe_load(read_recipe(file).text))
    recipe = build_recipe(tree, str(file))
    own = {knob: own_value(recipe, knob) for knob in given}
    arms = make_arms(given, own)
    for values in arms.values():
        arm_recipe(recipe.text, own, values, recipe.seed)
    prediction = read_prediction(predict, arms, metric)
    named = {str(value) for values in arms.values() for value in values.values()} | set(_names(tree))
    sweep = Sweep(
        name or "", str(file), recipe.text, own, arms, seeds, recipe.seed + 1, prediction.metric, predict,
        {path: contents_hash(Path(path)) for path in sorted(set(files_in(named)))},
    )  # fmt: skip
    if name is not None:
        return sweep
    content = [recipe.text, {arm: dict(values) for arm, values in arms.items()}, seeds, prediction.metric, predict]
    parts = [file.stem, *(knob.rpartition(".")[2] for knob in given), content_hash([content, dict(sweep.inputs)])[:6]]
    return replace(sweep, name=_slug("-".join(parts)))


def study_of(sweep: Sweep, minutes: float = 0.0) -> tuple[Study, Library]:
    """The sweep as a study for the runner, and the library that holds the parts of its prediction as claims.

    ``minutes``: what all its runs are reckoned to take.
    """
    parts = sweep.prediction.parts
    names = ["prediction"] if len(parts) == 1 else [f"prediction {number}" for number in range(1, len(parts) + 1)]
    claims = {
        name: Claim(
            id=name, statement=part.statement, source="you", place=sweep.name, metric=sweep.metric,
            condition=f"recipe {sweep.source}", direction=part.direction,
        )
        for name, part in zip(names, parts, strict=True)
    }  # fmt: skip
    settings = {
        "recipe": sweep.recipe,
        "own": dict(sweep.own),
        "metric": sweep.metric,
        "prediction": sweep.predict,
        "inputs": dict(sweep.inputs),
    }
    model = next(iter(sweep.recipes().values())).model
    knobs = " and ".join(sweep.own)
    study = Study(
        id=sweep.name,
        question=f"How does {sweep.metric} move with {knobs}?",
        model="several" if "model" in sweep.own else model,
        scale=f"your recipe {sweep.source}, its model and rows; all but {knobs} as it stands there",
        tests={name: part.measure for name, part in zip(names, parts, strict=True)},
        claims={name: name for name in names},
        budgets={BUDGET: Budget(sweep.arms, sweep.seeds, settings, float(f"{minutes:.2g}"))},
        prepare=prepare,
        run=run,
        first_seed=sweep.first_seed,
        margins={name: part.margin for name, part in zip(names, parts, strict=True) if part.margin is not None},
    )
    return study, Library({}, claims, {})


def check_arms(sweep: Sweep) -> float:
    """The checks of a dry run for every arm; returns the seconds it reckons for all runs, one after the other.

    Reckoned with one thread, as the runs have. Of a tiny model much of the time is no arithmetic, so it is too short.

    Raises:
        UsageError: what a dry run finds: a model or rows that cannot be read, a setting that cannot be.
    """
    total = 0.0
    for arm, recipe in sweep.recipes().items():
        try:
            with one_thread():
                total += sum(stage.seconds for stage in estimate(recipe))
        except UsageError as error:
            raise UsageError(f"{arm}: {error.where}", error.problem, error.mend) from error
    return total * sweep.seeds


def check_inputs(sweep: Sweep) -> None:
    """Asks whether rows, models and functions are what they were when the prediction was made.

    Raises:
        UsageError: one is gone or has changed.
    """
    for path, hash in sweep.inputs.items():
        if not Path(path).exists() or contents_hash(Path(path)) != hash:
            mend = f"Put it back as it was, or predict anew: trimpot study new {sweep.source}."
            raise UsageError(path, "is not what it was when the prediction was made", mend)


def contents_hash(path: Path) -> str:
    """A hash of a file, or of all files in a folder with their names."""
    if path.is_file():
        return file_sha256(path)[:16]
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return bytes_hash(
        part.encode() for file in files for part in (file.relative_to(path).as_posix(), file_sha256(file))
    )


def rooted_recipe(tree: dict[str, Any]) -> dict[str, Any]:
    """A recipe (parsed) whose names of files here are whole paths; other names stay."""
    for part in _parts(tree):
        part.update({key: rooted(part[key]) for key in PATHS if isinstance(part.get(key), str)})
        if isinstance(part.get("rewards"), Mapping):
            part["rewards"] = {rooted(str(name)): weight for name, weight in part["rewards"].items()}
    return tree


def files_in(names: set[str]) -> Iterator[str]:
    """The whole paths among names: files, folders, and the file of ``file.py:function``."""
    for name in names:
        for part in (name, *name.split(ENSEMBLE)):
            for path in (part, part.rpartition(":")[0]):
                if path.startswith("/") and Path(path).exists():
                    yield path


def _names(tree: dict[str, Any]) -> Iterator[str]:
    for part in _parts(tree):
        yield from (part[key] for key in PATHS if isinstance(part.get(key), str))
        if isinstance(part.get("rewards"), Mapping):
            yield from map(str, part["rewards"])


def _parts(tree: dict[str, Any]) -> list[dict[str, Any]]:
    """The recipe's top, its evaluation and the settings of its stages."""
    stages = [given for stage in tree["stages"] for given in stage.values()]
    return [part for part in (tree, tree.get("evaluate"), *stages) if isinstance(part, dict)]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-.")[:80]
