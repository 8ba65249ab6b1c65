"""Reading a recipe: YAML and ``--set`` overrides into checked stages."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trimpot.core.errors import UsageError, nearest
from trimpot.evaluation.best_of import MAJORITY, VERIFIER
from trimpot.evaluation.run import EvaluationSettings
from trimpot.recipe.schema import Stage, build_stage, convert
from trimpot.recipe.settings import JudgeSettings
from trimpot.store.run_folder import STAGE_NAME, stage_names

TOP = {"model": str, "seed": int, "device": str, "dtype": str}
JUDGE_MEND = "Judge by one in an evaluate stage, after the reward stage."
KEYS = (*TOP, "evaluate", "stages")


@dataclass(frozen=True)
class Recipe:
    """A checked recipe. ``text`` is the YAML that reproduces it, overrides included."""

    model: str
    seed: int
    device: str
    dtype: str
    evaluate: EvaluationSettings | None
    stages: tuple[Stage, ...]
    text: str


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe file and applies ``stage.key=value`` overrides.

    Raises:
        UsageError: missing file, malformed YAML, unknown key, wrong type: one line that names the place.
    """
    file = Path(path)
    if not file.is_file():
        near = [str(other) for other in file.parent.glob("*.yaml")] if file.parent.is_dir() else []
        raise UsageError(str(path), "no such recipe", nearest(str(path), near) if near else "Give a YAML file.")
    try:
        tree = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UsageError(where, f"is not valid YAML ({getattr(error, 'problem', error)})", "Mend that line.") from error
    return build_recipe(tree, str(path), overrides)


def build_recipe(tree: Any, where: str, overrides: Sequence[str] = ()) -> Recipe:
    """Checks a recipe given as parsed YAML (see read_recipe)."""
    if not isinstance(tree, dict):
        raise UsageError(where, "is not a mapping of keys", f"Start with one of: {', '.join(KEYS)}.")
    for override in overrides:
        _override(tree, override)
    for key in tree:
        if key not in KEYS:
            raise UsageError(f"{where}: {key}", "is not a key of a recipe", nearest(str(key), KEYS))
    top = {key: convert(kind, tree[key], f"{where}: {key}") for key, kind in TOP.items() if key in tree}
    if not isinstance(tree.get("stages"), list) or not tree["stages"]:
        raise UsageError(f"{where}: stages", "is missing or empty", "List at least one stage, such as '- sft: {...}'.")
    entries: list[tuple[str, Any]] = []
    for number, entry in enumerate(tree["stages"]):
        if not isinstance(entry, dict) or len(entry) != 1:
            raise UsageError(
                f"{where}: stages[{number}]", "is not one stage with its settings", "Write '- sft: {...}'."
            )
        ((kind, given),) = entry.items()
        if given is not None and not isinstance(given, Mapping):
            raise UsageError(f"{where}: {kind}", f"{given!r} is not a mapping", f"Write '- {kind}: {{steps: 40}}'.")
        entries.append((kind, given or {}))
    names = _names(entries, where)
    stages = [build_stage(kind, name, _unnamed(given)) for (kind, given), name in zip(entries, names, strict=True)]
    evaluation = None
    if tree.get("evaluate") is not None:
        if not isinstance(tree["evaluate"], Mapping):
            problem = f"{tree['evaluate']!r} is not a mapping"
            raise UsageError(f"{where}: evaluate", problem, "Write 'evaluate: {suite: FILE, items: 96}'.")
        evaluation = build_stage("evaluate", "evaluate", tree["evaluate"]).get(EvaluationSettings)
        for key in (field.name for field in dataclasses.fields(JudgeSettings) if field.name in tree["evaluate"]):
            raise UsageError(f"{where}: evaluate.{key}", "no reward model is there yet", JUDGE_MEND)
        if evaluation.judge not in (MAJORITY, VERIFIER):
            raise UsageError(f"{where}: evaluate.judge", "no reward model is there yet", JUDGE_MEND)
    defaults: dict[str, Any] = {"model": "smollm2-135m", "seed": 0, "device": "auto", "dtype": "auto"}
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    return Recipe(**{**defaults, **top}, evaluate=evaluation, stages=tuple(stages), text=text)


def _names(entries: Sequence[tuple[str, Any]], where: str) -> list[str]:
    """The stages' names: their ``name``, else their kind, numbered where it comes again."""
    unnamed = iter(stage_names([kind for kind, given in entries if "name" not in given]))
    names = [str(given["name"]) if "name" in given else next(unnamed) for _, given in entries]
    for number, name in enumerate(names):
        if name in names[:number] or name == "base" or not STAGE_NAME.fullmatch(name):
            mend = "Give every stage a name of its own: small letters, digits, _ and an ending such as -2."
            raise UsageError(f"{where}: stages[{number}].name", f"{name!r} is taken or not a name", mend)
    return names


def _unnamed(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if key != "name"}


def _override(tree: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals:
        raise UsageError(f"--set {override}", "has no '='", "Write --set stage.key=value.")
    value = yaml.safe_load(text)
    stage, dot, key = path.partition(".")
    if not dot:
        tree[path] = value
        return
    match = re.fullmatch(r"(\w+)(?:\[(\d+)\])?", stage)
    kind, position = (match[1], int(match[2] or 1)) if match else (stage, 1)
    if kind == "evaluate" and isinstance(tree.get("evaluate"), dict):
        tree["evaluate"][key] = value
        return
    fitting = [
        entry for entry in tree.get("stages") or () if isinstance(entry, dict) and _is_called(entry, stage, kind)
    ]
    if not 1 <= position <= len(fitting):
        known = [str(name) for entry in tree.get("stages") or () if isinstance(entry, dict) for name in entry]
        raise UsageError(f"--set {path}", f"there is no stage {stage!r}", nearest(kind, known or ["stages"]))
    entry = fitting[position - 1]
    ((kind, given),) = entry.items()
    entry[kind] = {**(given or {}), key: value}


def _is_called(entry: Mapping[str, Any], stage: str, kind: str) -> bool:
    """Whether a stage of the recipe goes by the name of an override: its own name, or its kind."""
    named = [given["name"] for given in entry.values() if isinstance(given, Mapping) and "name" in given]
    return stage in named if named else kind in entry
