"""The check of the cards: nothing they name is missing, no setting is without a card, no number without an origin."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from trimpot.core.errors import UsageError
from trimpot.knobs.check_claims import check_claims, check_disagreements, check_sources, citation
from trimpot.knobs.evidence import SHIPPED, read_evidence, user_folder
from trimpot.knobs.keys import closest, covers
from trimpot.knobs.library import Library
from trimpot.knobs.schema import Card, Statement

UNDETECTED = "undetected"
HOUSEKEEPING: Mapping[str, str] = {
    "*.data": "which rows: the task itself",
    "*.rows": "how much of a file is read: a shorter run for trying things out",
    "*.start": "which model a stage begins with: the plan of the recipe",
    "*.compute_of": "a budget for comparisons at equal compute, in place of steps",
    "*.micro_batch_tokens": "how a step is split over memory: loss and gradient are those of the whole step",
    "*.checkpoint_every": "what is saved, not what is learned",
    "*.keep_checkpoints": "what is kept, not what is learned",
    "*.reward_time_limit": "when a reward function counts as failed: an error, which verifier_errors reports",
    "data.prompts": "which prompts: the task itself",
    "evaluate.suite": "which questions: the task itself",
    "evaluate.items": "how many questions: the width of the intervals that an evaluation reports",
}
"""Settings that need no card, and why: they do not trim what a run learns."""
_DIGIT = re.compile(r"\d")


def check_cards(
    library: Library,
    detectors: Mapping[str, str],
    recipe_defaults: Mapping[str, object],
    studies: Collection[str],
    evidence_folders: Collection[Path] | None = None,
) -> list[str]:
    """The problems of sources, claims, disagreements, cards and evidence files, one line each; none is an empty list.

    Args:
        library: the sources, claims, disagreements and cards.
        detectors: name -> the card it names, of every detector there is.
        recipe_defaults: every setting of a recipe with its default, in the form `trimpot.knobs.keys` describes,
            without ``*``.
        studies: ids of the studies there are.
        evidence_folders: by default those of the package and of the user.
    """
    problems: list[str] = []
    for card in library.cards.values():
        problems += _names(card, library, detectors)
        problems += _settings(card, library, recipe_defaults)
        for place, statement in card.statements():
            problems += _statement(f"card {card.path}: {place}", statement, library)
    problems += missing_settings(library, recipe_defaults)
    for name, path in detectors.items():
        if path not in library.cards:
            problems.append(f"detector {name}: its card {path!r} is missing")
    problems += check_sources(library) + check_claims(library, studies) + check_disagreements(library, studies)
    folders = [SHIPPED, user_folder()] if evidence_folders is None else evidence_folders
    return problems + _evidence(folders)


def missing_settings(library: Library, recipe_defaults: Mapping[str, object]) -> list[str]:
    """Settings that no card explains or that several do, and exemptions of settings that do not exist."""
    forms = [(knob.recipe, card.path) for card in library.cards.values() for _, knob in card.knobs()]
    problems = []
    for key in recipe_defaults:
        exempt = any(covers(form, key) for form in HOUSEKEEPING)
        speaking = set(closest((form for form, _ in forms), key))
        paths = [path for form, path in forms if form in speaking]
        if not paths and not exempt:
            problems.append(f"setting {key}: is on no card")
        if len(paths) > 1:
            problems.append(f"setting {key}: is on several cards ({', '.join(paths)})")
    unused = [form for form in HOUSEKEEPING if not any(covers(form, key) for key in recipe_defaults)]
    return problems + [f"setting {form}: is exempt as housekeeping, but no recipe has it" for form in unused]


def _names(card: Card, library: Library, detectors: Collection[str]) -> list[str]:
    where, problems = f"card {card.path}", []
    for field in ("core_source", "practitioner_source"):
        problems += citation(f"{where}: {field}", getattr(card, field), library)
    problems += [f"{where}: claim {name!r} is unknown" for name in card.claims if name not in library.claims]
    for number, mode in enumerate(card.fails_when):
        if mode.detector != UNDETECTED and mode.detector not in detectors:
            problems.append(f"{where}: fails_when[{number}]: {mode.detector!r} is no detector, nor {UNDETECTED!r}")
    return problems


def _settings(card: Card, library: Library, recipe_defaults: Mapping[str, object]) -> list[str]:
    """Keys that are none, and defaults that are not the recipe's or have no origin."""
    problems = []
    forms = [knob.recipe for each in library.cards.values() for _, knob in each.knobs()]
    for place, knob in card.knobs():
        where, default = f"card {card.path}: {place}".rstrip(": "), knob.default
        if not default.whose.strip() or default.source not in library.sources:
            problems.append(f"{where}: the default has no known origin (source {default.source!r})")
        # A card's form with * does not speak for the settings that have a card of their own.
        keys = [key for key in recipe_defaults if covers(knob.recipe, key) and knob.recipe in closest(forms, key)]
        if not keys:
            problems.append(f"{where}: {knob.recipe!r} is not a key of a recipe")
        for key in keys:
            taken = recipe_defaults[key]
            # True is 1 and False is 0 in Python, and neither is meant here.
            if taken != default.value or isinstance(taken, bool) != isinstance(default.value, bool):
                problems.append(f"{where}: the default of {key} is {default.value}, but a recipe takes {taken}")
    return problems


def _statement(where: str, statement: Statement, library: Library) -> list[str]:
    problems = []
    if statement.source is not None:
        problems += citation(f"{where}: source", statement.source, library)
    if statement.claim is not None and statement.claim not in library.claims:
        problems.append(f"{where}: claim {statement.claim!r} is unknown")
    if _DIGIT.search(statement.text) and statement.source is None and statement.claim is None:
        problems.append(f"{where}: has a number with neither source nor claim: {statement.text!r}")
    return problems


def _evidence(folders: Collection[Path]) -> list[str]:
    problems = []
    for file in sorted(path for folder in folders for path in folder.glob("*.json")):
        try:
            read_evidence(file)
        except UsageError as error:
            problems.append(f"{error.where}: {error.problem}")
    return problems
