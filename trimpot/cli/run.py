"""What ``run``, ``demo`` and ``report`` print: progress on standard error, the result on standard output."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from trimpot.core.findings import Finding
from trimpot.recipe.dry_run import StageEstimate, estimate
from trimpot.recipe.read import Recipe
from trimpot.recipe.run import run_recipe
from trimpot.recipe.schema import Stage
from trimpot.site.report import write_report
from trimpot.site.summary import StageSummary, summarise
from trimpot.site.summary import as_json as summary_json
from trimpot.site.text import duration, number, percent, percent_interval, points, points_interval
from trimpot.store.environment import now
from trimpot.store.run_folder import RunFolder
from trimpot.training.loop import Step

SHOWN = ("loss", "reward", "rewards/accuracies", "accuracy", "kl", "entropy")


class Printer:
    """Shows a run's progress: a bar with tokens/s and time left for every stage, alarms as they come."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bars = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self.task: TaskID | None = None
        self.generations: dict[str, TaskID] = {}
        self.alarms = 0

    def stage_begins(self, stage: Stage, done: int, steps: int) -> None:
        self.task = self.bars.add_task(stage.name, total=steps, completed=done, figures="")

    def step_done(self, stage: Stage, step: Step) -> None:
        assert self.task is not None
        figures = [f"{step.metrics['tokens_per_second']:.0f} tokens/s"]
        for name in SHOWN:
            value = step.metrics.get(name)
            if value is not None:
                figures.append(f"{name} {value:.3g}")
        self.bars.update(self.task, advance=1, figures=" · ".join(figures[:4]))
        if not self.console.is_terminal and (step.number % 10 == 0 or step.number == 1):
            self.console.print(f"{stage.name} step {step.number}: {' · '.join(figures)}", highlight=False)

    def alarm(self, stage: Stage, finding: Finding) -> None:
        self.alarms += 1
        where = f"alarm {finding.detector} at {stage.name} step {finding.step}"
        text = f"{where}: {finding.message} What to do: {finding.mend}"
        self.console.print(text, style="yellow", highlight=False, markup=False)

    def progress(self, what: str, done: int, total: int) -> None:
        if what not in self.generations:
            figures = "checks" if what == "preflight" else "completions"
            self.generations[what] = self.bars.add_task(what, total=total, figures=figures)
        self.bars.update(self.generations[what], completed=done)

    def note(self, text: str) -> None:
        self.console.print(text, style="dim", highlight=False, markup=False)


def run_command(
    recipe: Recipe, name: str, output: Path | None, resume: Path | None, strict: bool, as_json: bool
) -> None:
    """Runs a recipe with progress, writes its report and prints the stages' table."""
    target = resume or output or Path("runs") / f"{name}-{now()[:19].replace(':', '').replace('T', '-')}"
    printer = Printer()
    try:
        with printer.bars:
            run = run_recipe(recipe, target, resume=resume is not None, listener=printer, preflight=True)
    except KeyboardInterrupt:
        begun = (target / "recipe.yaml").exists()
        go_on = f"Go on with: trimpot run {target}/recipe.yaml --resume {target}"
        print(f"trimpot: stopped. {go_on if begun else 'The run had not begun.'}", file=sys.stderr)
        raise typer.Exit(130) from None
    path = write_report(run)
    _print_result(run, path, as_json)
    if strict and printer.alarms:
        raise typer.Exit(1)


def report_command(folder: Path, as_json: bool) -> None:
    """Writes the report of an existing run and prints the stages' table."""
    run = RunFolder.open(folder)
    _print_result(run, write_report(run), as_json)


def _print_result(run: RunFolder, report: Path, as_json: bool) -> None:
    summary = summarise(run)
    if as_json:
        print(json_module.dumps({**summary_json(summary), "report": str(report)}))
        return
    table = Table("stage", "steps", "seconds", "tokens/s", "accuracy [95% interval]", "against base", "alarms")
    for stage in summary.stages:
        table.add_row(*_cells(stage))
    _output().print(table)
    print(f"report: {report}")


def _cells(stage: StageSummary) -> tuple[str, ...]:
    steps = "" if stage.steps is None else str(stage.steps)
    speed = "" if stage.tokens_per_second is None else number(stage.tokens_per_second)
    accuracy = against = ""
    if stage.evaluation is not None:
        accuracy = f"{percent(stage.evaluation.accuracy.value)} {percent_interval(stage.evaluation.accuracy)}"
        if stage.evaluation.difference is not None:
            against = f"{points(stage.evaluation.difference)} {points_interval(stage.evaluation.difference)}"
    return stage.name, steps, duration(stage.seconds), speed, accuracy, against, str(len(stage.alarms) or "")


def dry_run_command(recipes: Sequence[tuple[str, Recipe]], as_json: bool) -> None:
    """Prints what each recipe would do: stages, tokens, memory and time."""
    console = Console(stderr=True)
    results: dict[str, list[StageEstimate]] = {}
    for path, recipe in recipes:
        console.print(f"reading {path}", style="dim", highlight=False)
        results[path] = estimate(recipe)
    if as_json:
        print(json_module.dumps({path: [stage.as_dict() for stage in stages] for path, stages in results.items()}))
        return
    for path, stages in results.items():
        table = Table("stage", "rows", "steps", "tokens/step", "tokens", "memory", "time", title=path)
        for stage in stages:
            table.add_row(*stage.cells())
        total = sum(stage.seconds for stage in stages)
        _output().print(table)
        print(f"in all about {minutes(total)}; peak memory about {max(s.memory_bytes for s in stages) / 1e9:.1f} GB")


def _output() -> Console:
    """Standard output: as wide as its terminal, 120 columns in a pipe."""
    console = Console(file=sys.stdout)
    return console if console.is_terminal else Console(file=sys.stdout, width=120)


def minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
