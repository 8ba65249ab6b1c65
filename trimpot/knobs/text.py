"""A card as at most ten lines of text, and as one JSON object."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from trimpot.core.stats import Estimate
from trimpot.knobs.library import Library
from trimpot.knobs.schema import Card
from trimpot.knobs.status import Status

LINES, WIDTH, MODES = 10, 100, 2
"""Lines of a card, their characters, and how many failure modes have room; claims take the rest, JSON has all."""

Line = tuple[str, str]
"""What stands out, and the rest."""


def card_lines(card: Card, library: Library, statuses: Sequence[Status]) -> list[Line]:
    """The three answers with sources and evidence, at most ten lines of at most 100 characters if the card is terse."""
    default = card.default
    lines: list[Line] = [
        (f"{card.path}: what knob is it?", card.what.text),
        ("", card.equation.text),
        ("", f"{card.recipe}, by default {default.value} ({default.whose}); range {card.range.text}"),
    ]
    for number, mode in enumerate(card.fails_when[:MODES]):
        text = f"{mode.condition.text} {mode.mend.text} [{mode.detector}]"
        lines.append(("When does it fail?" if number == 0 else "", text))
    moves = ", ".join(f"{metric} {move.sign}" for metric, move in card.moves.items())
    lines.append(("Which metric does it move?", f"Raised: {moves}{_where_tested(statuses)}"))
    grouped = by_claim(statuses)
    shown = grouped[: LINES - 1 - len(lines)]
    lines += [_claim_line(one) for one in shown]
    more = len(grouped) - len(shown) + max(0, len(card.fails_when) - MODES)
    core = library.sources[card.core_source]
    text = f"{core.key} ({core.right_address or core.address}), {card.practitioner_source}. {card.disagreement.text}"
    lines.append(("Sources:", text + (f" ({more} more: --json)" if more else "")))
    return lines


def card_json(card: Card, library: Library, statuses: Sequence[Status]) -> dict[str, Any]:
    """Everything on the card, its sources in full and the status of its claims with the evidence behind it."""
    keys = {card.core_source, card.practitioner_source, card.default.source}
    keys |= {statement.source for _, statement in card.statements() if statement.source}
    keys |= {library.claims[name].source for name in card.claims}
    return {
        **card.model_dump(),
        "claims": [_status_json(one) for one in statuses],
        "sources": {key: library.sources[key].model_dump() for key in sorted(keys)},
    }


def by_claim(statuses: Sequence[Status]) -> list[list[Status]]:
    """The statuses of each claim together, in the order of the claims."""
    grouped: dict[str, list[Status]] = {}
    for one in statuses:
        grouped.setdefault(one.claim.id, []).append(one)
    return list(grouped.values())


def estimate_text(estimate: Estimate) -> str:
    """A value with its interval, to two digits."""
    if estimate.value is None:
        return "no value"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:+.2g}"
    return f"{estimate.value:+.2g} [{estimate.low:+.2g}, {estimate.high:+.2g}]"


def _where_tested(statuses: Sequence[Status]) -> str:
    found = next((one.evidence for one in statuses if one.evidence is not None), None)
    return "" if found is None else f"; on {found.conditions.model}, {len(found.seeds)} seeds:"


def _claim_line(statuses: Sequence[Status]) -> Line:
    first, others = statuses[0], statuses[1:]
    text = f"{first.claim.statement} ({first.claim.source})"
    if first.tested is None:
        return (f"{first.word}:", text)
    text += f" {estimate_text(first.tested.effect)}"
    if first.word == "inconclusive" and first.tested.effect.excludes(0.0) and first.tested.p_value is not None:
        # Alone it would count; among the study's tests it does not.
        text += f"; Holm p {first.tested.p_value:.2g}".replace("p 0.", "p .")
    elif first.word == "inconclusive" and first.tested.smallest_effect is not None:
        text += f"; sees {first.tested.smallest_effect:.2g}"
    head = f"{first.word}:"
    if first.whose == "yours":
        head = f"{first.word} ({'; '.join(['yours', *(f'shipped: {other.word}' for other in others)])}):"
    room = WIDTH - len(head) - 1
    return (head, text if len(text) <= room else text[: room - 1] + "…")


def _status_json(status: Status) -> dict[str, Any]:
    return {
        **status.claim.model_dump(),
        "status": status.word,
        "evidence": status.whose,
        "tested": None if status.tested is None else dataclasses.asdict(status.tested),
        "conditions": None if status.evidence is None else dataclasses.asdict(status.evidence.conditions),
    }
