"""The check of the cards: nothing they name is missing, and no number stands without a source or a measurement."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from trimpot.core.errors import UsageError
from trimpot.knobs.evidence import SHIPPED, read_evidence, user_folder
from trimpot.knobs.library import Library
from trimpot.knobs.schema import Card, Statement

UNDETECTED = "undetected"
_DIGIT = re.compile(r"\d")
_MISSING = object()


def check_cards(
    library: Library,
    detectors: Collection[str],
    recipe_defaults: Mapping[str, object],
    studies: Collection[str],
    evidence_folders: Collection[Path] | None = None,
) -> list[str]:
    """The problems of all cards, claims and evidence files, one line each; none is an empty list.

    Args:
        library: the sources, claims and cards.
        detectors: names of the detectors there are.
        recipe_defaults: every key a recipe may set, as ``stage.key``, with its default.
        studies: ids of the studies there are.
        evidence_folders: by default those of the package and of the user.
    """
    problems: list[str] = []
    for card in library.cards.values():
        problems += _names(card, library, detectors, recipe_defaults)
        for place, statement in card.statements():
            problems += _statement(f"card {card.path}: {place}", statement, library)
    for claim in library.claims.values():
        if claim.source not in library.sources:
            problems.append(f"claim {claim.id}: source {claim.source!r} is unknown")
        if claim.study is not None and claim.study not in studies:
            problems.append(f"claim {claim.id}: study {claim.study!r} is unknown")
    folders = [SHIPPED, user_folder()] if evidence_folders is None else evidence_folders
    for file in sorted(path for folder in folders for path in folder.glob("*.json")):
        try:
            read_evidence(file)
        except UsageError as error:
            problems.append(f"{error.where}: {error.problem}")
    return problems


def _names(
    card: Card, library: Library, detectors: Collection[str], recipe_defaults: Mapping[str, object]
) -> list[str]:
    where, problems = f"card {card.path}", []
    for field in ("core_source", "practitioner_source"):
        if getattr(card, field) not in library.sources:
            problems.append(f"{where}: {field} {getattr(card, field)!r} is unknown")
    problems += [f"{where}: claim {name!r} is unknown" for name in card.claims if name not in library.claims]
    if not card.default.whose.strip() or card.default.source not in library.sources:
        problems.append(f"{where}: the default has no known origin (source {card.default.source!r})")
    default = recipe_defaults.get(card.recipe, _MISSING)
    if default is _MISSING:
        problems.append(f"{where}: {card.recipe!r} is not a key of a recipe")
    elif default != card.default.value:
        problems.append(f"{where}: the default is {card.default.value}, but a recipe takes {default}")
    for number, mode in enumerate(card.fails_when):
        if mode.detector != UNDETECTED and mode.detector not in detectors:
            problems.append(f"{where}: fails_when[{number}]: {mode.detector!r} is no detector, nor {UNDETECTED!r}")
    return problems


def _statement(where: str, statement: Statement, library: Library) -> list[str]:
    problems = []
    if statement.source is not None and statement.source not in library.sources:
        problems.append(f"{where}: source {statement.source!r} is unknown")
    if statement.claim is not None and statement.claim not in library.claims:
        problems.append(f"{where}: claim {statement.claim!r} is unknown")
    if _DIGIT.search(statement.text) and statement.source is None and statement.claim is None:
        problems.append(f"{where}: has a number with neither source nor claim: {statement.text!r}")
    return problems
