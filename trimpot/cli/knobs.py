"""The commands card and study: parse, call, print."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trimpot.core.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trimpot.knobs.evidence import Evidence
    from trimpot.knobs.schema import Card

COLOURS = {
    "confirmed": "green", "refuted": "red", "inconclusive": "yellow", "cited, untested": "cyan",
    "cited, untestable here": "magenta",
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
    from trimpot.knobs.status import claim_statuses
    from trimpot.knobs.text import card_json, card_lines

    if check:
        _check(json)
        return
    known = library()
    if path is not None:
        chosen = known.card(path)
        if json:
            statuses = claim_statuses(known.claims_of(path), known)
            print_json(card_json(chosen, known, statuses, detector_rates(chosen)))
        else:
            print_lines(card_lines(chosen, known, claim_statuses(chosen.claims, known), rate_texts(chosen)))
        return
    words = {
        name: sorted({one.word for one in claim_statuses(item.claims, known)}) for name, item in known.cards.items()
    }
    if json:
        print_json({"cards": {name: {"what": known.cards[name].what.text, "claims": words[name]} for name in words}})
    else:
        print_lines([(name, f"{known.cards[name].what.text} {', '.join(words[name])}".rstrip()) for name in words])


def study(
    id: Annotated[str | None, typer.Argument(help="The study, such as dpo-beta; without it all studies.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds per arm; by default the study's own number.")] = None,
    budget: Annotated[str, typer.Option(help="quick or full.")] = "quick",
    output: Annotated[Path | None, typer.Option(help="Folder for the evidence; by default your own.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run a study: its hypothesis is written first, a stopped one goes on, evidence with verdicts comes out."""
    from trimpot.studies import STUDIES

    if id is None:
        listed = {name: {"question": one.question, "budgets": list(one.budgets)} for name, one in STUDIES.items()}
        if json:
            print_json({"studies": listed})
        else:
            print_lines([(name, one.question) for name, one in STUDIES.items()])
        return
    if id not in STUDIES:
        raise UsageError(f"study {id!r}", "there is no such study", nearest(id, STUDIES))
    evidence, file, picture = _run(id, budget, seeds, output)
    if json:
        from dataclasses import asdict

        print_json({**asdict(evidence), "file": str(file), "chart": None if picture is None else str(picture)})
    else:
        print_lines(_study_lines(evidence, file))


def _run(id: str, budget: str, seeds: int | None, output: Path | None) -> tuple[Evidence, Path, Path | None]:
    from trimpot.knobs.evidence import user_folder, write_evidence
    from trimpot.store.ledger import Ledger
    from trimpot.studies import STUDIES, runner
    from trimpot.studies.chart import draw

    chosen, folder = STUDIES[id], output or user_folder()
    with _progress() as tell:
        work = user_folder().parent / "studies"
        evidence = runner.run_study(chosen, Ledger(), work, budget, seeds, runner.WORKERS, tell)
    file = write_evidence(evidence, folder)
    picture = None if chosen.chart is None else draw(evidence, chosen.chart, file.with_suffix(".svg"))
    return evidence, file, picture


def _check(json: bool) -> None:
    from trimpot.detectors import DETECTORS
    from trimpot.knobs.check import check_cards
    from trimpot.knobs.library import library
    from trimpot.studies import STUDIES

    named = {name: kind().card for name, kind in DETECTORS.items()}
    problems = check_cards(library(), named, recipe_defaults(), STUDIES)
    known = library()
    counts = {
        "cards": len(known.cards),
        "claims": len(known.claims),
        "sources": len(known.sources),
        "disagreements": len(known.disagreements),
    }
    if json:
        print_json({**counts, "problems": problems})
    else:
        found = ", ".join(f"{count} {what}" for what, count in counts.items())
        print_lines([("problem:", text) for text in problems] or [(f"{found}:", "no problem")])
    if problems:
        raise typer.Exit(1)


def recipe_defaults() -> dict[str, object]:
    """Every setting of a recipe's stages with its default.

    ``stage.key`` for a stage's own settings, ``stage.objective.key`` for those that only one objective has. A setting
    that must be given has the default None.
    """
    from dataclasses import asdict

    from trimpot.objectives import OBJECTIVES
    from trimpot.recipe.schema import DEFAULT_OBJECTIVES, SETTINGS, build_stage

    found: dict[str, object] = {}
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


def _study_lines(evidence: Evidence, file: Path) -> list[tuple[str, str]]:
    from trimpot.knobs.library import library
    from trimpot.knobs.text import estimate_text

    lines = [("", evidence.question)]
    for claim, tested in evidence.tested.items():
        p = "" if tested.p_value is None else f", Holm p {tested.p_value:.2g}"
        seen = "" if tested.smallest_effect is None else f", could see {tested.smallest_effect:.2g}"
        text = (
            f"{tested.statement} ({library().claims[claim].source}) {tested.quantity}: {estimate_text(tested.effect)}"
        )
        lines.append((f"{tested.verdict}:", text + p + seen))
    if evidence.control is not None:
        word = "not told from 0, as it must be" if evidence.control.passed else "differs, so nothing else counts"
        lines.append(("control:", f"{evidence.control.quantity} {estimate_text(evidence.control.effect)}: {word}"))
    if evidence.failed:
        lines.append(("failed:", "; ".join(evidence.failed)))
    lines.append(("evidence:", f"{file} ({evidence.conditions.seconds:.0f} s of computing)"))
    return lines


@contextmanager
def _progress() -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on standard error; on a file or pipe one line for each thing done."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total, text: print(f"{done}/{total} {text}", file=sys.stderr, flush=True)
        return
    with Progress(console=console) as bar:
        task = bar.add_task("")
        yield lambda done, total, text: bar.update(task, completed=done, total=total, description=text)


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
