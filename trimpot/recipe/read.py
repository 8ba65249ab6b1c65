"""Reading a recipe: YAML and ``--set`` overrides into checked stages."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from trimpot.core.errors import UsageError, nearest
from trimpot.evaluation.best_of import MAJORITY, VERIFIER
from trimpot.evaluation.run import EvaluationSettings
from trimpot.preflight.settings import PreflightSettings
from trimpot.recipe.names import BASE
from trimpot.recipe.schema import SETTINGS, Stage, build_preflight, build_stage, convert
from trimpot.recipe.settings import JudgeSettings
from trimpot.store.run_folder import STAGE_NAME, stage_names

TOP = {"model": str, "seed": int, "device": str, "dtype": str}
TOP_DEFAULTS: dict[str, Any] = {"model": "smollm2-135m", "seed": 0, "device": "auto", "dtype": "auto"}
"""The keys above the stages: their types, and what a recipe takes when one is not given."""

JUDGE_MEND = "Judge by one in an evaluate stage, after the reward stage."
PREFLIGHT = "preflight"
"""The key of what is left out of the checks before a run."""
KEYS = (*TOP, "evaluate", PREFLIGHT, "stages")


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
    preflight: PreflightSettings = field(default_factory=PreflightSettings)

    def is_resumed_as(self, other: str) -> bool:
        """Whether a run of the recipe ``other`` may go on as this one: they differ in their preflight at most."""
        mine, theirs = (yaml.safe_load(text) for text in (self.text, other))
        if not isinstance(theirs, dict):
            return False
        return {**mine, PREFLIGHT: None} == {**theirs, PREFLIGHT: None}


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
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(str(path), "is not UTF-8 text", "Give a YAML file, saved as UTF-8.") from error
    return build_recipe(_parse(text, str(path)), str(path), overrides)


def _parse(text: str, path: str) -> Any:
    """The YAML as plain values.

    Raises:
        UsageError: malformed YAML, or a mapping that has a key twice, of which YAML would silently drop the first.
    """
    try:
        _refuse_repeated_keys(yaml.compose(text, Loader=yaml.SafeLoader), path)
        return yaml.safe_load(text)
    except (ValueError, RecursionError) as error:  # a date that is none, a node that holds itself
        raise UsageError(
            path, f"is not valid YAML ({error})", "Quote what is text; let no part hold itself."
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else path
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UsageError(where, f"is not valid YAML ({problem})", "Mend that line.") from error


def _refuse_repeated_keys(node: yaml.Node | None, path: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                where = f"{path}:{key.start_mark.line + 1}"
                raise UsageError(where, f"the key {key.value!r} is there twice", "Keep one of the two.")
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
    children = node.value if isinstance(node, yaml.CollectionNode) else ()
    for child in children:
        for part in child if isinstance(child, tuple) else (child,):
            _refuse_repeated_keys(part, path)


def build_recipe(tree: Any, where: str, overrides: Sequence[str] = ()) -> Recipe:
    """Checks a recipe given as parsed YAML (see read_recipe)."""
    if not isinstance(tree, dict):
        raise UsageError(where, "is not a mapping of keys", f"Start with one of: {', '.join(KEYS)}.")
    for override in overrides:
        _override(tree, override, where)
    for key in tree:
        if key not in KEYS:
            raise UsageError(f"{where}: {key}", "is not a key of a recipe", nearest(str(key), KEYS))
    top = {key: convert(kind, tree[key], f"{where}: {key}") for key, kind in TOP.items() if key in tree}
    entries = _entries(tree, where)
    names = _names(entries)
    _refuse_names(names, where)
    stages = [build_stage(kind, name, _unnamed(given)) for (kind, given), name in zip(entries, names, strict=True)]
    evaluation = None
    if tree.get("evaluate") is not None:
        if not isinstance(tree["evaluate"], Mapping):
            problem = f"{tree['evaluate']!r} is not a mapping"
            raise UsageError(f"{where}: evaluate", problem, "Write 'evaluate: {suite: FILE, items: 96}'.")
        for key in (one.name for one in dataclasses.fields(JudgeSettings) if one.name in tree["evaluate"]):
            raise UsageError(f"{where}: evaluate.{key}", "no reward model is there yet", JUDGE_MEND)
        evaluation = build_stage("evaluate", "evaluate", tree["evaluate"]).get(EvaluationSettings)
        if evaluation.judge not in (MAJORITY, VERIFIER):
            raise UsageError(f"{where}: evaluate.judge", "no reward model is there yet", JUDGE_MEND)
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    checks = build_preflight(tree.get(PREFLIGHT), f"{where}: {PREFLIGHT}")
    return Recipe(**{**TOP_DEFAULTS, **top}, evaluate=evaluation, stages=tuple(stages), text=text, preflight=checks)


def _entries(tree: Mapping[str, Any], where: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The kind and the settings of every stage."""
    if not isinstance(tree.get("stages"), list) or not tree["stages"]:
        raise UsageError(f"{where}: stages", "is missing or empty", "List at least one stage, such as '- sft: {...}'.")
    entries = []
    for number, entry in enumerate(tree["stages"], start=1):
        if not isinstance(entry, dict) or len(entry) != 1:
            problem = "is not one stage with its settings"
            raise UsageError(f"{where}: stage {number}", problem, "Write '- sft: {...}'.")
        ((kind, given),) = entry.items()
        if kind not in SETTINGS:
            raise UsageError(f"{where}: stage {number}", f"{kind!r} is unknown", nearest(str(kind), SETTINGS))
        if given is not None and not isinstance(given, Mapping):
            raise UsageError(f"{where}: {kind}", f"{given!r} is not a mapping", f"Write '- {kind}: {{steps: 40}}'.")
        entries.append((kind, given or {}))
    return entries


def _names(entries: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """The stages' names, which are their folders': their ``name``, else their kind, numbered where it comes again."""
    unnamed = iter(stage_names([kind for kind, given in entries if "name" not in given]))
    return [str(given["name"]) if "name" in given else next(unnamed) for _, given in entries]


def _refuse_names(names: Sequence[str], where: str) -> None:
    for number, name in enumerate(names):
        if name in names[:number] or name == BASE or not STAGE_NAME.fullmatch(name):
            mend = "Give every stage a name of its own: small letters, digits, _ and an ending such as -2."
            raise UsageError(f"{where}: stage {number + 1}.name", f"{name!r} is taken or not a name", mend)


def _unnamed(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if key != "name"}


def _override(tree: dict[str, Any], override: str, where: str) -> None:
    """Puts the value of ``stage.key=value`` into the tree; without a value, takes the key out of it."""
    path, equals, text = override.partition("=")
    if not equals:
        raise UsageError(f"--set {override}", "has no '='", "Write --set stage.key=value.")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"--set {path}", f"{text!r} is not valid YAML", "Close its brackets and quotes.") from error
    stage, dot, key = path.partition(".")
    if not dot and path not in KEYS:
        mend = f"{nearest(path, KEYS)} Or write --set stage.key=value."
        raise UsageError(f"--set {path}", "is not a key of a recipe", mend)
    target, key = (_addressed(tree, stage, f"--set {path}", where), key) if dot else (tree, path)
    if text:
        target[key] = value
    elif key in target:
        del target[key]
    else:
        raise UsageError(f"--set {override}", "takes out a key that the recipe does not have", "Leave it out.")


def _addressed(tree: dict[str, Any], stage: str, override: str, where: str) -> dict[str, Any]:
    """The settings of the stage that an override names: by its own name, by its kind, or as kind[2] the second."""
    entries = _entries(tree, where)
    if stage == "evaluate" and isinstance(tree.get("evaluate"), dict):
        evaluation: dict[str, Any] = tree["evaluate"]
        return evaluation
    if stage == PREFLIGHT:
        tree[PREFLIGHT] = {**(tree.get(PREFLIGHT) or {})}
        checks: dict[str, Any] = tree[PREFLIGHT]
        return checks
    names = _names(entries)
    numbered = re.fullmatch(r"(\w+)\[(\d+)\]", stage)
    name = stage if numbered is None else numbered[1] if numbered[2] == "1" else f"{numbered[1]}-{numbered[2]}"
    if name not in names:
        known = [*names, "evaluate"] if isinstance(tree.get("evaluate"), dict) else names
        raise UsageError(override, f"there is no stage {stage!r}", f"Known: {', '.join(map(repr, known))}.")
    place = names.index(name)
    kind, given = entries[place]
    tree["stages"][place] = {kind: {**given}}
    settings: dict[str, Any] = tree["stages"][place][kind]
    return settings
