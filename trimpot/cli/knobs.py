"""The command card, and how commands print: parse, call, print."""

from __future__ import annotations

import json as json_module
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from trimpot.knobs.library import Library
    from trimpot.knobs.schema import Card

COLOURS = {
    "confirmed": "green", "refuted": "red", "inconclusive": "yellow", "cited, untested": "cyan",
    "cited, untestable here": "magenta", "right": "green", "wrong": "red", "undecided": "yellow",
}  # fmt: skip
REQUIRED = {"distill": {"teacher": "base"}}
"""Settings without which a stage is refused, with a value that lets it be built."""


def card(
    path: Annotated[str | None, typer.Argument(help="The knob, such as dpo.beta; without it all cards.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Check every card and evidence file; exit 1 if one fails.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """A knob in ten lines: what it is, when it fails, which metric it moves, with sources and evidence."""
    from trimpot.knobs.library import library
    from trimpot.knobs.own import known_library, read_own
    from trimpot.knobs.status import claim_statuses
    from trimpot.knobs.text import card_json, card_lines

    if check:
        _check(json)
        return
    known = known_library()
    if path is not None:
        chosen = known.card(path)
        if json:
            statuses = claim_statuses(known.claims_of(path), known)
            print_json(card_json(chosen, known, statuses, detector_rates(chosen)))
        else:
            print_lines(card_lines(chosen, known, claim_statuses(chosen.claims, known), rate_texts(chosen)))
        return
    if json:
        print_json({"cards": {name: _listed(one, known) for name, one in known.cards.items()}})
    else:
        print_lines(_card_list(known))
        unread = len(read_own(library()).problems)
        print_lines([("yours:", f"{unread} files cannot be read: trimpot card --check")] if unread else [])


def _check(json: bool) -> None:
    from trimpot.detectors import DETECTORS
    from trimpot.knobs.check import check_cards
    from trimpot.knobs.evidence import SHIPPED, user_folder
    from trimpot.knobs.library import library
    from trimpot.knobs.own import check_own, read_own
    from trimpot.studies import STUDIES
    from trimpot.studies.recheck import check_verdicts

    named = {name: kind().card for name, kind in DETECTORS.items()}
    margins = [claim for one in STUDIES.values() for claim in one.margins]
    problems = check_cards(library(), named, recipe_defaults(), STUDIES, margins=margins)
    problems += check_verdicts([SHIPPED, user_folder()], STUDIES)
    known = library()
    own = read_own(known)
    problems += check_own(known, own, named, recipe_defaults(), STUDIES)
    counts = {
        "cards": len(known.cards),
        "claims": len(known.claims),
        "sources": len(known.sources),
        "disagreements": len(known.disagreements),
        "topics": len(known.topics),
        "papers of yours": len(own.folders),
    }
    if json:
        print_json({**counts, "problems": problems})
    else:
        found = ", ".join(f"{count} {what}" for what, count in counts.items())
        print_lines([("problem:", text) for text in problems] or [(f"{found}:", "no problem")])
    if problems:
        raise typer.Exit(1)


def recipe_defaults() -> dict[str, object]:
    """Every setting of a recipe with its default.

    ``key`` for what stands above the stages, ``stage.key`` for a stage's own settings, ``stage.objective.key`` for
    those that only one objective has. A setting that must be given has the default None.
    """
    from dataclasses import asdict

    from trimpot.objectives import OBJECTIVES
    from trimpot.recipe.read import TOP_DEFAULTS
    from trimpot.recipe.schema import DEFAULT_OBJECTIVES, SETTINGS, build_stage

    found: dict[str, object] = dict(TOP_DEFAULTS)
    for kind, shared in SETTINGS.items():
        fitting = [name for name, objective in OBJECTIVES.items() if objective.stage == kind]
        if len(fitting) > 1:
            found[f"{kind}.objective"] = DEFAULT_OBJECTIVES[kind]
        for name in fitting or [""]:
            chosen = {"objective": name} if name else {}
            stage = build_stage(kind, kind, {**REQUIRED.get(kind, {}), **chosen})
            for part, values in stage.settings.items():
                prefix = kind if part in shared else f"{kind}.{name}"
                found.update({f"{prefix}.{key}": value for key, value in asdict(values).items()})
            if name:
                found.update({f"{kind}.{name}.{key}": value for key, value in asdict(stage.objective).items()})
        found.update({f"{kind}.{key}": None for key in REQUIRED.get(kind, {})})
    return found


def detector_rates(card: Card) -> dict[str, list[dict[str, Any]]]:
    """What the labs measured of the card's detectors, in full. ``current`` is false once thresholds have changed."""
    from dataclasses import asdict

    from trimpot.detectors.rates import rates_of

    return {
        name: [
            {
                **asdict(rate),
                "true_positive": asdict(rate.true_positive),
                "false_alarm": asdict(rate.false_alarm),
                "current": rate.is_current,
            }
            for rate in rates_of(name)
        ]
        for name in _detectors(card)
    }


def rate_texts(card: Card) -> dict[str, str]:
    """How often each measured detector fired on runs with its fault, over all labs, and on clean ones.

    Rates of other thresholds than today's do not count.
    """
    from trimpot.detectors.rates import rates_of

    found = {}
    for name in _detectors(card):
        rates = [rate for rate in rates_of(name) if rate.is_current]
        if rates:
            fired, runs = sum(rate.fired for rate in rates), sum(rate.runs for rate in rates)
            # The labs of one study share its clean runs, which count once.
            clean = {str(rate.conditions.get("plan", rate.lab)): (rate.clean_fired, rate.clean_runs) for rate in rates}
            false, silent = (sum(counts) for counts in zip(*clean.values(), strict=True))
            found[name] = f"{fired}/{runs}, clean {false}/{silent}"
    return found


def _detectors(card: Card) -> list[str]:
    from trimpot.knobs.check import UNDETECTED

    return list(dict.fromkeys(mode.detector for mode in card.fails_when if mode.detector != UNDETECTED))


def _listed(card: Card, known: Library) -> dict[str, Any]:
    """All of a card with its topic, how many of its claims have which status, and whose it is."""
    from trimpot.knobs.status import claim_statuses
    from trimpot.knobs.text import card_json
    from trimpot.knobs.topic_text import counts, topic_of_card

    claims, under = known.claims_of(card.path), topic_of_card(card, known)
    return {
        **card_json(card, known, claim_statuses(claims, known), detector_rates(card)),
        "under": None if under is None else under.id,
        "status": counts(claims, known),
        "yours": known.is_yours("card", card.path),
    }


def _card_list(known: Library) -> list[tuple[str, str]]:
    """The cards by topic, each with what its claims came to."""
    from trimpot.knobs.schema import TOPICS
    from trimpot.knobs.topic_text import counts, topic_of_card

    under = {path: topic_of_card(one, known) for path, one in known.cards.items()}
    lines = []
    for topic in [*sorted(known.topics.values(), key=lambda one: one.number), None]:
        paths = [path for path, found in under.items() if found == topic]
        if topic is not None:
            lines.append((f"{topic.number} {TOPICS[topic.number]}", "" if paths else "no card yet"))
        elif paths:
            lines.append(("Under no topic", ""))
        for path in paths:
            mark = " (yours)" if known.is_yours("card", path) else ""
            status = counts(known.claims_of(path), known)
            lines.append((f"  {path}{mark}", f"{known.cards[path].what.text} [{status or 'no claim'}]"))
    return lines


def print_lines(lines: list[tuple[str, str]]) -> None:
    """What stands out in colour, each on a line with the rest."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for head, rest in lines:
        style = COLOURS.get(head.partition(" (")[0].rstrip(":"), "bold")
        console.print(Text.assemble((head, style), " " if head else "  ", rest), soft_wrap=True)


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on standard output, and nothing else there."""
    print(json_module.dumps(value, ensure_ascii=False, indent=2))
