"""The arms of a sweep: what the command line gives of each knob, beside the recipe's own value."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from trimpot.core.errors import UsageError
from trimpot.evaluation.best_of import MAJORITY, VERIFIER
from trimpot.models import embedded
from trimpot.recipe.names import FROM_STAGE
from trimpot.recipe.read import Recipe
from trimpot.recipe.settings import ENSEMBLE
from trimpot.rollout.environments import ENVIRONMENTS
from trimpot.rollout.verifiers import VERIFIERS
from trimpot.studies.study import Values
from trimpot.studies.sweep_prediction import RECIPE

NAMES = (embedded.NAME, MAJORITY, VERIFIER, *VERIFIERS, *ENVIRONMENTS)
"""Names that a recipe knows before any file of that name."""
PREFIXES = ("tiny-", "embedded:", FROM_STAGE)
PATHS = ("model", "data", "prompts", "suite", "trusted", "teacher", "critic", "judge", "environment")
"""Keys of a recipe that may name files; so may the names of rewards."""
FORM = "Write --arms stage.key=value,value."


def read_knobs(given: Sequence[str]) -> dict[str, list[str]]:
    """Knob -> its values as text, of ``stage.key=value,value``; a comma within brackets parts no values.

    Raises:
        UsageError: no '=', no or an empty value, a knob twice, or the seed, which is no knob here.
    """
    if not given:
        raise UsageError("--arms", "is missing", FORM)
    found: dict[str, list[str]] = {}
    for text in given:
        knob, equals, values = text.partition("=")
        knob = knob.strip()
        if not equals or not knob:
            raise UsageError(f"--arms {text}", "names no knob and values", FORM)
        if knob == "seed":
            raise UsageError(f"--arms {text}", "is no knob: seeds are given by their number", "Write --seeds 5.")
        if knob in found:
            raise UsageError(f"--arms {text}", "gives a knob for the second time", "Give all its values in one.")
        found[knob] = split_values(values)
        if not all(found[knob]):
            raise UsageError(f"--arms {text}", "has an empty value", FORM)
    return found


def split_values(text: str) -> list[str]:
    """The parts between commas that stand in no bracket: ``[a,b],[c]`` has two."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign in "[{") - (sign in "]}")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts]


def value_of(knob: str, text: str) -> float | str:
    """A finite number as such, a file or folder here by its whole path where the knob may name one, else the word."""
    if knob.rpartition(".")[2] in PATHS:
        return rooted(text)
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def own_value(recipe: Recipe, knob: str) -> float | str:
    """What the recipe has for a knob, its default where nothing is written; as a word where it is no number.

    Edge cases: a stage or key that is not there: null. The arm's recipe names the error.
    """
    stage, dot, key = knob.partition(".")
    if not dot:
        return _as_value(getattr(recipe, knob, None) if knob in ("model", "device", "dtype") else None)
    if stage == "evaluate" and recipe.evaluate is not None:
        return _as_value(dataclasses.asdict(recipe.evaluate).get(key))
    numbered = re.fullmatch(r"(\w+)\[(\d+)\]", stage)
    name = stage if numbered is None else numbered[1] if numbered[2] == "1" else f"{numbered[1]}-{numbered[2]}"
    for number, one in enumerate(recipe.stages):
        if one.name == name:
            # A preset is written, but no setting: it is gone where the others have their values.
            (given,) = yaml.safe_load(recipe.text)["stages"][number].values()
            return _as_value({**(given or {}), **one.values()}.get(key))
    return _as_value(None)


def make_arms(knobs: Mapping[str, Sequence[str]], own: Values) -> dict[str, Values]:
    """Arm -> the value of every knob; each arm differs from the recipe as it stands in one knob at most.

    The values of a single knob are compared with each other. Of several knobs, or where a knob has one value only, the
    recipe as it stands is the first arm, and a value that is the recipe's own makes no other.

    Raises:
        UsageError: a value twice, or nothing to compare.
    """
    against_recipe = len(knobs) > 1 or any(len(texts) == 1 for texts in knobs.values())
    arms: dict[str, Values] = {RECIPE: dict(own)} if against_recipe else {}
    for knob, texts in knobs.items():
        for number, text in enumerate(texts):
            values = {**own, knob: value_of(knob, text)}
            if value_of(knob, text) in [value_of(knob, other) for other in texts[:number]]:
                raise UsageError(f"--arms {knob}={text}", "is there twice", "Give every value once.")
            if not against_recipe or values != dict(own):
                arms[f"{knob}={text}"] = values
    if len(arms) < 2:
        knob = next(iter(knobs))
        raise UsageError(f"--arms {knob}", "leaves one arm, as the recipe has that value", "Give it another value.")
    return arms


def rooted(text: str) -> str:
    """What is a file or folder here by its whole path, so that a study can go on from any folder; other names stay.

    The parts of an ensemble are rooted each; ``file.py:function`` keeps its function.
    """
    if not text or text in NAMES or text.startswith(PREFIXES):
        return text
    parts = [text] if Path(text).exists() else text.split(ENSEMBLE)
    return ENSEMBLE.join(_rooted(part) for part in parts)


def _rooted(part: str) -> str:
    file, colon, function = part.rpartition(":")
    if file.endswith(".py") and Path(file).exists():
        return f"{Path(file).resolve()}{colon}{function}"
    return str(Path(part).resolve()) if part and Path(part).exists() else part


def _as_value(value: object) -> float | str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str):
        return value
    plain = list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value
    text: str = yaml.safe_dump(plain, default_flow_style=True)
    return text.strip()
