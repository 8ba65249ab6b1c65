"""Keys of recipe settings: ``stage.key`` for a stage's own, ``stage.objective.key`` for those of one objective.

``key`` alone stands above the stages. A user writes the other two under the stage: ``preference.simpo.beta`` is
``beta`` of a preference stage with ``objective: simpo``. A part that is ``*`` stands for every stage or objective that
has the setting: ``*.learning_rate``, ``policy_gradient.*.clip_low``. Where several forms fit a setting, the one with
the fewest ``*`` speaks for it.

What is set in another place than a recipe has a key of ELSEWHERE.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

ANY = "*"


@dataclass(frozen=True)
class Elsewhere:
    """A setting that no recipe has: where a user writes it, and its default; None: it must be given, or is not set."""

    written: str
    default: bool | float | int | str | None


ELSEWHERE: Mapping[str, Elsewhere] = {
    "task.prompt": Elsewhere("prompt in a task file", None),
    "eval.seed": Elsewhere("trimpot eval --seed", 0),
    "judge.orders": Elsewhere("trimpot judge (fixed)", "both"),
    "judge.length_limit": Elsewhere("trimpot judge --set length_limit", 0.8),
    "perturbed.strength": Elsewhere("perturbed(strength=…)", None),
}
"""Key -> setting of evaluations that stands in a task file, a command or a call."""


def covers(form: str, key: str) -> bool:
    """True when the form is the key, or differs from it only in parts that are ``*``."""
    wanted, given = form.split("."), key.split(".")
    return len(wanted) == len(given) and all(part in (ANY, own) for part, own in zip(wanted, given, strict=True))


def closest(forms: Iterable[str], key: str) -> list[str]:
    """The forms that speak for a key: those that cover it with the fewest ``*``; more than one is a contradiction."""
    fitting = [form for form in forms if covers(form, key)]
    fewest = min((form.count(ANY) for form in fitting), default=0)
    return [form for form in fitting if form.count(ANY) == fewest]


def as_written(form: str) -> str:
    """The setting as a recipe has it.

    Example:

        >>> as_written("preference.simpo.beta")
        'preference.beta (objective: simpo)'
        >>> as_written("*.learning_rate")
        'learning_rate of any stage'
        >>> as_written("dtype")
        'dtype of the recipe'
        >>> as_written("eval.seed")
        'trimpot eval --seed'
    """
    if form in ELSEWHERE:
        return ELSEWHERE[form].written
    if "." not in form:
        return f"{form} of the recipe"
    stage, *objective, key = form.split(".")
    place = f"{key} of any stage" if stage == ANY else f"{stage}.{key}"
    return place if objective in ([], [ANY]) else f"{place} (objective: {objective[0]})"
