"""A topic of the reading list as five to ten lines, and as JSON: sources, where they differ, the three answers.

Nothing of what was measured stands in the data file: statuses, intervals and counts are looked up here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from trimpot.knobs.claim_text import CITED, claim_json, disagreement_json
from trimpot.knobs.library import Library
from trimpot.knobs.schema import TOPICS, Answer, Card, Claim, Source, Topic
from trimpot.knobs.status import UNTESTABLE, UNTESTED, WORDS, Status, claim_statuses
from trimpot.knobs.text import Line, by_claim, estimate_text, model_text

QUESTIONS = {
    "knob": "What knob does this give me?",
    "fails": "When does it fail?",
    "metric": "What metric does it affect?",
}
NOT_MEASURED = {UNTESTED: "not measured yet", UNTESTABLE: "cannot be measured here"}
"""A status without evidence, in words for a reader who has not met the others."""
VERDICTS = tuple(word for word in WORDS if word not in NOT_MEASURED)
WIDTH = 118
"""Characters of a line of evidence; what has no room is counted."""
_FLAGGED = {"dead": "is dead", "mislabelled": "is mislabelled", "moved": "has moved"}
_KNOWN = {"primary": "read", "secondary": "known secondhand", "not verified": "not verified"}


def topic_lines(topic: Topic, library: Library) -> list[Line]:
    """The topic in at most ten lines: two sources, where they disagree, three answers each with its evidence."""
    lines: list[Line] = [
        (f"{topic.number} {TOPICS[topic.number]}", f"[{topic.id}] {_inventory(topic, library)}"),
        ("core:", source_words(topic, "core", library)),
        ("practitioner:", source_words(topic, "practitioner", library)),
        ("they disagree:", _disagreement(topic, library)),
    ]
    for name, answer in topic.answers().items():
        lines += [(QUESTIONS[name], answer.text), ("", _fitting(evidence_words(answer, library)))]
    return lines


def topic_json(topic: Topic, library: Library) -> dict[str, Any]:
    """The topic with its sources, disagreements and, of every answer, the claims in full."""
    answers = {
        name: {
            **answer.model_dump(),
            "question": QUESTIONS[name],
            "evidence": evidence_words(answer, library),
            "claims": [claim_json(one, library) for one in by_claim(claim_statuses(answer.claims, library))],
        }
        for name, answer in topic.answers().items()
    }
    claims = [claim.id for claim in library.claims.values() if topic_of_claim(claim, library) == topic]
    return {
        **topic.model_dump(exclude=set(answers)),
        "title": TOPICS[topic.number],
        "core": _source_json(topic, "core", library),
        "practitioner": _source_json(topic, "practitioner", library),
        "disagreements": [disagreement_json(library.disagreements[one], library) for one in topic.disagreements],
        "answers": answers,
        "cards": cards_of(topic, library),
        "claims": {"all": len(claims), "measured": len(measured(claims, library))},
    }


def source_words(topic: Topic, part: str, library: Library) -> str:
    """The source of a part (core, practitioner) with the address to read, or that the list's cannot be reached."""
    source = reachable(topic, part, library)
    if source is None:
        return "none reachable: " + "; ".join(f"{one.key}, {one.really}" for one in listed(topic, part, library))
    known = _KNOWN[source.verified]
    if source.flag == "none":
        return f"{source.key}, {source.title}, {source.address} ({known})"
    right = source.right_address or source.address
    return f"{source.key}, {right} ({known}; the list's link {_FLAGGED[source.flag]})"


def reachable(topic: Topic, part: str, library: Library) -> Source | None:
    """The source that the topic names for the part; None where it names none, or its flags say it is not to be had."""
    key = getattr(topic, part)
    source = None if key is None else library.sources.get(key)
    return None if source is None or source.unreachable else source


def listed(topic: Topic, part: str, library: Library) -> list[Source]:
    """The sources that the reading list has for the part of the topic."""
    places = [(one, one.reading_list) for one in library.sources.values()]
    return [one for one, at in places if at is not None and (at.topic, at.part) == (topic.number, part)]


def topic_of_card(card: Card, library: Library) -> Topic | None:
    """The topic whose beginning fits what the card names, the longest counting; None when none does."""
    starts = {start: topic for topic in library.topics.values() for start in topic.cards}
    fitting = [start for start in starts if card.topic.startswith(start)]
    return starts[max(fitting, key=len)] if fitting else None


def cards_of(topic: Topic, library: Library) -> list[str]:
    """The cards that are under the topic, then those of other topics that its answers name."""
    under = [card.path for card in library.cards.values() if topic_of_card(card, library) == topic]
    named = [path for answer in topic.answers().values() for path in answer.cards]
    return list(dict.fromkeys([*under, *named]))


def topic_of_claim(claim: Claim, library: Library) -> Topic | None:
    """The topic under which the list has the claim's source, else the topic of the card of its knob."""
    at = library.sources[claim.source].reading_list if claim.source in library.sources else None
    if at is not None:
        return next((topic for topic in library.topics.values() if topic.number == at.topic), None)
    card = library.cards.get(claim.knob or "")
    return None if card is None else topic_of_card(card, library)


def counts(claims: Iterable[str], library: Library) -> str:
    """How many of the claims have which status: 1 confirmed, 2 not measured yet. Nothing of none."""
    words = Counter(one[0].word for one in by_claim(claim_statuses(claims, library)))
    return ", ".join(f"{words[word]} {NOT_MEASURED.get(word, word)}" for word in WORDS if words[word])


def measured(claims: Iterable[str], library: Library) -> list[str]:
    """Those of the claims that carry evidence."""
    return [one[0].claim.id for one in by_claim(claim_statuses(claims, library)) if one[0].tested is not None]


def evidence_words(answer: Answer, library: Library) -> list[str]:
    """What an answer rests on, measured things first: verdicts with intervals, claims without, cards, the source."""
    statuses = [one[0] for one in by_claim(claim_statuses(answer.claims, library))]
    found = [_measured(one) for one in statuses if one.tested is not None]
    for word, text in NOT_MEASURED.items():
        names = [one.claim.id for one in statuses if one.word == word]
        found += [f"{text}: {', '.join(names)}"] if names else []
    found += [f"card {path} ({counts(library.claims_of(path), library) or 'no claim'})" for path in answer.cards]
    if answer.counts_claims:
        seen = measured(library.claims, library)
        found.append(f"{len(seen)} of {len(library.claims)} claims measured: {counts(seen, library) or 'none'}")
    if answer.source is not None:
        found.append(f"from {answer.source}")
    return found


def _measured(status: Status) -> str:
    if status.tested is None or status.evidence is None:
        return f"{status.word} [{status.claim.id}]"
    whose = "yours, " if status.whose == "yours" else ""
    effect = f"{status.tested.quantity} {estimate_text(status.tested.effect)}"
    return f"{status.word} ({whose}{model_text(status.evidence)}): {effect} [{status.claim.id}]"


def _fitting(items: Sequence[str]) -> str:
    """The items that have room in a line, the first always, and how many more there are."""
    shown = 1
    while shown < len(items) and len("; ".join(items[: shown + 1])) <= WIDTH:
        shown += 1
    more = len(items) - shown
    return "; ".join(items[:shown]) + (f" ({more} more: --json)" if more else "")


def _inventory(topic: Topic, library: Library) -> str:
    cards = len(cards_of(topic, library))
    claims = [claim.id for claim in library.claims.values() if topic_of_claim(claim, library) == topic]
    of_cards = "no card yet" if not cards else f"{cards} card{'s' if cards > 1 else ''}"
    of_claims = "no claim" if not claims else f"{len(measured(claims, library))} of {len(claims)} claims measured"
    return f"{of_cards}, {of_claims}"


def _disagreement(topic: Topic, library: Library) -> str:
    """The first disagreement with the status of its sides and how many more there are, or the statement of one."""
    if topic.differs is not None:
        return f"{topic.differs.text} ({topic.differs.source or topic.differs.claim})"
    if not topic.disagreements:
        return "nothing to compare: that takes two sources that can be reached"
    first, *others = topic.disagreements
    one = library.disagreements[first]
    sides: dict[str, dict[str, None]] = {}
    for side in one.sides:
        status = None if side.claim is None else claim_statuses([side.claim], library)[0]
        word = CITED if status is None else NOT_MEASURED.get(status.word, status.word)
        sides.setdefault(word, {})[side.source or "" if status is None else status.claim.source] = None
    if not any(word in VERDICTS for word in sides):
        sides = {NOT_MEASURED[UNTESTED]: {name: None for names in sides.values() for name in names}}
    stand = "; ".join(f"{word}: {', '.join(names)}" for word, names in sides.items())
    text = f"{one.question} {stand} [{first}]"
    return text + (f" ({len(others)} more: --json)" if others else "")


def _source_json(topic: Topic, part: str, library: Library) -> dict[str, Any]:
    source = reachable(topic, part, library)
    return {
        "reachable": source is not None,
        "source": None if source is None else source.model_dump(),
        "unreachable": [one.key for one in listed(topic, part, library) if one.unreachable],
    }
