"""A behavioural suite from a YAML file: the core suite, or one of your own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, cast, get_args

import yaml

from trimpot.core.errors import UsageError, nearest
from trimpot.evaluation.behaviour.build import Changes, Drawing, Wording, Written, build_test
from trimpot.evaluation.behaviour.expectations import Equal, Expectation, Invariant
from trimpot.evaluation.behaviour.expressions import Filler, parsed
from trimpot.evaluation.behaviour.parsers import ANSWERS, LETTERS, AnswerKind
from trimpot.evaluation.behaviour.perturbations import PERTURBATIONS
from trimpot.evaluation.behaviour.read_expectation import read_expectation, word
from trimpot.evaluation.behaviour.suite import CAPABILITIES, TYPES, Asking, BehaviourSuite, By
from trimpot.evaluation.behaviour.templates import Lexicons

CORE = "core"
_DATA = Path(__file__).parent / "data"
_SUITE_KEYS = ("name", "about", "capabilities", "lexicons", "chat", "cases", "tests")
_TEST_KEYS = (
    "name", "capability", "type", "about", "template", "examples", "label", "answer", "options", "instruction", "by",
    "max_tokens", "expect", "perturb", "vary", "orders", "let", "where", "cases",
)  # fmt: skip
_CASES = 16


@dataclass(frozen=True)
class Reading:
    """How a suite is asked, beside what its file says.

    Args:
        seed: of all draws.
        cases: at most so many of each test; None: as the file says.
        likelihood: tests whose answers are a set of options are asked by likelihood, whatever the file says.
        plain: prompts are plain text, whatever the file says: for a model without a chat template.
    """

    seed: int = 0
    cases: int | None = None
    likelihood: bool = False
    plain: bool = False


def read_suite(source: str | Path, reading: Reading = Reading()) -> BehaviourSuite:
    """The suite of a YAML file, or the core suite by its name, with all cases drawn.

    Raises:
        UsageError: one line that names file and test: no such file, malformed YAML, an unknown key (the nearest is
            named), a missing or wrong value, a bad template.
    """
    path = _DATA / "core.yaml" if str(source) == CORE else Path(source)
    if not path.is_file():
        raise UsageError(str(source), "there is no such suite", f"Give a YAML file, or {CORE}.")
    if reading.cases is not None and reading.cases < 1:
        raise UsageError("--cases", f"is {reading.cases}", "Give at least 1.")
    where = CORE if str(source) == CORE else str(source)
    tree = _yaml(path, where)
    _known_keys(tree, _SUITE_KEYS, where)
    capabilities = (*CAPABILITIES, *map(word, _list(tree, "capabilities", where)))
    lexicons = {**own_lexicons(), **_lexicons(tree.get("lexicons") or {}, where, own_lexicons())}
    given = _list(tree, "tests", where)
    if not given:
        raise UsageError(f"{where}: tests", "is missing or empty", "List at least one test.")
    written = [_test(one, place, tree, where, capabilities) for place, one in enumerate(given, start=1)]
    names = [one.name for one in written]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{where}: test {name!r}", "is there twice", "Give every test a name of its own.")
    tests = (build_test(_asked(one, reading), lexicons, reading.seed, reading.cases) for one in written)
    return BehaviourSuite(word(tree.get("name", path.stem)), tuple(tests))


@cache
def own_lexicons() -> Lexicons:
    """The lexicons that every suite has: names, places, adjectives, professions, animals, numbers and more."""
    path = _DATA / "lexicons.yaml"
    return _lexicons(_yaml(path, path.name), path.name, {})


def _asked(written: Written, reading: Reading) -> Written:
    asking = written.asking
    if reading.likelihood and asking.answer != "number":
        asking = replace(asking, by="likelihood")
    return replace(written, asking=replace(asking, chat=asking.chat and not reading.plain))


def _yaml(path: Path, where: str) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        _refuse_repeated_keys(yaml.compose(text, Loader=yaml.SafeLoader), where)
        tree = yaml.safe_load(text)
    except UnicodeDecodeError as error:
        raise UsageError(where, "is not UTF-8 text", "Save it as UTF-8.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        place = f"{where}:{mark.line + 1}" if mark else where
        raise UsageError(place, f"is not valid YAML ({problem})", "Mend that line; quote templates.") from error
    if not isinstance(tree, dict):
        raise UsageError(where, "is not a mapping of keys", f"Start with one of: {', '.join(_SUITE_KEYS)}.")
    return tree


def _refuse_repeated_keys(node: yaml.Node | None, where: str) -> None:
    """YAML itself drops the first of two silently."""
    if isinstance(node, yaml.MappingNode):
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for place, key in enumerate(keys):
            if key.value in [one.value for one in keys[:place]]:
                line = f"{where}:{key.start_mark.line + 1}"
                raise UsageError(line, f"the key {key.value!r} is there twice", "Keep one of the two.")
    children = node.value if isinstance(node, yaml.CollectionNode) else ()
    for child in children:
        for part in child if isinstance(child, tuple) else (child,):
            _refuse_repeated_keys(part, where)


def _known_keys(given: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in given:
        if key not in known:
            raise UsageError(where, f"{key!r} is no key of it", nearest(str(key), known))


def _list(given: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = given.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise UsageError(f"{where}: {key}", f"{value!r} is not a list", "Write [one, two].")
    return value


def _mapping(given: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    value = given.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{where}: {key}", f"{value!r} is not a mapping", "Write {name: value}.")
    return value


def _count(given: Mapping[str, Any], key: str, default: int, where: str, least: int = 1) -> int:
    value = given.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{where}: {key}", f"{value!r} is no whole number of {least} or more", "Mend it.")
    return value


def _lexicons(given: Any, where: str, known: Lexicons) -> dict[str, list[Filler]]:
    """The lexicons of a file. A value is a list, ``{join: [names]}`` or ``{range: [first, last]}``."""
    if not isinstance(given, Mapping):
        raise UsageError(f"{where}: lexicons", f"{given!r} is not a mapping", "Write {name: [words]}.")
    found: dict[str, list[Filler]] = {}
    for name, value in given.items():
        place = f"{where}: lexicon {name!r}"
        if not re.fullmatch("[a-z_]+", str(name)):
            raise UsageError(place, "is not named in small letters and _", "Rename it: digits number its placeholders.")
        if isinstance(value, Mapping) and set(value) == {"join"} and isinstance(value["join"], list):
            missing = [one for one in value["join"] if one not in found and one not in known]
            if missing:
                raise UsageError(
                    place, f"joins {missing[0]!r}, which is no lexicon", nearest(str(missing[0]), [*found, *known])
                )
            value = [filler for one in value["join"] for filler in (found.get(one) or known[one])]
        elif isinstance(value, Mapping) and set(value) == {"range"}:
            value = _range(value["range"], place)
        if not isinstance(value, list) or not value:
            raise UsageError(place, "is no list of fillers", "Write [words], {join: [lexicons]} or {range: [1, 9]}.")
        found[str(name)] = [_filler(one, place) for one in value]
    return found


def _range(given: Any, where: str) -> list[int]:
    if not isinstance(given, list) or len(given) != 2 or not all(isinstance(one, int) for one in given):
        raise UsageError(where, f"{given!r} is no range", "Write {range: [first, last]}.")
    return list(range(given[0], given[1] + 1))


def _filler(value: Any, where: str) -> Filler:
    if isinstance(value, Mapping):
        return {word(key): word(one) for key, one in value.items()}
    if value is None or isinstance(value, list):
        raise UsageError(where, f"{value!r} is no filler", "Give a word, or a mapping of fields to words.")
    return word(value)


def _test(given: Any, place: int, suite: Mapping[str, Any], where: str, capabilities: Sequence[str]) -> Written:
    if not isinstance(given, dict):
        raise UsageError(f"{where}: test {place}", f"{given!r} is not a mapping", f"Keys: {', '.join(_TEST_KEYS)}.")
    name = word(given.get("name") or "")
    here = f"{where}: test {name!r}" if name else f"{where}: test {place}"
    _known_keys(given, _TEST_KEYS, here)
    if not name:
        raise UsageError(here, "has no name", "Give one.")
    capability, kind = _one_of(given, "capability", capabilities, here), _one_of(given, "type", tuple(TYPES), here)
    asking, options = _asking(given, suite, here)
    expect = _expect(given, kind, asking, options, here)
    wordings = _wordings(given, here)
    drawing = Drawing(
        _count(given, "cases", _count(suite, "cases", _CASES, where), here),
        {word(key): _expression(value, here) for key, value in _mapping(given, "let", here).items()},
        tuple(_expression(value, here) for value in _list(given, "where", here)),
    )
    changes = _changes(given, asking, options, here)
    about = word(given.get("about") or "")
    return Written(here, name, capability, cast(Any, kind), about, wordings, asking, options, expect, drawing, changes)


def _one_of(given: Mapping[str, Any], key: str, known: Sequence[str], where: str) -> str:
    value = given.get(key)
    if value not in known:
        raise UsageError(where, f"{key} {value!r} is unknown" if value else f"has no {key}", nearest(str(value), known))
    return str(value)


def _expression(value: Any, where: str) -> str:
    try:
        parsed(word(value))
    except ValueError as error:
        raise UsageError(where, str(error), "Mend it.") from error
    return word(value)


def _wordings(given: Mapping[str, Any], where: str) -> tuple[tuple[Wording, ...], ...]:
    """``template``: one text or alternatives, a case each; ``examples``: texts that make one case together."""
    label = given.get("label")
    if ("template" in given) == ("examples" in given):
        raise UsageError(where, "needs either `template` or `examples`", "Give one of the two.")
    if "template" in given:
        many = given["template"] if isinstance(given["template"], list) else [given["template"]]
        return tuple((_wording(one, label, where),) for one in many)
    if not _list(given, "examples", where):
        raise UsageError(where, "has no examples", "List the texts that make one case.")
    return (tuple(_wording(one, label, where) for one in given["examples"]),)


def _wording(given: Any, label: Any, where: str) -> Wording:
    if isinstance(given, Mapping):
        _known_keys(given, ("text", "label"), where)
        given, label = given.get("text"), given.get("label", label)
    if not isinstance(given, str) or not given.strip():
        raise UsageError(where, f"{given!r} is no template", "Give a text, or {text: …, label: …}; quote it.")
    return Wording(given, None if label is None else word(label))


def _asking(given: Mapping[str, Any], suite: Mapping[str, Any], where: str) -> tuple[Asking, tuple[str, ...]]:
    kind = cast(AnswerKind, _one_of(given, "answer", tuple(ANSWERS), where))
    by = given.get("by", "generate")
    if by not in get_args(By):
        raise UsageError(where, f"by {by!r} is unknown", nearest(str(by), get_args(By)))
    if by == "likelihood" and kind == "number":
        raise UsageError(where, "numbers have no options whose likelihood could be asked", "Take `by` away.")
    options = tuple(word(one) for one in _list(given, "options", where))
    if kind in ("label", "choice") and not 2 <= len(options) <= len(LETTERS):
        raise UsageError(where, f"has {len(options)} options", f"Give between 2 and {len(LETTERS)} in `options`.")
    if kind in ("yes_no", "number") and options:
        raise UsageError(where, f"an answer of kind {kind} has no options", "Take `options` away.")
    chat = suite.get("chat", True)
    if not isinstance(chat, bool):
        raise UsageError(where.partition(": ")[0], f"chat is {chat!r}", "Write true or false.")
    most = _count(given, "max_tokens", 16, where)
    return Asking(kind, by, word(given.get("instruction") or ""), most, chat), options


def _expect(given: Mapping[str, Any], kind: str, asking: Asking, options: tuple[str, ...], where: str) -> Expectation:
    value = given.get("expect")
    if value is None and kind == "DIR":
        raise UsageError(where, "a DIR test has no expectation", "Give `expect`, such as {negated: invariant}.")
    if value is None:
        return Equal() if kind == "MFT" else Invariant()
    expect = read_expectation(value, where)
    if expect.needs_logprobs and asking.by != "likelihood":
        raise UsageError(where, "its expectation reads log-probabilities", "Add `by: likelihood`.")
    return expect


def _changes(given: Mapping[str, Any], asking: Asking, options: tuple[str, ...], where: str) -> Changes:
    perturb = [word(one) for one in _list(given, "perturb", where)]
    for name in perturb:
        if name not in PERTURBATIONS:
            raise UsageError(where, f"{name!r} is no perturbation", nearest(name, PERTURBATIONS))
    vary = _mapping(given, "vary", where)
    orders = _count(given, "orders", 0, where, least=0)
    if orders and asking.answer != "choice":
        raise UsageError(where, "`orders` needs choices", "Write answer: choice, or take it away.")
    if orders > max(len(options) - 1, 0):
        raise UsageError(where, f"{len(options)} choices have {len(options) - 1} further orders", "Ask for fewer.")
    return Changes(tuple(perturb), {word(key): _count(vary, key, 1, where) for key in vary}, orders)
