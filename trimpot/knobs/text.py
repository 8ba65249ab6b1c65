"""A card as at most ten lines of text, and as one JSON object."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from trimpot.core.stats import Estimate
from trimpot.knobs.evidence import Evidence
from trimpot.knobs.keys import as_written
from trimpot.knobs.library import Library
from trimpot.knobs.schema import Card
from trimpot.knobs.status import Status

LINES, WIDTH, MODES = 10, 100, 2
"""Lines of a card, their characters, and how many failure modes have room; claims take the rest, JSON has all."""

Line = tuple[str, str]
"""What stands out, and the rest."""


def card_lines(
    card: Card, library: Library, statuses: Sequence[Status], rates: Mapping[str, str] | None = None
) -> list[Line]:
    """The three answers with sources and evidence, at most ten lines of at most 100 characters if the card is terse.

    ``rates``: detector -> how often it fired, with its fault and on clean runs, in a few words.
    """
    default = card.default
    taken = f"{as_written(card.recipe)}, default {value_text(default.value)} ({default.whose})"
    lines: list[Line] = [
        (f"{card.path}: what knob is it?", card.what.text),
        ("", card.equation.text),
        ("", f"{taken}; range {card.range.text}"),
    ]
    further, hidden = _fitting("Also:", _further(card), ", ")
    lines += further
    for number, mode in enumerate(card.fails_when[:MODES]):
        text = f"{mode.condition.text} {mode.mend.text} [{mode.detector}]"
        lines.append(("When does it fail?" if number == 0 else "", text))
    watching = dict.fromkeys(mode.detector for mode in card.fails_when[:MODES])
    found = [f"{name} {rates[name]}" for name in watching if name in rates] if rates else []
    measured, unseen = _fitting("Fired:", found, "; ")
    lines += measured
    moves = ", ".join(f"{metric} {move.sign}" for metric, move in card.moves.items())
    lines.append(("Which metric does it move?", f"{card.turned}: {moves}{_where_tested(statuses)}"))
    grouped = by_claim(statuses)
    shown = grouped[: LINES - 1 - len(lines)]
    lines += [_claim_line(one) for one in shown]
    more = len(grouped) - len(shown) + max(0, len(card.fails_when) - MODES) + hidden + unseen
    core = library.sources.get(card.core_source)
    # A card that the user has not finished may name a source that is not there yet.
    named = card.core_source if core is None else f"{core.key} ({core.right_address or core.address})"
    text = f"{named}, {card.practitioner_source}. {card.disagreement.text}"
    lines.append(("Sources:", text + (f" ({more} more: --json)" if more else "")))
    return lines


def card_json(
    card: Card, library: Library, statuses: Sequence[Status], rates: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Everything on the card, its sources in full and the status of its claims with the evidence behind it.

    ``rates``: detector -> what was measured of it; those of the card's detectors are given.
    """
    keys = {card.core_source, card.practitioner_source}
    keys |= {knob.default.source for _, knob in card.knobs()}
    keys |= {statement.source for _, statement in card.statements() if statement.source}
    keys |= {one.claim.source for one in statuses}
    return {
        **card.model_dump(),
        "written": {knob.recipe: as_written(knob.recipe) for _, knob in card.knobs()},
        "claims": [_status_json(one) for one in statuses],
        "rates": {mode.detector: rates[mode.detector] for mode in card.fails_when if mode.detector in rates}
        if rates
        else {},
        "sources": {key: library.sources[key].model_dump() for key in sorted(keys) if key in library.sources},
    }


def by_claim(statuses: Sequence[Status]) -> list[list[Status]]:
    """The statuses of each claim together, in the order of the claims."""
    grouped: dict[str, list[Status]] = {}
    for one in statuses:
        grouped.setdefault(one.claim.id, []).append(one)
    return list(grouped.values())


def by_study(statuses: Sequence[Status]) -> tuple[list[Status], list[Status]]:
    """The statuses of one claim by the study of the first of them, and those by other studies."""
    first = statuses[0].evidence
    if first is None:
        return list(statuses), []
    studies = [None if one.evidence is None else one.evidence.study for one in statuses]
    same = [one for one, study in zip(statuses, studies, strict=True) if study == first.study]
    return same, [one for one, study in zip(statuses, studies, strict=True) if study != first.study]


def estimate_text(estimate: Estimate) -> str:
    """A value with its interval, to two digits."""
    return estimate.text("+.2g")


def model_text(evidence: Evidence) -> str:
    """On what a study ran, in a few words."""
    return textwrap.shorten(evidence.conditions.model, 26, placeholder="…")


def value_text(value: object) -> str:
    """A default as a recipe would have it."""
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _further(card: Card) -> list[str]:
    """The further settings with their defaults; those of the card's own stage and objective by their last name."""
    own = card.recipe.rpartition(".")[0]
    names = [
        knob.recipe.rpartition(".")[2] if knob.recipe.rpartition(".")[0] == own else as_written(knob.recipe)
        for knob in card.also
    ]
    return [f"{name} {value_text(knob.default.value)}" for name, knob in zip(names, card.also, strict=True)]


def _fitting(head: str, items: Sequence[str], between: str) -> tuple[list[Line], int]:
    """One line of as many items as have room, or none; and how many had not."""
    shown = len(items)
    while shown and len(f"{head} {between.join(items[:shown])}") > WIDTH:
        shown -= 1
    return ([(head, between.join(items[:shown]))] if shown else []), len(items) - shown


def _where_tested(statuses: Sequence[Status]) -> str:
    found = next((one.evidence for one in statuses if one.evidence is not None), None)
    return "" if found is None else f"; {model_text(found)}, {len(found.seeds)} seeds:"


def _claim_line(statuses: Sequence[Status]) -> Line:
    first, others = statuses[0], by_study(statuses)[0][1:]
    head = f"{first.word}:"
    if first.whose == "yours":
        head = f"{first.word} ({'; '.join(['yours', *(f'shipped: {other.word}' for other in others)])}):"
    text, number = f"{first.claim.statement} ({first.claim.source})", _number(first)
    room = WIDTH - len(head) - 1 - len(number)
    # Words may be cut, the number stays.
    return (head, (text if len(text) <= room else text[: room - 1] + "…") + number)


def _number(status: Status) -> str:
    """The effect with its interval; for an inconclusive one why it does not count, or what could have been seen."""
    tested = status.tested
    if tested is None:
        return ""
    text = f" {estimate_text(tested.effect)}"
    if status.word == "inconclusive" and tested.effect.excludes(0.0) and tested.p_value is not None:
        # Alone it would count; among the study's tests it does not.
        return text + f"; Holm p {tested.p_value:.2g}".replace("p 0.", "p .")
    if status.word == "inconclusive" and tested.smallest_effect is not None:
        return text + f"; sees {tested.smallest_effect:.2g}"
    return text


def _status_json(status: Status) -> dict[str, Any]:
    return {
        **status.claim.model_dump(),
        "status": status.word,
        "evidence": status.whose,
        "tested": None if status.tested is None else dataclasses.asdict(status.tested),
        "conditions": None if status.evidence is None else dataclasses.asdict(status.evidence.conditions),
    }
