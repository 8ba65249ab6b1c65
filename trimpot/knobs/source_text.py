"""Sources with what cites them: knobs, claims, studies and their verdicts, as lines of text and as JSON."""

from __future__ import annotations

from typing import Any

from trimpot.knobs.claim_text import claim_json, claim_line
from trimpot.knobs.library import Library
from trimpot.knobs.schema import TOPICS, Card, Source
from trimpot.knobs.status import UNTESTED, claim_statuses
from trimpot.knobs.text import Line, by_claim


def source_list(library: Library) -> list[Line]:
    """The sources of the reading list by topic with their flags, then those that cards and claims cite beside it."""
    lines: list[Line] = []
    for topic, title in TOPICS.items():
        lines.append((f"{topic} {title}", ""))
        lines += [
            _entry(source)
            for source in library.sources.values()
            if source.reading_list is not None and source.reading_list.topic == topic
        ]
    lines.append(("Not of the list, but cited", ""))
    others = [source for source in library.sources.values() if source.reading_list is None]
    lines += [_entry(source) for source in others if not library.is_yours("source", source.key)]
    own = [_entry(source) for source in others if library.is_yours("source", source.key)]
    return lines + ([("Yours", ""), *own] if own else [])


def source_lines(source: Source, library: Library) -> list[Line]:
    """What the source really is and how that is known, then its knobs, claims, and studies with their verdicts."""
    lines: list[Line] = [(f"{source.key}:", f"{source.title} ({_place(source)})"), ("", f"address: {source.address}")]
    flag = "" if source.flag == "none" else f"{source.flag}: "
    lines.append(("", f"{flag}{source.really}"))
    if source.meant is not None:
        right = "address unknown" if source.right_address is None else source.right_address
        lines.append(("", f"meant: {source.meant}; {right}"))
    lines.append(("", f"verified: {source.verified}, {source.how}"))
    knobs = knobs_of(source.key, library)
    lines.append(("knobs:", ", ".join(knobs) if knobs else "none"))
    if source.no_claims is not None:
        lines.append(("no claims:", source.no_claims))
    grouped = by_claim(claim_statuses(_claims_of(source.key, library), library))
    lines += [claim_line(one) for one in grouped]
    for study, verdicts in _verdicts(source.key, library).items():
        lines.append(("study:", f"{study} ({', '.join(f'{claim} {word}' for claim, word in verdicts.items())})"))
    return lines


def source_json(source: Source, library: Library) -> dict[str, Any]:
    """Everything of the source, with its claims in full."""
    listed = source.reading_list
    return {
        **source.model_dump(),
        "of_the_list": listed is not None,
        "yours": library.is_yours("source", source.key),
        "tier": None if listed is None else listed.tier,
        "knobs": knobs_of(source.key, library),
        "claims": [
            claim_json(one, library) for one in by_claim(claim_statuses(_claims_of(source.key, library), library))
        ],
        "studies": _verdicts(source.key, library),
    }


def sources_json(library: Library) -> dict[str, Any]:
    """The sources of the reading list, how many of them are flagged, and those that are cited beside it."""
    listed = [source for source in library.sources.values() if source.reading_list is not None]
    others = [source for source in library.sources.values() if source.reading_list is None]
    return {
        "topics": dict(TOPICS),
        "reading_list": [source_json(source, library) for source in listed],
        "flagged": sum(source.flag != "none" for source in listed),
        "others": [source_json(source, library) for source in others],
    }


def knobs_of(key: str, library: Library) -> list[str]:
    """The cards that cite the source, and those whose knob one of its claims concerns."""
    citing = {card.path for card in library.cards.values() if key in _cited(card)}
    citing |= {claim.knob for claim in library.claims.values() if claim.source == key and claim.knob is not None}
    return sorted(citing)


def _cited(card: Card) -> set[str | None]:
    keys = {card.core_source, card.practitioner_source, *(knob.default.source for _, knob in card.knobs())}
    return keys | {statement.source for _, statement in card.statements()}


def _claims_of(key: str, library: Library) -> list[str]:
    return [claim.id for claim in library.claims.values() if claim.source == key]


def _verdicts(key: str, library: Library) -> dict[str, dict[str, str]]:
    """Study -> claim of the source -> its status by that study."""
    found: dict[str, dict[str, str]] = {}
    for statuses in by_claim(claim_statuses(_claims_of(key, library), library)):
        claim = statuses[0].claim
        words = {one.evidence.study: one.word for one in reversed(statuses) if one.evidence is not None}
        for study in claim.studies:
            found.setdefault(study, {})[claim.id] = words.get(study, UNTESTED)
    return found


def _place(source: Source) -> str:
    listed = source.reading_list
    return "not of the list" if listed is None else f"topic {listed.topic}, {listed.part}, tier {listed.tier}"


def _entry(source: Source) -> Line:
    if source.flag == "none":
        return f"  {source.key}", f"{source.title}: {source.really}"
    right = f"; instead {source.right_address}" if source.right_address is not None else ""
    return f"  {source.key}", f"{source.title} [{source.flag}]: {source.really}{right}"
