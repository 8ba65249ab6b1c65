"""The page docs/knobs.md, made from cards, claims, disagreements and the shipped evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from trimpot.knobs.claim_text import CITED
from trimpot.knobs.evidence import SHIPPED
from trimpot.knobs.keys import as_written
from trimpot.knobs.library import Library
from trimpot.knobs.markdown import (
    anchor,
    claim_text,
    missing_text,
    sections,
    shipped_statuses,
    source_link,
    statement_text,
    table,
    tested_text,
)
from trimpot.knobs.schema import TOPICS, Card, Disagreement, Side
from trimpot.knobs.status import WORDS, Status
from trimpot.knobs.text import value_text
from trimpot.knobs.topic_text import topic_of_card

SIGNS = {"+": "up", "-": "down", "±": "either way"}
INTRODUCTION = """# Knobs

Made by `python tools/knobs_page.py` from `trimpot/knobs/data`; do not edit it.

A card answers three questions: what knob is it, when does it fail, which metric does it move. A default names whose it
is; a number names its source or claim; a failure names the [detector](detectors.md) that sees it, or "undetected". The
status of a claim is computed from [evidence](evidence.md), never written: `trimpot card KNOB` shows the same with your
own studies.
"""


def knobs_page(library: Library, shipped: Path = SHIPPED) -> str:
    """The page as markdown; ``shipped`` holds the evidence that counts, the user's own does not."""
    by_topic: dict[int, list[Card]] = {number: [] for number in TOPICS}
    for card in library.cards.values():
        topic = topic_of_card(card, library)
        if topic is not None:
            by_topic[topic.number].append(card)
    parts = [_topic(number, cards, library, shipped) for number, cards in by_topic.items()]
    return sections(
        INTRODUCTION, _contents(by_topic), *parts, _claims(library, shipped), _disagreements(library, shipped)
    )


def _contents(by_topic: Mapping[int, Sequence[Card]]) -> str:
    lines = []
    for number, cards in by_topic.items():
        links = ", ".join(f"[{card.path}](#{anchor(card.path)})" for card in cards)
        lines.append(f"- {TOPICS[number]}: {links or 'no card yet'}")
    return "\n".join([*lines, "- [Claims](#claims), [Disagreements](#disagreements)"])


def _topic(number: int, cards: Sequence[Card], library: Library, shipped: Path) -> str:
    if not cards:
        return ""
    groups: dict[str, list[Card]] = {}
    for card in cards:
        groups.setdefault(card.topic.rpartition(" / ")[2], []).append(card)
    parts = [f"## {number} {TOPICS[number]}"]
    for name, members in groups.items():
        parts.append(f"*{name[0].upper()}{name[1:]}*")
        parts += [_card(card, library, shipped) for card in members]
    return sections(*parts)


def _card(card: Card, library: Library, shipped: Path) -> str:
    settings = [
        (
            f"`{as_written(knob.recipe)}`",
            statement_text(knob.what, library),
            f"{value_text(knob.default.value)}, {knob.default.whose} ({source_link(knob.default.source, library)})",
            statement_text(knob.range, library),
        )
        for _, knob in card.knobs()
    ]
    failures = [
        (
            statement_text(mode.condition, library),
            mode.signal,
            _detector(mode.detector),
            statement_text(mode.mend, library),
        )
        for mode in card.fails_when
    ]
    moves = "; ".join(
        f"`{metric}` {SIGNS[move.sign]} ({statement_text(move.how, library)})" for metric, move in card.moves.items()
    )
    return sections(
        f"### {card.path}",
        statement_text(card.what, library),
        statement_text(card.equation.model_copy(update={"text": f"`{card.equation.text}`"}), library),
        table(("Setting", "What", "Default, whose", "Range"), settings),
        table(("Fails when", "Signal", "Detector", "Mend"), failures),
        f"{card.turned}, it moves {moves}.",
        _claims_of(card, library, shipped),
        _sources(card, library),
    )


def _claims_of(card: Card, library: Library, shipped: Path) -> str:
    lines = []
    for statuses in shipped_statuses(library.claims_of(card.path), library, shipped):
        first = statuses[0]
        lines.append(f"- **{first.word}**: {claim_text(first.claim, library)}. {_evidence(statuses)}.")
    return "\n".join(lines) or "No claim yet."


def _evidence(statuses: Sequence[Status]) -> str:
    """Every test of a claim; of those after the first the verdict as well, as it may be another on another model."""
    first, *others = statuses
    if first.tested is None:
        return missing_text(first.claim)
    further = [f"**{other.word}**, {tested_text(other)}" for other in others]
    return "; ".join([tested_text(first), *further])


def _sources(card: Card, library: Library) -> str:
    core, practitioner = (source_link(key, library) for key in (card.core_source, card.practitioner_source))
    differ = statement_text(card.disagreement, library)
    return f"Sources: {core} (core), {practitioner} (practitioner). Where they differ: {differ}"


def _detector(name: str) -> str:
    return name if name == "undetected" else f"[{name}](detectors.md#{anchor(name)})"


def _claims(library: Library, shipped: Path) -> str:
    grouped = shipped_statuses(library.claims, library, shipped)
    counts = Counter(statuses[0].word for statuses in grouped)
    counted = ", ".join(f"{counts[word]} {word}" for word in WORDS)
    rows = []
    for statuses in grouped:
        claim = statuses[0].claim
        number = "" if claim.number is None else f" {claim.number:g}"
        knob = "" if claim.knob is None else f"[{claim.knob}](#{anchor(claim.knob)})"
        place = f"{source_link(claim.source, library)}: {claim.place}"
        words = f"{claim.statement} `{claim.id}`"
        metric = f"{claim.metric}: {claim.direction}{number}"
        rows.append((f"**{statuses[0].word}**", words, place, claim.condition, metric, knob, _evidence(statuses)))
    heads = ("Status", "Claim", "Source, place", "Condition", "Metric", "Knob", "Evidence")
    return sections("## Claims", f"{len(grouped)} claims: {counted}.", table(heads, rows))


def _disagreements(library: Library, shipped: Path) -> str:
    rows = []
    for one in library.disagreements.values():
        sides = "<br>".join(_side(side, library, shipped) for side in one.sides)
        knob = "" if one.knob is None else f"[{one.knob}](#{anchor(one.knob)})"
        rows.append((f"{one.question} `{one.id}`", sides, knob, f"{_study(one, shipped)}: {one.decides}"))
    text = "Where sources contradict each other: both sides with the status of their claims, and what decides."
    return sections("## Disagreements", text, table(("Question", "Sides", "Knob", "Decides"), rows))


def _side(side: Side, library: Library, shipped: Path) -> str:
    if side.claim is None:
        return f"**{CITED}**: {side.statement} ({source_link(str(side.source), library)}, {side.place})"
    ((first, *_),) = shipped_statuses([side.claim], library, shipped)
    return f"**{first.word}**: {claim_text(first.claim, library)}"


def _study(one: Disagreement, shipped: Path) -> str:
    if one.study is None:
        return "no study yet"
    there = (shipped / f"{one.study}.json").exists()
    return f"[{one.study}](evidence.md#{anchor(one.study)})" if there else one.study
