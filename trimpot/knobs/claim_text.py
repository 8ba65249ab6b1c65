"""Claims with their statuses, and disagreements with both sides, as lines of text and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from trimpot.knobs.library import Library
from trimpot.knobs.schema import Disagreement, Side
from trimpot.knobs.status import UNTESTABLE, UNTESTED, Status, claim_statuses
from trimpot.knobs.text import Line, by_study, estimate_text

CITED = "cited"
"""What stands where a side is a statement that is no claim, so that it has no status."""


def claim_line(statuses: Sequence[Status]) -> Line:
    """One claim as a line: its status (by all evidence there is, the user's own first), words, source and id."""
    first = statuses[0]
    same, elsewhere = by_study(statuses)
    whose = [f"shipped: {other.word}" for other in same[1:]]
    head = f"{first.word} ({'; '.join(['yours', *whose])}):" if first.whose == "yours" else f"{first.word}:"
    claim = first.claim
    models = {one.evidence.conditions.model: one.word for one in reversed(elsewhere) if one.evidence is not None}
    further = "".join(f"; on {model}: {word}" for model, word in models.items())
    return head, f"{claim.statement} ({claim.source}) [{claim.id}]{_seen(first)}{further}"


def claim_lines(statuses: Sequence[Status], library: Library) -> list[Line]:
    """One claim in full: where it is said, under which condition, of which metric, and each evidence for or against."""
    claim = statuses[0].claim
    number = "" if claim.number is None else f", {claim.number:g} in the source"
    lines: list[Line] = [
        (f"{claim.id}:", claim.statement),
        ("", f"source: {claim.source}, {claim.place}"),
        ("", f"condition: {claim.condition}"),
        ("", f"metric: {claim.metric}, {claim.direction}{number}"),
    ]
    if claim.knob is not None:
        lines.append(("", f"knob: {claim.knob}"))
    for status in statuses:
        lines += _evidence_lines(status)
    for one in disagreements_of(claim.id, library):
        lines.append(("", f"disagreement: {one.question} [{one.id}]"))
    return lines


def claim_json(statuses: Sequence[Status], library: Library) -> dict[str, Any]:
    """One claim with its status, the smallest effect its test could see, and each evidence in full."""
    first = statuses[0]
    return {
        **first.claim.model_dump(),
        "status": first.word,
        "smallest_effect": None if first.tested is None else first.tested.smallest_effect,
        "evidence": [
            {
                "whose": one.whose,
                "verdict": one.word,
                "tested": dataclasses.asdict(one.tested),
                "seeds": len(one.evidence.seeds),
                "conditions": dataclasses.asdict(one.evidence.conditions),
            }
            for one in statuses
            if one.tested is not None and one.evidence is not None
        ],
        "disagreements": [one.id for one in disagreements_of(first.claim.id, library)],
        "yours": library.is_yours("claim", first.claim.id),
    }


def disagreements_of(claim: str, library: Library) -> list[Disagreement]:
    """The disagreements that have the claim on a side."""
    return [one for one in library.disagreements.values() if any(side.claim == claim for side in one.sides)]


def disagreement_lines(one: Disagreement, library: Library) -> list[Line]:
    """The question, both sides (each with the status of its claim), and what decides."""
    lines: list[Line] = [(f"{one.id}:", one.question)]
    for side in one.sides:
        if side.claim is not None:
            lines.append(claim_line(claim_statuses([side.claim], library)))
        else:
            lines.append((f"{CITED}:", f"{side.statement} ({side.source}, {side.place})"))
    study = "no study yet" if one.study is None else f"study {one.study}"
    return [*lines, ("decides:", f"{study}: {one.decides}")]


def disagreement_json(one: Disagreement, library: Library) -> dict[str, Any]:
    """The disagreement, every side with words, source, place and status."""
    return {**one.model_dump(), "sides": [_side_json(side, library) for side in one.sides]}


def _side_json(side: Side, library: Library) -> dict[str, Any]:
    if side.claim is None:
        return {**side.model_dump(), "status": CITED}
    claim = library.claims[side.claim]
    words = {"statement": claim.statement, "source": claim.source, "place": claim.place}
    return {"claim": claim.id, **words, "status": claim_statuses([claim.id], library)[0].word}


def _seen(status: Status) -> str:
    """What an inconclusive test could have seen."""
    if status.word != "inconclusive" or status.tested is None:
        return ""
    smallest = status.tested.smallest_effect
    return "; too few seeds, or no spread between them" if smallest is None else f"; could see {smallest:.2g}"


def _evidence_lines(status: Status) -> list[Line]:
    claim, tested, evidence = status.claim, status.tested, status.evidence
    if status.word == UNTESTABLE:
        return [(f"{UNTESTABLE}:", claim.untestable or "")]
    if tested is None or evidence is None:
        missing = "no study yet" if claim.study is None else f"study {claim.study} has no evidence for these words"
        return [(f"{UNTESTED}:", missing)]
    p = "" if tested.p_value is None else f", Holm p {tested.p_value:.2g}"
    text = f"{tested.quantity}: {estimate_text(tested.effect)}{p}{_seen(status)}"
    under = evidence.conditions
    return [
        (f"{status.word} ({status.whose}):", text),
        ("", f"study: {evidence.study}, {under.budget}, {len(evidence.seeds)} seeds, on {under.model}: {under.scale}"),
    ]
