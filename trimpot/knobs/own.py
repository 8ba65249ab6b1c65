"""The user's own sources, claims and cards: kept in the user's folder, shown beside those that come with trimpot.

A folder for every paper, ``~/.local/share/trimpot/knobs/NAME`` (or under XDG_DATA_HOME), holds ``source.yaml``,
``claim.yaml`` and ``card.yaml``, a record each, and ``study.yaml``. Text that still has TODO in it is shown, and named
by the check.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from trimpot.core.errors import UsageError
from trimpot.knobs.check import check_card
from trimpot.knobs.check_claims import check_claims, check_sources
from trimpot.knobs.evidence import user_folder
from trimpot.knobs.library import Library, library, read_record
from trimpot.knobs.schema import Card, Claim, Record, Source

TODO = "TODO"
"""Stands where the user has to write something."""
SOURCE, CLAIM, CARD, STUDY = FILES = ("source.yaml", "claim.yaml", "card.yaml", "study.yaml")
"""The files of a folder."""
_KINDS: tuple[tuple[str, type[Record], str, str], ...] = (
    (SOURCE, Source, "source", "key"),
    (CLAIM, Claim, "claim", "id"),
    (CARD, Card, "card", "path"),
)
_TODO = re.compile(rf"\b{TODO}\b")


@dataclass(frozen=True)
class Own:
    """The user's records by name. ``files``: (kind, name) -> file; ``problems``: the files that could not be read."""

    sources: Mapping[str, Source] = field(default_factory=dict)
    claims: Mapping[str, Claim] = field(default_factory=dict)
    cards: Mapping[str, Card] = field(default_factory=dict)
    files: Mapping[tuple[str, str], Path] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()
    problems: tuple[str, ...] = ()


def own_folder() -> Path:
    """Where the user's own papers are kept, a folder each."""
    return user_folder().parent / "knobs"


def read_own(known: Library, folder: Path | None = None) -> Own:
    """Reads the user's own records. A file that cannot be read is a problem of its own, and the others are there.

    ``known``: what comes with trimpot, whose names are taken.
    """
    root = folder or own_folder()
    # A folder that is being written has a name that begins with a full stop.
    places = [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    folders = tuple(sorted(path for path in places if not path.name.startswith(".")))
    taken: dict[str, Mapping[str, Any]] = {"source": known.sources, "claim": known.claims, "card": known.cards}
    found: dict[str, dict[str, Any]] = {kind: {} for kind in taken}
    files: dict[tuple[str, str], Path] = {}
    problems: list[str] = []
    for place in folders:
        for file_name, record_kind, kind, name in _KINDS:
            file = place / file_name
            if not file.exists():
                continue
            try:
                record = read_record(record_kind, file)
            except UsageError as error:
                problems.append(str(error))
                continue
            except (OSError, UnicodeDecodeError) as error:
                problems.append(f"{file}: cannot be read ({error})")
                continue
            key = str(getattr(record, name))
            if key in taken[kind] or key in found[kind]:
                owner = "trimpot has" if key in taken[kind] else "you have"
                problems.append(f"{file}: {name}: {owner} a {kind} {key!r} already")
                continue
            found[kind][key] = record
            files[kind, key] = file
    return Own(found["source"], found["claim"], found["card"], files, folders, tuple(problems))


def with_own(known: Library, own: Own) -> Library:
    """The library with the user's own records, marked as such. Claims that are not there are left off the cards."""
    claims = {**known.claims, **own.claims}
    cards = {
        path: card.model_copy(update={"claims": tuple(name for name in card.claims if name in claims)})
        for path, card in own.cards.items()
    }
    return Library(
        {**known.sources, **own.sources},
        claims,
        {**known.cards, **cards},
        known.disagreements,
        known.topics,
        own.files,
    )


def known_library() -> Library:
    """What comes with trimpot and the user's own."""
    return with_own(library(), read_own(library()))


def check_own(
    known: Library,
    own: Own,
    detectors: Collection[str],
    recipe_defaults: Mapping[str, object],
    studies: Collection[str],
) -> list[str]:
    """What is missing in the user's own records, by file and field; a record without a gap is checked as any other.

    Args:
        known: what comes with trimpot.
        own: the user's records.
        detectors: names of the detectors there are.
        recipe_defaults: every setting of a recipe with its default, as `check_cards` takes them.
        studies: ids of the studies there are.
    """
    problems = [*own.problems]
    for file in (folder / name for folder in own.folders for name in FILES):
        if not file.exists():
            problems.append(f"{file}: is missing")
        elif not any(problem.startswith(str(file)) for problem in own.problems):
            problems += gaps(file)
    both = with_own(known, own)
    whole = {key for key, file in own.files.items() if not gaps(file)}
    for path, card in own.cards.items():
        if ("card", path) in whole:
            found = check_card(card, both, detectors, recipe_defaults)
            problems += [f"{own.files['card', path]}: {text}" for text in found]
    sources = {key: source for key, source in own.sources.items() if ("source", key) in whole}
    claims = {name: claim for name, claim in own.claims.items() if ("claim", name) in whole}
    tested = {*studies, *(folder.name for folder in own.folders if (folder / STUDY).exists())}
    problems += check_sources(Library(sources, {}, {}))
    return problems + check_claims(Library(both.sources, claims, both.cards), tested, claims)


def gaps(file: Path) -> list[str]:
    """The fields of a file in which TODO still stands, a line each; or that it cannot be read."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError):
        return [f"{file}: is not valid YAML"]
    return [f"{file}: {place}: is still {TODO}" for place in _places(content, "")]


def _places(value: Any, place: str) -> Iterator[str]:
    """Where TODO stands, in a value or in the name of a key."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            at = f"{place}.{key}" if place else str(key)
            if _TODO.search(str(key)):
                yield at
            yield from _places(item, at)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _places(item, f"{place}[{number}]")
    elif isinstance(value, str) and _TODO.search(value):
        yield place
