"""A prediction in words, read as comparisons of a sweep's arms that can bear it out or refute it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from trimpot.core.errors import UsageError
from trimpot.knobs.evidence import Verdict
from trimpot.knobs.schema import Direction
from trimpot.studies.measures import Measure
from trimpot.studies.study import Values
from trimpot.studies.sweep_measures import ArmDifference, Change

GRAMMAR = (
    "Write 'METRIC rises|falls|stays with KNOB', 'METRIC stays within NUMBER with KNOB', 'ARM is best|highest|lowest'"
    " or 'ARM > ARM', and after a semicolon what you like."
)
RECIPE = "recipe"
"""The arm that is the recipe as it stands."""
METRIC = "accuracy"
"""What is compared when neither the command nor the prediction names a metric."""
STAYS_WITHIN = 0.02
"""What counts as no change of an accuracy: two items of a hundred. Ours; other metrics have scales of their own."""
BETTER: Mapping[str, Direction] = {
    "accuracy": "up", "sampled_accuracy": "up", "best_of_accuracy": "up", "held_out_accuracy": "up", "reward": "up",
    "loss": "down",
}  # fmt: skip
"""Metrics of which everyone knows the better end; of others a prediction says highest or lowest."""

Outcome = Literal["right", "wrong", "undecided"]
Arms = Mapping[str, Values]

TREND = re.compile(
    r"(?P<metric>\S+) (?P<way>rises|falls|stays)( within (?P<margin>[0-9.eE+-]+))? with (?P<knob>\S+)", re.IGNORECASE
)
BEST = re.compile(r"(?P<arm>.+) is (?:the )?(?P<end>best|highest|lowest)", re.IGNORECASE)
PAIR = re.compile(r"(?P<first>.+?) (?P<sign>[<>]) (?P<second>.+)")


@dataclass(frozen=True)
class Expected:
    """One comparison that a prediction is scored by: which sign it must have, or within which margin it must lie."""

    statement: str
    measure: Measure
    direction: Direction
    margin: float | None = None


@dataclass(frozen=True)
class Prediction:
    """A prediction that can be scored: right when all its parts are confirmed, wrong when one is refuted."""

    text: str
    metric: str
    parts: tuple[Expected, ...]


def outcome_of(verdicts: Iterable[Verdict]) -> Outcome:
    """What the verdicts on a prediction's parts make of it. None at all: undecided."""
    found = list(verdicts)
    if "refuted" in found:
        return "wrong"
    return "right" if found and all(one == "confirmed" for one in found) else "undecided"


def read_prediction(text: str, arms: Arms, metric: str | None = None) -> Prediction:
    """Reads a prediction about arms (name -> knob values); what follows its first semicolon is not read.

    ``METRIC rises|falls|stays with KNOB``: the metric's change from the knob's smallest value to its largest; ``stays``
    needs a margin, ``within NUMBER``, unless the metric is an accuracy. ``ARM is best`` (or highest, lowest): against
    each other arm. ``ARM > ARM``: the metric is higher under the first. An arm is its name, its value, or recipe.
    ``metric``: the command's; None: the prediction's, else accuracy.

    Raises:
        UsageError: it cannot be scored; says why and shows the grammar.
    """
    words = " ".join(text.partition(";")[0].split()).rstrip(".")
    if found := TREND.fullmatch(words):
        if metric is not None and found["metric"] != metric:
            raise _unscored(text, f"speaks of {found['metric']}, but the metric is {metric}")
        parts = (_trend(text, found, arms),)
        return Prediction(text, found["metric"], parts)
    chosen = metric or METRIC
    if found := BEST.fullmatch(words):
        return Prediction(text, chosen, _best(text, found["arm"], found["end"].lower(), arms, chosen))
    if found := PAIR.fullmatch(words):
        first, second = (_arm(text, found[side], arms) for side in ("first", "second"))
        if first == second:
            raise _unscored(text, "compares an arm with itself")
        higher, lower = (first, second) if found["sign"] == ">" else (second, first)
        return Prediction(text, chosen, (_higher(higher, lower, chosen, "up"),))
    raise _unscored(text, "cannot be scored")


def _trend(text: str, found: re.Match[str], arms: Arms) -> Expected:
    metric, way, knob = found["metric"], found["way"].lower(), _knob(text, found["knob"], arms)
    standing = arms.get(RECIPE, {})
    where = {other: value for other, value in standing.items() if other != knob}
    values = {values[knob] for values in arms.values() if all(values[one] == where[one] for one in where)}
    numbers = sorted(float(value) for value in values if not isinstance(value, str))
    if len(numbers) < len(values):
        raise _unscored(text, f"{knob} has values that are no numbers, so nothing rises with it")
    change = Change(metric, knob, f"{metric} from {knob} {numbers[0]:g} to {numbers[-1]:g}", where)
    if way != "stays":
        if found["margin"] is not None:
            raise _unscored(text, "'within' is for stays")
        return Expected(f"{metric} {way} with {knob}", change, "up" if way == "rises" else "down")
    margin = _margin(text, found["margin"], metric)
    return Expected(f"{metric} stays within {margin:g} with {knob}", change, "equal", margin)


def _margin(text: str, given: str | None, metric: str) -> float:
    if given is None:
        if not metric.endswith("accuracy"):
            raise _unscored(text, f"does not say within what {metric} stays")
        return STAYS_WITHIN
    try:
        margin = float(given)
    except ValueError:
        margin = 0.0
    if not 0 < margin < float("inf"):
        raise _unscored(text, f"{given!r} is no margin above 0")
    return margin


def _best(text: str, name: str, end: str, arms: Arms, metric: str) -> tuple[Expected, ...]:
    arm = _arm(text, name, arms)
    if end == "best" and metric not in BETTER:
        raise _unscored(text, f"whether a higher {metric} is better is not known: say highest or lowest")
    direction: Direction = BETTER[metric] if end == "best" else "up" if end == "highest" else "down"
    return tuple(_higher(arm, other, metric, direction) for other in arms if other != arm)


def _higher(first: str, second: str, metric: str, direction: Direction) -> Expected:
    word = "higher" if direction == "up" else "lower"
    measure = ArmDifference(metric, first, second, f"{metric} of {first} less that of {second}")
    return Expected(f"{metric} is {word} with {first} than with {second}", measure, direction)


def _knob(text: str, name: str, arms: Arms) -> str:
    """A knob by its whole name, or by its last part where only one knob ends so."""
    knobs = list(next(iter(arms.values())))
    found = [knob for knob in knobs if name in (knob, knob.rpartition(".")[2])]
    if len(found) != 1:
        raise _unscored(text, f"{name!r} is no knob of the sweep, which turns {', '.join(knobs)}")
    return found[0]


def _arm(text: str, name: str, arms: Arms) -> str:
    """An arm by its name, or by its value (a number by its size) where only one arm has it."""
    name = name.strip()
    if name in arms:
        return name
    found = [arm for arm in arms if arm != RECIPE and _is_value(name, arm)]
    if len(found) != 1:
        raise _unscored(text, f"{name!r} is not one of the arms {', '.join(arms)}")
    return found[0]


def _is_value(text: str, arm: str) -> bool:
    knob, _, value = arm.partition("=")
    given, _, wanted = text.rpartition("=")
    if given and given not in (knob, knob.rpartition(".")[2]):
        return False
    try:
        return float(value) == float(wanted)
    except ValueError:
        return value == wanted


def _unscored(text: str, problem: str) -> UsageError:
    return UsageError(f"--predict {text!r}", problem, GRAMMAR)
