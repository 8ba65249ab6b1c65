"""The check of cards and topics: nothing they name is missing, no setting without a card, no number without origin."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from trimpot.knobs.check_claims import check_claims, check_disagreements, check_sources, citation
from trimpot.knobs.check_evidence import check_evidence, check_ledger
from trimpot.knobs.evidence import SHIPPED, user_folder
from trimpot.knobs.keys import ELSEWHERE, as_written, closest, covers
from trimpot.knobs.library import Library
from trimpot.knobs.schema import TOPICS, Answer, Card, Statement, Topic
from trimpot.knobs.topic_text import listed, reachable, topic_of_card

UNDETECTED = "undetected"
HOUSEKEEPING: Mapping[str, str] = {
    "model": "which model: the task itself",
    "seed": "which random numbers: what a study repeats itself over",
    "device": "where it runs, not what is learned",
    "*.data": "which rows: the task itself",
    "*.rows": "how much of a file is read: a shorter run for trying things out",
    "*.start": "which model a stage begins with: the plan of the recipe",
    "*.compute_of": "a budget for comparisons at equal compute, in place of steps",
    "*.checkpoint_every": "what is saved, not what is learned",
    "*.keep_checkpoints": "what is kept, not what is learned",
    "*.reward_time_limit": "when a reward function counts as failed: an error, which verifier_errors reports",
    "*.probes": "what is measured while it trains, not what is learned",
    "*.probe_every": "how often it is measured, not what is learned",
    "data.prompts": "which prompts: the task itself",
    "evaluate.suite": "which questions: the task itself",
}
"""Settings that need no card, and why: they do not trim what a run learns."""
_DIGIT = re.compile(r"\d")


def check_cards(
    library: Library,
    detectors: Mapping[str, str],
    recipe_defaults: Mapping[str, object],
    studies: Collection[str],
    evidence_folders: Collection[Path] | None = None,
    margins: Collection[str] = (),
) -> list[str]:
    """The problems of sources, claims, disagreements, cards, topics and evidence, a line each; none is an empty list.

    Args:
        library: the sources, claims, disagreements, cards and topics.
        detectors: name -> the card it names, of every detector there is.
        recipe_defaults: every setting of a recipe with its default, in the form `trimpot.knobs.keys` describes,
            without ``*``.
        studies: ids of the studies there are.
        evidence_folders: by default those of the package and of the user, and the user's ledger beside them.
        margins: the claims of equality for which a study says what counts as equal.
    """
    problems: list[str] = []
    for card in library.cards.values():
        problems += check_card(card, library, detectors, recipe_defaults)
    problems += missing_settings(library, recipe_defaults)
    for name, path in detectors.items():
        if path not in library.cards:
            problems.append(f"detector {name}: its card {path!r} is missing")
    problems += check_sources(library) + check_claims(library, studies, margins)
    problems += check_disagreements(library, studies)
    problems += check_topics(library)
    if evidence_folders is None:
        return problems + check_evidence([SHIPPED, user_folder()]) + check_ledger()
    return problems + check_evidence(evidence_folders)


def check_card(
    card: Card, library: Library, detectors: Collection[str], recipe_defaults: Mapping[str, object]
) -> list[str]:
    """The problems of one card: what it names, its settings and defaults, its numbers."""
    problems = _names(card, library, detectors) + _settings(card, library, recipe_defaults)
    for place, statement in card.statements():
        problems += _statement(f"card {card.path}: {place}", statement, library)
    return problems


def check_topics(library: Library) -> list[str]:
    """Topics that are not there, that name what there is not, and answers that are missing or rest on nothing.

    A library without any topic has no problem: it is a part of one.
    """
    problems: list[str] = []
    topics = library.topics.values()
    if not topics:
        return problems
    for number, title in TOPICS.items():
        given = [topic.id for topic in topics if topic.number == number]
        if len(given) != 1:
            problems.append(f"topic {number} ({title}): is given {len(given)} times")
    starts = [start for topic in topics for start in topic.cards]
    problems += [f"topics: several have the cards of {start!r}" for start in set(starts) if starts.count(start) > 1]
    for topic in topics:
        problems += _parts(topic, library) + _differences(topic, library)
        for name, answer in topic.answers().items():
            problems += _answer(f"topic {topic.id}: {name}", answer, library)
    for card in library.cards.values():
        if topic_of_card(card, library) is None:
            problems.append(f"card {card.path}: its topic {card.topic!r} is under none of the list's")
    return problems


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
    known = {**recipe_defaults, **{key: one.default for key, one in ELSEWHERE.items()}}
    for place, knob in card.knobs():
        where, default = f"card {card.path}: {place}".rstrip(": "), knob.default
        if not default.whose.strip() or default.source not in library.sources:
            problems.append(f"{where}: the default has no known origin (source {default.source!r})")
        # A card's form with * does not speak for the settings that have a card of their own.
        keys = [key for key in known if covers(knob.recipe, key) and knob.recipe in closest(forms, key)]
        if not keys:
            problems.append(f"{where}: {knob.recipe!r} is not a key of a recipe")
        for key in keys:
            taken, whose = known[key], as_written(key) if key in ELSEWHERE else "a recipe"
            # True is 1 and False is 0 in Python, and neither is meant here.
            if taken != default.value or isinstance(taken, bool) != isinstance(default.value, bool):
                problems.append(f"{where}: the default of {key} is {default.value}, but {whose} takes {taken}")
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


def _parts(topic: Topic, library: Library) -> list[str]:
    """A source that is unknown, dead or of another place in the list, and one that is left out though it is there."""
    problems = []
    for part in ("core", "practitioner"):
        where, key = f"topic {topic.id}: {part}", getattr(topic, part)
        there = listed(topic, part, library)
        if key is not None:
            problems += citation(f"{where}: source", key, library)
            if key in library.sources and key not in [source.key for source in there]:
                problems.append(f"{where}: the list does not have {key!r} there")
        elif any(not source.unreachable for source in there):
            names = ", ".join(source.key for source in there if not source.unreachable)
            problems.append(f"{where}: names no source, though the list's can be reached ({names})")
    return problems


def _differences(topic: Topic, library: Library) -> list[str]:
    where = f"topic {topic.id}"
    unknown = [name for name in topic.disagreements if name not in library.disagreements]
    problems = [f"{where}: disagreement {name!r} is unknown" for name in unknown]
    if topic.differs is not None:
        problems += _statement(f"{where}: differs", topic.differs, library)
        if topic.differs.source is None and topic.differs.claim is None:
            problems.append(f"{where}: differs: names no source")
    both = all(reachable(topic, part, library) is not None for part in ("core", "practitioner"))
    if both and not topic.disagreements and topic.differs is None:
        problems.append(f"{where}: does not say where its sources disagree")
    return problems


def _answer(where: str, answer: Answer, library: Library) -> list[str]:
    problems = [f"{where}: claim {name!r} is unknown" for name in answer.claims if name not in library.claims]
    problems += [f"{where}: card {name!r} is unknown" for name in answer.cards if name not in library.cards]
    if answer.source is not None:
        problems += citation(f"{where}: source", answer.source, library)
    if not answer.text.strip():
        problems.append(f"{where}: is not answered")
    if _DIGIT.search(answer.text) and answer.source is None and not answer.claims:
        problems.append(f"{where}: has a number with neither source nor claim: {answer.text!r}")
    if not (answer.claims or answer.cards or answer.source or answer.counts_claims):
        problems.append(f"{where}: rests on no claim, card or source")
    return problems
