"""The commands. This file imports nothing heavy: ``trimpot --help`` must answer at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from trimpot.cli import (
    behaviour,
    compare,
    doctor,
    evaluate,
    imports,
    judge,
    knobs,
    preflight,
    probe_critical_batch,
    probe_curvature,
    probe_noise_scale,
    probe_precision,
    redteam,
    scaling,
    sources,
    studies,
    topics,
)
from trimpot.cli.group import SHOWN, ShowOr
from trimpot.core.errors import UsageError

app = typer.Typer(
    name="trimpot",
    help="A post-training workbench: what knob is it, when does it fail, which metric does it move.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Output = Annotated[Path | None, typer.Option("--output", help="The run folder; default: runs/NAME-TIME.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with status 1 when a detector fired.")]


@app.command()
def demo(output: Output = None, strict: Strict = False, json: Json = False) -> None:
    """The whole pipeline on the embedded model and generated rows: about 10 minutes on two cores."""
    from trimpot.cli.run import run_command
    from trimpot.models.allocator import keep_freed_memory
    from trimpot.recipe.demo import demo_recipe

    keep_freed_memory()
    run_command(demo_recipe(), "demo", output, None, strict, json)


@app.command()
def run(
    recipes: Annotated[list[Path], typer.Argument(help="Recipe files.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="stage.key=value, repeatable.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print stages, tokens, memory and time; no run.")] = False,
    output: Output = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Go on with this run folder.")] = None,
    system_allocator: Annotated[
        bool, typer.Option("--system-allocator", help="Give freed memory back to the system: slower on a CPU.")
    ] = False,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Run a recipe, or say what it would do."""
    from trimpot.cli.run import dry_run_command, run_command
    from trimpot.models.allocator import keep_freed_memory
    from trimpot.recipe.read import read_recipe

    if resume is not None and output is not None:
        raise UsageError("run", "--output is given beside --resume, which names the folder", "Give one of the two.")

    read = [(path, read_recipe(path, overrides or ())) for path in recipes]
    if dry_run and (resume is not None or output is not None):
        raise UsageError("run", "--dry-run writes no folder", "Leave --output and --resume out.")
    if dry_run:
        dry_run_command([(str(path), recipe) for path, recipe in read], json)
        return
    if len(read) > 1:
        raise UsageError("run", f"{len(read)} recipes given", "Run one at a time, or add --dry-run.")
    path, recipe = read[0]
    if not system_allocator:
        keep_freed_memory()
    run_command(recipe, path.stem, output, resume, strict, json)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    json: Json = False,
) -> None:
    """Write (again) the report of a run: one HTML file that opens offline."""
    from trimpot.cli.run import report_command

    report_command(run, json)


cards = typer.Typer(
    cls=ShowOr,
    help="A knob in ten lines: card [KNOB] [--check] [--json]; card new NAME begins one for a paper you have read.",
    rich_markup_mode=None,
)
cards.command(SHOWN)(knobs.card)
cards.command("new")(topics.card_new)
app.add_typer(cards, name="card")
app.command()(topics.topic)
app.add_typer(studies.app, name="study")
app.command()(sources.source)
app.command()(sources.claim)
app.command("eval")(evaluate.evaluate)
app.add_typer(evaluate.app, name="suite")
app.command()(compare.compare)
app.command()(compare.power)
app.command()(compare.looks)
app.command()(judge.judge)
app.command()(judge.raters)
app.command()(redteam.redteam)
app.command()(behaviour.behaviour)
app.command("import")(imports.import_logs)
app.command()(preflight.preflight)
app.command()(doctor.doctor)
probe = typer.Typer(help="Measure a model's training: what a step can tell of the next.", rich_markup_mode=None)
probe.command("noise-scale")(probe_noise_scale.noise_scale)
probe.command("critical-batch")(probe_critical_batch.critical_batch)
probe.command()(probe_curvature.sharpness)
probe.command()(probe_curvature.hessian)
probe.command()(probe_curvature.health)
probe.command()(probe_precision.precision)
probe.command()(probe_precision.recompute)
app.add_typer(probe, name="probe")
app.add_typer(scaling.app, name="scaling")


def main() -> None:
    """Entry point: a UsageError becomes one line on standard error and exit status 2."""
    try:
        app()
    except UsageError as error:
        print(f"trimpot: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
