"""From a test as it is written to its cases: fillers drawn, texts filled, perturbed, varied and reordered."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from trimpot.core.errors import UsageError, nearest
from trimpot.core.seeds import stream
from trimpot.evaluation.behaviour.expectations import LABEL, Expectation
from trimpot.evaluation.behaviour.expressions import Filler, as_text, evaluate, names_in
from trimpot.evaluation.behaviour.parsers import parse
from trimpot.evaluation.behaviour.perturbations import PERTURBATIONS
from trimpot.evaluation.behaviour.read_expectation import answers_named
from trimpot.evaluation.behaviour.suite import Asking, BehaviourTest, Case, Example, TestType
from trimpot.evaluation.behaviour.templates import Lexicons, Placeholder, draw_fillers, fill, pieces_of

YES_NO = ("yes", "no")
Accept = Callable[[Mapping[str, Filler]], bool]
"""Whether a combination of fillers meets a test's conditions."""

_MARKED = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)


@dataclass(frozen=True)
class Wording:
    """A template of an example's text, and that of its label. ``[[…]]`` is what perturbations may change; without it
    they may change all of the text.
    """

    text: str
    label: str | None = None


@dataclass(frozen=True)
class Drawing:
    """How cases are drawn. ``let``: name -> expression; ``where``: expressions that must hold."""

    cases: int
    let: Mapping[str, str]
    where: tuple[str, ...]


@dataclass(frozen=True)
class Changes:
    """Further examples made of a case's first.

    Args:
        perturb: names of perturbations; each gives one example where it applies.
        vary: placeholder -> how many examples with another of its fillers.
        orders: how many examples with the choices rotated on.
    """

    perturb: tuple[str, ...] = ()
    vary: Mapping[str, int] = field(default_factory=dict)
    orders: int = 0


@dataclass(frozen=True)
class Written:
    """A test as it is written.

    ``wordings``: alternatives, each the examples of one case. ``where``: file and test, for error lines.
    """

    where: str
    name: str
    capability: str
    type: TestType
    about: str
    wordings: tuple[tuple[Wording, ...], ...]
    asking: Asking
    options: tuple[str, ...]
    expect: Expectation
    drawing: Drawing
    changes: Changes


def build_test(written: Written, lexicons: Lexicons, seed: int, most: int | None = None) -> BehaviourTest:
    """The test with its cases: as many as are written, or ``most``, fewer where the fillers give no more.

    Fewer cases are the first of more; cases of alternative templates take turns. The stream of a test is its name's, so
    that other tests do not change it.

    Raises:
        UsageError: one line that names file and test: a bad template, an unknown placeholder, a label that is none of
            the options, fillers of which none meet the conditions, a change that applies nowhere.
    """
    count = written.drawing.cases if most is None else min(most, written.drawing.cases)
    try:
        streams = [_cases(written, number, lexicons, seed) for number in range(len(written.wordings))]
        cases = _in_turns(streams, count)
    except ValueError as error:
        raise UsageError(written.where, str(error), "Mend the test.") from error
    if not cases:
        raise UsageError(written.where, "no combination of fillers meets its conditions", "Loosen `where`.")
    _refuse_idle_changes(written, cases)
    _refuse_unknown_answers(written, cases[0].examples[0])
    return BehaviourTest(
        written.name, written.capability, written.type, written.about, written.asking, written.expect, tuple(cases)
    )


def _in_turns(streams: Sequence[Iterator[Case]], count: int) -> list[Case]:
    found: list[Case] = []
    open_streams = list(streams)
    while open_streams and len(found) < count:
        for one in list(open_streams):
            case = next(one, None)
            if case is None:
                open_streams.remove(one)
            elif len(found) < count:
                found.append(case)
    return found


def _refuse_idle_changes(written: Written, cases: Sequence[Case]) -> None:
    made = {example.change for case in cases for example in case.examples}
    for name in written.changes.perturb:
        if name not in made:
            raise UsageError(
                written.where,
                f"the perturbation {name} applies to none of its cases",
                "Change the template, or leave it out.",
            )
    if written.type != "MFT" and all(len(case.examples) == 1 for case in cases):
        problem = f"its cases have one example each, and {written.type} compares several"
        raise UsageError(written.where, problem, "Give `examples`, `perturb`, `vary` or `orders`.")


def _refuse_unknown_answers(written: Written, example: Example) -> None:
    for name in answers_named(written.expect):
        if name == LABEL and any(one.label is None for many in written.wordings for one in many):
            raise UsageError(written.where, "its expectation reads labels, and a text has none", "Give `label`.")
        if name != LABEL and example.options and name.casefold() not in map(str.casefold, example.options):
            problem = f"its expectation names the answer {name!r}, which is none of the options"
            raise UsageError(written.where, problem, nearest(name, example.options))


def _cases(written: Written, number: int, lexicons: Lexicons, seed: int) -> Iterator[Case]:
    """The cases of one of the alternative templates."""
    random = stream(seed, "behaviour", written.name, number)
    names = _placeholders(written, number, lexicons)

    def accept(fillers: Mapping[str, Filler]) -> bool:
        known = _with_let(fillers, written.drawing.let)
        return all(bool(evaluate(condition, known)) for condition in written.drawing.where)

    seen: set[tuple[str, ...]] = set()
    for fillers in draw_fillers(names, lexicons, random, accept):
        place = len(seen)
        own = stream(seed, "behaviour", written.name, number, place)
        examples = [_example(written, wording, fillers, place) for wording in written.wordings[number]]
        asked = tuple(part for one in examples for part in (one.text, *sorted(one.options)))
        # Fillers that only a condition or another of the alternatives reads would give the same case again.
        if asked in seen:
            continue
        seen.add(asked)
        examples = [replace(one, change=f"example {at}") if at > 1 else one for at, one in enumerate(examples, start=1)]
        examples += _perturbed(written.changes, examples[0], lexicons, own)
        examples += _varied(written, (number, place, fillers), lexicons, accept, own)
        examples += [_reordered(examples[0], turn + 1) for turn in range(written.changes.orders)]
        yield Case(number, tuple(replace(one, text=_MARKED.sub(r"\1", one.text)) for one in examples))


def _placeholders(written: Written, number: int, lexicons: Lexicons) -> list[str]:
    """The placeholders of all that a case needs, in order of appearance; each names a lexicon."""
    wordings, drawing = written.wordings[number], written.drawing
    templates = [text for one in wordings for text in (one.text, one.label or "")] + list(written.options)
    names = [piece.name for text in templates for piece in pieces_of(text) if isinstance(piece, Placeholder)]
    names += [name for text in (*drawing.let.values(), *drawing.where) for name in names_in(text)]
    names += list(written.changes.vary)
    found = [name for name in dict.fromkeys(names) if name not in drawing.let]
    for name in found:
        if name.rstrip("0123456789") not in lexicons:
            known = nearest(name.rstrip("0123456789"), [*lexicons, *drawing.let])
            raise UsageError(written.where, f"{name!r} is no lexicon and not in `let`", known)
    return found


def _with_let(fillers: Mapping[str, Filler], let: Mapping[str, str]) -> dict[str, Filler]:
    known = dict(fillers)
    for name, expression in let.items():
        known[name] = as_text(evaluate(expression, known))
    return known


def _example(written: Written, wording: Wording, fillers: Mapping[str, Filler], place: int) -> Example:
    """The example; of choices the right one stands at A, B, … in turn, so that no letter is right more often."""
    known = _with_let(fillers, written.drawing.let)
    options = tuple(fill(option, known) for option in written.options)
    if written.asking.answer == "yes_no":
        options = YES_NO
    if len({option.casefold() for option in options}) < len(options):
        raise ValueError(f"its options are not all different: {', '.join(options)}")
    label = None if wording.label is None else fill(wording.label, known)
    if label is not None and written.asking.answer == "number" and parse(label, "number") != label:
        raise ValueError(f"the label {label!r} is no number such as 12 or 2.5")
    if label is not None and options and label not in options:
        raise ValueError(f"the label {label!r} is none of the options {', '.join(options)}")
    if written.asking.answer == "choice":
        at = 0 if label is None else options.index(label)
        options = _rotated(options, at - place)
    return Example(fill(wording.text, known), label, options)


def _rotated(options: tuple[str, ...], by: int) -> tuple[str, ...]:
    """The options moved ``by`` places forward: the one at place ``by`` is first."""
    by %= len(options)
    return options[by:] + options[:by]


def _reordered(first: Example, turn: int) -> Example:
    return replace(first, options=_rotated(first.options, -turn), change=f"choices moved by {turn}")


def _perturbed(changes: Changes, first: Example, lexicons: Lexicons, random: Random) -> list[Example]:
    words = {
        name: [filler for filler in lexicons.get(name, ()) if isinstance(filler, str)]
        for name in ("female_name", "male_name", "city", "country")
    }
    found = []
    for name in changes.perturb:
        perturbation = PERTURBATIONS[name]
        spans = list(_MARKED.finditer(first.text))
        start, end = (spans[0].start(1), spans[0].end(1)) if spans else (0, len(first.text))
        changed = perturbation.change(first.text[start:end], random, words)
        if changed is None:
            continue
        label = first.label if perturbation.answer == "kept" else _other(first)
        text = first.text[:start] + changed + first.text[end:]
        found.append(Example(text, label, first.options, name))
    return found


def _other(example: Example) -> str | None:
    """The other of two options; None where there are more, or no label."""
    others = [option for option in example.options if option != example.label]
    return others[0] if example.label is not None and len(others) == 1 else None


def _varied(
    written: Written, drawn: tuple[int, int, Mapping[str, Filler]], lexicons: Lexicons, accept: Accept, random: Random
) -> list[Example]:
    """The first example with other fillers. ``drawn``: the template's number, the case's place, and its fillers."""
    number, place, fillers = drawn
    found = []
    for name, count in written.changes.vary.items():
        lexicon = name.rstrip("0123456789")
        used = [filler for other, filler in fillers.items() if other.rstrip("0123456789") == lexicon]
        others = [{**fillers, name: filler} for filler in lexicons[lexicon] if filler not in used]
        fitting = [one for one in others if accept(one)]
        if len(fitting) < count:
            raise ValueError(f"`vary` asks for {count} other fillers of {name}, and {len(fitting)} fit")
        for chosen in random.sample(fitting, count):
            example = _example(written, written.wordings[number][0], chosen, place)
            found.append(replace(example, change=f"other {name}"))
    return found
