"""Reading a recipe: YAML and ``--set`` overrides into checked stages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trimpot.core.errors import UsageError, nearest
from trimpot.evaluation.run import EvaluationSettings
from trimpot.recipe.schema import Stage, build_stage, convert
from trimpot.store.run_folder import stage_names

TOP = {"model": str, "seed": int, "device": str, "dtype": str}
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
    names = stage_names([kind for kind, _ in entries])
    stages = [build_stage(kind, name, given) for (kind, given), name in zip(entries, names, strict=True)]
    evaluation = None
    if tree.get("evaluate") is not None:
        evaluation = build_stage("evaluate", "evaluate", tree["evaluate"]).get(EvaluationSettings)
    defaults: dict[str, Any] = {"model": "smollm2-135m", "seed": 0, "device": "auto", "dtype": "auto"}
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    return Recipe(**{**defaults, **top}, evaluate=evaluation, stages=tuple(stages), text=text)


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
    fitting = [entry for entry in tree.get("stages") or () if isinstance(entry, dict) and kind in entry]
    if not 1 <= position <= len(fitting):
        known = [str(name) for entry in tree.get("stages") or () if isinstance(entry, dict) for name in entry]
        raise UsageError(f"--set {path}", f"there is no stage {stage!r}", nearest(kind, known or ["stages"]))
    entry = fitting[position - 1]
    entry[kind] = {**(entry[kind] or {}), key: value}
