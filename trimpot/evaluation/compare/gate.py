"""Gates: rules in YAML that a new model must pass against the one before it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from trimpot.core.errors import UsageError, nearest
from trimpot.evaluation.compare import gate_rules as rules
from trimpot.evaluation.compare.gate_rules import Found, Where, flags
from trimpot.evaluation.compare.settings import CompareSettings
from trimpot.evaluation.compare.table import PairTable

Unsure = Literal["fail", "warn"]
KEYS = ("compare", "unsure", "rules")


@dataclass(frozen=True)
class RuleResult:
    """``outcome``: pass, warn (cannot tell, and the gate lets that pass with a warning) or fail."""

    rule: str
    outcome: Literal["pass", "warn", "fail"]
    answer: rules.Answer
    reason: str

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class GateRule:
    """One rule as it is written: its name, kind, and what it is given."""

    name: str
    kind: str
    given: Mapping[str, Any]
    unsure: Unsure
    place: str


@dataclass(frozen=True)
class Gate:
    """A checked gate: settings of the comparison, and rules of which all must pass."""

    settings: CompareSettings
    rules: tuple[GateRule, ...]


def read_gate(path: str | Path) -> Gate:
    """Reads a gate file.

    Raises:
        UsageError: no such file, malformed YAML, a key or kind of rule that is unknown (the nearest is named), one that
            is missing, or a value of the wrong type: one line that names the place.
    """
    file = Path(path)
    if not file.is_file():
        raise UsageError(str(path), "no such gate", "Give a YAML file; docs/compare.md has one.")
    try:
        text = file.read_text(encoding="utf-8")
        _refuse_repeated_keys(yaml.compose(text, Loader=yaml.SafeLoader), str(path))
        tree = yaml.safe_load(text)
    except UnicodeDecodeError as error:
        raise UsageError(str(path), "is not UTF-8 text", "Give a YAML file, saved as UTF-8.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UsageError(place, f"is not valid YAML ({problem})", "Mend that line.") from error
    return build_gate(tree, str(path))


def _refuse_repeated_keys(node: yaml.Node | None, path: str) -> None:
    """YAML keeps the last of two equal keys in silence: a rule would be lost."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                place = f"{path}:{key.start_mark.line + 1}"
                raise UsageError(place, f"the key {key.value!r} is there twice", "Keep one of the two.")
            seen.add(getattr(key, "value", None) if isinstance(key, yaml.ScalarNode) else id(key))
    for child in node.value if isinstance(node, yaml.CollectionNode) else ():
        for part in child if isinstance(child, tuple) else (child,):
            _refuse_repeated_keys(part, path)


@dataclass(frozen=True)
class _Key:
    """What a rule may be given: how its value is read, and whether it must be there."""

    read: Callable[[Any, str], Any]
    default: Any = None
    required: bool = False


def build_gate(tree: Any, where: str) -> Gate:
    """Checks a gate given as parsed YAML (see ``read_gate``)."""
    given = _mapping(tree, where, KEYS)
    unsure = _unsure(given.get("unsure", "fail"), f"{where}: unsure")
    listed = given.get("rules")
    if not isinstance(listed, list) or not listed:
        raise UsageError(f"{where}: rules", "there are none", f"List at least one of: {', '.join(RULES)}.")
    settings = _settings(given.get("compare") or {}, f"{where}: compare")
    return Gate(settings, tuple(_rule(one, f"{where}: rules[{number}]", unsure) for number, one in enumerate(listed)))


def check_gate(gate: Gate, table: PairTable) -> tuple[RuleResult, ...]:
    """Every rule on the paired items. What cannot be told fails, or warns where the rule says so.

    Raises:
        UsageError: a rule names a task, slice or group that no item has, so that the gate cannot be used.
    """
    results = []
    for rule in gate.rules:
        found = RULES[rule.kind].check(table, rule.given, gate.settings.level, rule.place)
        outcome: Literal["pass", "warn", "fail"]
        if found.answer == "pass":
            outcome = "pass"
        else:
            outcome = "warn" if found.answer == "cannot tell" and rule.unsure == "warn" else "fail"
        results.append(RuleResult(rule.name, outcome, found.answer, found.reason))
    return tuple(results)


def _settings(given: Any, where: str) -> CompareSettings:
    names = {field.name: field for field in dataclasses.fields(CompareSettings)}
    values: dict[str, Any] = {}
    for key, value in _mapping(given, where, tuple(names)).items():
        default = names[key].default
        place = f"{where}.{key}"
        if key == "slices":
            values[key] = _names(value, place)
        elif isinstance(default, str):
            values[key] = _text(value, place)
        else:
            values[key] = _number(value, place)
            if isinstance(default, int):
                values[key] = _whole(value, place)
    settings = CompareSettings(**values)
    settings.check(where)
    return settings


def _rule(given: Any, place: str, unsure: Unsure) -> GateRule:
    entry = _mapping(given, place, ("name", "unsure", *RULES))
    kinds = [key for key in entry if key in RULES]
    if len(kinds) != 1:
        raise UsageError(place, f"has {len(kinds)} kinds of rule", f"Give one of: {', '.join(RULES)}.")
    kind = kinds[0]
    keys = RULES[kind].keys
    asked = _mapping(entry[kind] or {}, f"{place}.{kind}", tuple(keys))
    missing = [key for key, how in keys.items() if how.required and key not in asked]
    if missing:
        raise UsageError(f"{place}.{kind}", f"{missing[0]} is missing", f"Give {missing[0]}.")
    values = {
        key: how.read(asked[key], f"{place}.{kind}.{key}") if key in asked else how.default for key, how in keys.items()
    }
    if kind == "length_drift" and not values["least"] < values["most"]:
        raise UsageError(f"{place}.{kind}", "least is not below most", "Give least < 1 < most, as in 0.8 and 1.25.")
    name = _text(entry["name"], f"{place}.name") if "name" in entry else kind
    own = _unsure(entry["unsure"], f"{place}.unsure") if "unsure" in entry else unsure
    return GateRule(name, kind, values, own, f"{place}.{kind}")


def _mapping(value: Any, where: str, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(where, "is not a mapping of keys", f"Known: {', '.join(known)}.")
    for key in value:
        if key not in known:
            raise UsageError(f"{where}: {key}", "is not a key here", nearest(str(key), known))
    return value


def _unsure(value: Any, where: str) -> Unsure:
    if value not in ("fail", "warn"):
        raise UsageError(where, f"{value!r} is not a choice", "Give fail or warn.")
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise UsageError(where, f"{value!r} is no number of 0 or more", "Give one, as in 0.02.")
    return float(value)


def _whole(value: Any, where: str) -> int:
    if _number(value, where) != int(value):
        raise UsageError(where, f"{value!r} is no whole number", "Give one, as in 2.")
    return int(value)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise UsageError(where, f"{value!r} is no text", "Quote it.")
    return value


def _names(value: Any, where: str) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not listed:
        raise UsageError(where, "is no list of names", "Give one, as in [difficulty].")
    return tuple(_text(one, where) for one in listed)


def _where(value: Any, where: str) -> Where:
    given = _mapping(value, where, ("group", "task", "slice", "perturbation"))
    slices = given.get("slice") or {}
    if not isinstance(slices, dict):
        raise UsageError(f"{where}.slice", "is not a mapping", "Give name: value, as in difficulty: hard.")
    texts = {key: _text(given[key], f"{where}.{key}") for key in ("group", "task", "perturbation") if key in given}
    return Where(**texts, slices=tuple((str(name), str(one)) for name, one in slices.items()))


@dataclass(frozen=True)
class _Kind:
    """A kind of rule: the keys that it takes, and its check."""

    keys: Mapping[str, _Key]
    check: Callable[[PairTable, Mapping[str, Any], float, str], Found]


def _on_items(rule: Callable[..., Found], value: str) -> Callable[[PairTable, Mapping[str, Any], float, str], Found]:
    """A rule of one set of items and one number."""

    def check(table: PairTable, given: Mapping[str, Any], level: float, place: str) -> Found:
        where: Where = given["where"]
        return rule(table, flags(table, where, f"{place}.where"), where.label, given[value], level)

    return check


def _protected(table: PairTable, given: Mapping[str, Any], level: float, place: str) -> Found:
    inside = flags(table, given["where"], f"{place}.where")
    return rules.protected(table, inside, given["slices"], given["margin"], level, f"{place}.slices")


def _safety(table: PairTable, given: Mapping[str, Any], level: float, place: str) -> Found:
    sides = [
        (flags(table, given[key], f"{place}.{key}"), f"{word} ({given[key].label})")
        for key, word in (("attack_success", "attack success"), ("over_refusal", "over-refusal"))
    ]
    return rules.safe_both_ways(table, sides[0], sides[1], given["margin"], level)


def _lengths(table: PairTable, given: Mapping[str, Any], level: float, place: str) -> Found:
    where: Where = given["where"]
    inside = flags(table, where, f"{place}.where")
    return rules.lengths(table, inside, where.label, (given["least"], given["most"]), level)


_WHERE = _Key(_where, Where())
_MARGIN = _Key(_number, required=True)
RULES: dict[str, _Kind] = {
    "non_inferior": _Kind({"where": _WHERE, "margin": _MARGIN}, _on_items(rules.not_inferior, "margin")),
    "superior": _Kind({"where": _WHERE, "margin": _Key(_number, 0.0)}, _on_items(rules.superior, "margin")),
    "equivalent": _Kind({"where": _WHERE, "margin": _MARGIN}, _on_items(rules.equivalent, "margin")),
    "protected_slices": _Kind({"where": _WHERE, "slices": _Key(_names, required=True), "margin": _MARGIN}, _protected),
    "safety": _Kind(
        {
            "attack_success": _Key(_where, required=True),
            "over_refusal": _Key(_where, required=True),
            "margin": _MARGIN,
        },
        _safety,
    ),
    "calibration_drift": _Kind({"where": _WHERE, "most": _MARGIN}, _on_items(rules.calibrated, "most")),
    "length_drift": _Kind({"where": _WHERE, "least": _Key(_number, 0.0), "most": _MARGIN}, _lengths),
    "parse_failures": _Kind({"where": _WHERE, "most": _MARGIN}, _on_items(rules.readable, "most")),
}
"""Kind of rule -> its keys and its check."""
