"""The commands eval and suite: a model on a suite of tasks, and a user's own rows as a suite."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trimpot.cli.bars import progress_bars
from trimpot.cli.flags import noted
from trimpot.cli.knobs import print_json, print_lines
from trimpot.core.errors import UsageError, nearest

if TYPE_CHECKING:
    from rich.console import Console

    from trimpot.core.stats import Estimate
    from trimpot.evaluation.helm.grid import Grid
    from trimpot.evaluation.language_model import LanguageModel
    from trimpot.evaluation.lint import Problem
    from trimpot.evaluation.session import Evaluation
    from trimpot.evaluation.slices.report import SliceReport
    from trimpot.evaluation.suite import Suite
    from trimpot.evaluation.summary import SummaryRow
    from trimpot.evaluation.task import Task
    from trimpot.evaluation.task_file import FileTask

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
CORE = "core"
SCREEN, REASONS = 40, 5
"""Rows up to which slices are printed beside their tasks, and reasons why answers have no score."""
app = typer.Typer(
    help="Suites: list them, lint one, or make one of your own rows: trimpot suite new NAME FILE.jsonl.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def evaluate(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(help="A model as a recipe names it, or endpoint:http://ADDRESS/v1#NAME?at_once=4.")
    ],
    suite: Annotated[str, typer.Option(help="A suite's name, or a task file (.yaml).")] = CORE,
    items: Annotated[int | None, typer.Option(min=1, help="Items per task; by default the suite's own number.")] = None,
    seed: Annotated[int, typer.Option(help="Chooses the items.")] = 0,
    output: Annotated[Path | None, typer.Option(help="The folder; default: evaluations/NAME-SUITE-TIME.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of the response cache; by default one for all.")] = None,
    json: Json = False,
    _no_cache: Annotated[
        bool, typer.Option("--no-cache", callback=noted, help="Ask everything anew, and keep nothing.")
    ] = False,
    _too_long: Annotated[
        str,
        typer.Option("--too-long", callback=noted, help="An item too long for the model: refuse or error."),
    ] = "refuse",
    _run_code: Annotated[
        bool, typer.Option("--run-code", callback=noted, help="Run programs that the model writes, in a sandbox.")
    ] = False,
) -> None:
    """Evaluate a model on a suite: scores by task and slice with intervals. A killed evaluation goes on where it was.

    Answers are kept in the response cache; the same command asks only what is missing.
    """
    from trimpot.evaluation.cache import open_cache
    from trimpot.evaluation.runner import TOO_LONG
    from trimpot.evaluation.session import Plan, evaluate_into
    from trimpot.store.environment import now

    flags = context.meta
    if cache is not None and flags["_no_cache"]:
        raise UsageError("--cache", "is given beside --no-cache", "Give one of the two.")
    too_long = flags["_too_long"]
    if too_long not in TOO_LONG:
        raise UsageError("--too-long", f"{too_long!r} is unknown", nearest(too_long, TOO_LONG))
    name, tasks = _tasks(suite, seed, items)
    time = now()[:19].replace(":", "").replace("T", "-")
    folder = output or Path("evaluations") / f"{_short_name(model)}-{name}-{time}"
    plan = Plan(name, allowed(tasks, flags["_run_code"]), seed, items, too_long)
    with nullcontext() if flags["_no_cache"] else open_cache(cache) as kept, progress_bars() as bars:
        done = evaluate_into(folder, open_model(model), plan, kept, bars(f"{name}: answers"))
    _warn(done.warnings)
    _print_evaluation(done, json)


def open_model(name: str) -> LanguageModel:
    """The model that a name means: an endpoint (endpoint:http://ADDRESS/v1#NAME), or weights on this machine.

    Raises:
        UsageError: no such model.
    """
    if name.startswith("endpoint:"):
        from trimpot.evaluation.formats.endpoint import endpoint

        return endpoint(name)
    from trimpot.evaluation.local import LocalModel
    from trimpot.models.load import load

    return LocalModel(load(name))


def check_model(name: str) -> None:
    """Refuses a name that ``open_model`` would refuse, before other models are asked."""
    if not name.startswith("endpoint:"):
        from trimpot.models.load import check_model

        check_model(name)


def allowed(tasks: Sequence[Task | FileTask], run_code: bool) -> list[Task | FileTask]:
    """The tasks, those of programs with the scorer that runs them.

    Raises:
        UsageError: a task runs programs, which is not allowed.
    """
    from trimpot.evaluation.suites.code.humaneval import allow_code
    from trimpot.evaluation.task_file import FileTask

    plain = allow_code([one.task if isinstance(one, FileTask) else one for one in tasks], run_code)
    return [
        replace(one, task=task) if isinstance(one, FileTask) else task for one, task in zip(tasks, plain, strict=True)
    ]


def suites() -> Mapping[str, Suite]:
    """The suites that trimpot brings, by name."""
    from trimpot.evaluation.suites.table import SUITES

    return SUITES


@app.command("list")
def suite_list(json: Json = False) -> None:
    """All suites: trimpot's and your own."""
    from trimpot.evaluation.own_suite import suites_folder
    from trimpot.evaluation.task_file import read_task_file

    own = {path.stem: read_task_file(path) for path in sorted(suites_folder().glob("*.yaml"))}
    found = {name: (one.about, name in own) for name, one in {**suites(), **own}.items()}
    if json:
        print_json({"suites": {name: {"about": about, "own": mine} for name, (about, mine) in found.items()}})
    else:
        print_lines([(name, about + (" (yours)" if mine else "")) for name, (about, mine) in found.items()])


@app.command("new")
def suite_new(
    name: Annotated[str, typer.Argument(help="Its name: small letters, digits, - and _.")],
    data: Annotated[Path, typer.Argument(help="Your rows: .jsonl, .json, .csv or .parquet.")],
    output: Annotated[Path | None, typer.Option(help="The task file to write; by default among your suites.")] = None,
    json: Json = False,
) -> None:
    """Make a suite of your own rows: fields are recognised by name, and what was understood is written as YAML."""
    from trimpot.evaluation.lint import by_level, lint_tasks
    from trimpot.evaluation.own_suite import new_suite

    made = new_suite(name, data, list(suites()), output)
    problems = lint_tasks(made.tasks)
    if json:
        shown = {"name": name, "file": str(made.path), "task": made.keys, "items": len(made.tasks[0].task.items)}
        print_json({**shown, **by_level(problems), "problems": [vars(one) for one in problems]})
        return
    print_lines([(key, str(value)) for key, value in made.keys.items()])
    _warn(problems)
    call = name if output is None else str(made.path)
    print(f"{len(made.tasks[0].task.items)} items in {made.path}; evaluate with: trimpot eval MODEL --suite {call}")


@app.command("lint")
def suite_lint(
    suite: Annotated[str, typer.Argument(help="A suite's name, or a task file (.yaml).")],
    items: Annotated[int | None, typer.Option(min=1, help="Items per task; by default all.")] = None,
    seed: Annotated[int, typer.Option(help="Chooses the items.")] = 0,
    json: Json = False,
) -> None:
    """Look for what makes scores meaningless, without a model: cut answers, leaks, duplicates. Exit 1 on an error."""
    from trimpot.evaluation.lint import by_level, lint_tasks

    _, tasks = _tasks(suite, seed, items)
    problems = lint_tasks(tasks)
    counts = by_level(problems)
    if json:
        print_json({**counts, "problems": [vars(one) for one in problems]})
    else:
        _warn(problems, sys.stdout)
        print(f"{counts['errors']} errors, {counts['warnings']} warnings in {len(tasks)} tasks")
    if counts["errors"]:
        raise typer.Exit(1)


def _short_name(model: str) -> str:
    """The end of a model's name, as a folder may be called; of RUN/STAGE/model the stage."""
    parts = model.rstrip("/").split("/")
    end = parts[-2] if parts[-1] == "model" and len(parts) > 2 else parts[-1]
    return re.sub(r"[^\w.-]+", "-", end).strip("-") or "model"


def _tasks(name: str, seed: int, items: int | None) -> tuple[str, Sequence[Task | FileTask]]:
    """A suite's name and its tasks, those of a file with their places."""
    from trimpot.evaluation.own_suite import find_suite
    from trimpot.evaluation.task_file import load_tasks

    chosen, path = find_suite(name, {} if name.endswith((".yaml", ".yml")) else suites())
    return chosen.name, chosen.build(seed, items) if path is None else load_tasks(path, seed, items)


def _warn(problems: Sequence[Problem], file: Any = None) -> None:
    for one in problems:
        print(f"{one.level}: {one}", file=file or sys.stderr)


def _print_evaluation(done: Evaluation, json: bool) -> None:
    from trimpot.evaluation.helm.grid import grid
    from trimpot.evaluation.slices.report import slice_report
    from trimpot.evaluation.summary import summarise

    rows, record = summarise(done.outcomes), done.record
    metrics = grid(done.outcomes, record["model"]["flops_per_token"])
    slices = slice_report(done.outcomes, record["seed"])
    if json:
        scores = [row.as_dict() for row in rows]
        helm = {"helm": metrics.as_dict(), "slices": slices.as_dict()}
        print_json({"folder": str(done.folder), **record, "scores": scores, **helm})
        return
    _print_scores(rows)
    _print_grid(metrics)
    _print_slices(slices)
    unscored = sum(row.answers - row.scored for row in rows if row.slice == "all")
    print(f"not scored: {f'{unscored} answers' if unscored else 'none, every answer has a score'}")
    reasons = Counter(note.partition(": ")[2] for note in record["notes"])
    for reason, count in reasons.most_common(REASONS):
        print(f"  {count} × {reason}")
    if len(reasons) > REASONS:
        print(f"  and {len(reasons) - REASONS} more reasons: see {done.folder / 'evaluation.json'}")
    hits = record["cache"] and f", {record['cache']['hits']} answers from the cache"
    rate = record["tokens_per_second"]
    speed = f", {rate:.0f} generated tokens/s" if rate else ""
    print(f"{record['seconds']:.0f} s{speed}{hits or ''}; outcomes: {done.folder}")


def _print_grid(metrics: Grid) -> None:
    """HELM's scenarios and metric groups, with what was not measured."""
    from trimpot.evaluation.helm.show import grid_lines, grid_table

    _output().print(grid_table(metrics))
    for line in grid_lines(metrics):
        print(line)


def _print_slices(found: SliceReport) -> None:
    """Known slices that differ from the rest of their scenario, and those that were discovered."""
    from trimpot.evaluation.slices.report import discovery_lines, slice_table

    table = slice_table(found.rows)
    print(f"slices that differ from the rest of their scenario: {table.row_count} of {len(found.rows)}")
    if table.row_count:
        _output().print(table)
    for line in discovery_lines(found.discoveries):
        print(line)


def _output() -> Console:
    """Standard output: as wide as its terminal, 120 columns in a pipe."""
    from rich.console import Console

    console = Console(file=sys.stdout)
    return console if console.is_terminal else Console(file=sys.stdout, width=120)


def _print_scores(rows: Sequence[SummaryRow]) -> None:
    from rich.table import Table

    table = Table("task", "slice", "items", "score [95% interval]", "statuses")
    for row in _shown(rows):
        name = row.task if row.perturbation == "none" else f"{row.task} ({row.perturbation})"
        shown = name if row.slice == "all" else ""
        counts = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in row.statuses.items() if count)
        table.add_row(shown, row.slice, str(row.items), _score(row.score, row.better), counts)
    _output().print(table)
    if len(_shown(rows)) < len(rows):
        print("the scores of every slice: --json")


def _shown(rows: Sequence[SummaryRow]) -> list[SummaryRow]:
    """Every task's own row, and those of slices where a screen holds them all."""
    return list(rows) if len(rows) <= SCREEN else [row for row in rows if row.slice == "all"]


def _score(score: Estimate, better: str) -> str:
    """A score with its interval; bits per byte, of which fewer are better, say so."""
    return score.text() + (" bits/byte" if better == "lower" and score.value is not None else "")
