"""The command behaviour: parse, call, print."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trimpot.cli.bars import progress_bars
from trimpot.cli.knobs import print_json, print_lines
from trimpot.core.errors import UsageError

if TYPE_CHECKING:
    from trimpot.evaluation.behaviour.run import BehaviourRun
    from trimpot.evaluation.behaviour.suite import BehaviourSuite
    from trimpot.evaluation.cache import ResponseCache


def behaviour(
    models: Annotated[list[str], typer.Argument(help="Models; later ones are compared with the first.")],
    suite: Annotated[str, typer.Option("--suite", help="core, or a YAML file of your own.")] = "core",
    cases: Annotated[int | None, typer.Option("--cases", help="At most so many cases of each test.")] = None,
    likelihood: Annotated[
        bool, typer.Option("--likelihood", help="Choose by log-probability wherever the answers are a set.")
    ] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Prompts as plain text, for a base model.")] = False,
    output: Annotated[Path | None, typer.Option("--output", help="A folder for outcomes, one file a model.")] = None,
    cached: Annotated[bool, typer.Option("--cache/--no-cache", help="Ask again only what is not known yet.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Behavioural tests (CheckList): where models fail, by capability and type of test, with failing examples."""
    from trimpot.cli.evaluate import check_model
    from trimpot.evaluation.behaviour.matrix import report_json
    from trimpot.evaluation.behaviour.read import Reading, read_suite
    from trimpot.evaluation.behaviour.text import comparison_lines, matrix_lines
    from trimpot.evaluation.cache import open_cache

    if len(set(models)) < len(models):
        raise UsageError("behaviour", "a model is given twice", "Give each once.")
    if output is not None and output.exists() and not output.is_dir():
        raise UsageError(str(output), "is not a folder", "Give another --output.")
    for name in models:
        check_model(name)
    read = read_suite(suite, Reading(cases=cases, likelihood=likelihood, plain=plain))
    with open_cache() if cached else nullcontext() as cache:
        runs = [_run(name, read, cache, output) for name in models]
    if json:
        print_json(report_json(runs))
        return
    print_lines(matrix_lines(runs))
    for run in runs[1:]:
        print_lines(comparison_lines(run, runs[0]))


def _run(name: str, suite: BehaviourSuite, cache: ResponseCache | None, output: Path | None) -> BehaviourRun:
    from trimpot.cli.evaluate import open_model
    from trimpot.evaluation.behaviour.run import behaviour_outcomes, run_suite
    from trimpot.evaluation.cache import CachedModel
    from trimpot.store.outcomes import write_outcomes

    model = open_model(name)
    if cache is not None:
        model = CachedModel(model, cache)
    with progress_bars() as bars:
        run = run_suite(model, suite, name, bars(name))
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        file = output / f"{re.sub('[^A-Za-z0-9._-]+', '-', name).strip('-.')}.parquet"
        write_outcomes(file, behaviour_outcomes(model, run, name))
    return run
