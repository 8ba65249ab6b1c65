"""Reads the data files: sources, claims, disagreements, cards and topics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from trimpot.core.errors import UsageError, nearest
from trimpot.knobs.schema import Card, Claim, Disagreement, Record, Source, Topic

DATA = Path(__file__).parent / "data"
R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Library:
    """All sources by key, claims by id, cards by path, disagreements and topics by id.

    ``yours`` are the records among them that are the user's own: (kind, name) -> file, kind one of source, claim, card.
    """

    sources: Mapping[str, Source]
    claims: Mapping[str, Claim]
    cards: Mapping[str, Card]
    disagreements: Mapping[str, Disagreement] = field(default_factory=dict)
    topics: Mapping[str, Topic] = field(default_factory=dict)
    yours: Mapping[tuple[str, str], Path] = field(default_factory=dict)

    def is_yours(self, kind: str, name: str) -> bool:
        """True when the record is the user's own."""
        return (kind, name) in self.yours

    def card(self, path: str) -> Card:
        """The card of a knob.

        Raises:
            UsageError: there is none; names the nearest.
        """
        return _named(self.cards, path, "card")

    def source(self, key: str) -> Source:
        """The source of a key.

        Raises:
            UsageError: there is none; names the nearest.
        """
        return _named(self.sources, key, "source")

    def claim(self, id: str) -> Claim:
        """The claim of an id.

        Raises:
            UsageError: there is none; names the nearest.
        """
        return _named(self.claims, id, "claim")

    def topic(self, id: str) -> Topic:
        """The topic of an id or a number.

        Raises:
            UsageError: there is none; names the nearest.
        """
        numbered = {str(one.number): one.id for one in self.topics.values()}
        return _named(self.topics, numbered.get(id, id), "topic")

    def claims_of(self, path: str) -> list[str]:
        """The claims on a card, then the others that concern its knob."""
        shown = self.cards[path].claims if path in self.cards else ()
        return list(dict.fromkeys([*shown, *(claim.id for claim in self.claims.values() if claim.knob == path)]))


def read_library(folder: Path = DATA) -> Library:
    """Reads ``sources.yaml``, ``claims.yaml``, ``disagreements.yaml``, ``cards/*.yaml`` and, if it is there,
    ``topics.yaml``.

    Raises:
        UsageError: malformed YAML, a missing or unknown key, a wrong type, or two records of one name.
    """
    sources = _many(folder / "sources.yaml", Source, "key")
    claims = _many(folder / "claims.yaml", Claim, "id")
    disagreements = _many(folder / "disagreements.yaml", Disagreement, "id")
    cards: dict[str, Card] = {}
    for file in sorted((folder / "cards").glob("*.yaml")):
        card = read_record(Card, file)
        if card.path in cards or file.stem != card.path:
            raise UsageError(str(file), f"holds the card {card.path}", f"Name the file {card.path}.yaml.")
        cards[card.path] = card
    file = folder / "topics.yaml"
    topics = _many(file, Topic, "id") if file.exists() else {}
    return Library(sources, claims, cards, disagreements, topics)


def read_record(kind: type[R], file: Path) -> R:
    """The one record that a file holds.

    Raises:
        UsageError: malformed YAML, a missing or unknown key, or a wrong type.
    """
    return _one(kind, _yaml(file), str(file))


@cache
def library() -> Library:
    """The library that comes with the package, read once."""
    return read_library()


def _named(known: Mapping[str, R], name: str, kind: str) -> R:
    if name not in known:
        raise UsageError(f"{kind} {name!r}", f"there is no such {kind}", nearest(name, known))
    return known[name]


def _many(file: Path, kind: type[R], name: str) -> dict[str, R]:
    found: dict[str, R] = {}
    for number, entry in enumerate(_yaml(file) or ()):
        given = entry.get(name) if isinstance(entry, Mapping) else None
        record = _one(kind, entry, f"{file}[{number}]" if given is None else f"{file}: {given}")
        key = str(getattr(record, name))
        if key in found:
            raise UsageError(f"{file}[{number}]", f"{name} {key!r} is there already", "Give it a name of its own.")
        found[key] = record
    return found


def _one(kind: type[R], entry: Any, where: str) -> R:
    try:
        return kind.model_validate(entry)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        known = ", ".join(kind.model_fields)
        at = f"{where}: {place}" if place else where
        raise UsageError(at, first["msg"], f"A {kind.__name__.lower()} has: {known}.") from error


def _yaml(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else str(file)
        raise UsageError(where, "is not valid YAML", "Mend that line.") from error
