"""The command preflight: parse, call, print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trimpot.cli.knobs import print_json

if TYPE_CHECKING:
    from trimpot.preflight.check import Result

NOT_APPLICABLE = "not applicable"
STYLES = {"failed": "red", "out of time": "yellow", "passed": "green", NOT_APPLICABLE: "dim"}
"""What a check may answer, and its colour."""


def preflight(
    recipe: Annotated[Path, typer.Argument(help="A recipe file.")],
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Also the checks that take short runs: minutes in place of seconds.")
    ] = False,
    stage: Annotated[str | None, typer.Option("--stage", help="This stage alone.")] = None,
    check: Annotated[list[str] | None, typer.Option("--check", help="This check alone, repeatable.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="stage.key=value, repeatable.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Check what a recipe would train before it does: rows, masks, leaks, gradients; exit 1 when a check fails."""
    from trimpot.cli.bars import progress_bars
    from trimpot.preflight.settings import check_names
    from trimpot.recipe.read import read_recipe

    check_names(tuple(check or ()), "--check")
    read = read_recipe(recipe, overrides or ())
    from trimpot.recipe.preflight import Preflight
    from trimpot.recipe.preflight import preflight as make_checks

    with progress_bars() as bars:
        asked = Preflight(thorough, read.preflight.skip, tuple(check or ()), stage, bars("preflight"))
        results = make_checks(read, asked)
    failed = [one for one in results if one.failed]
    if json:
        skipped = list(read.preflight.skip)
        print_json({"recipe": str(recipe), "skip": skipped, "results": [one.as_dict() for one in results]})
    else:
        _print_table(results, read.preflight.skip)
    if failed:
        raise typer.Exit(1)


def _print_table(results: Sequence[Result], skipped: Sequence[str]) -> None:
    """The answers as a table, then what to do about each failure, then what does not apply and why."""
    import sys

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout)
    console = console if console.is_terminal else Console(file=sys.stdout, width=160)
    table = Table("stage", "check", "result", "measured", "passes when", "seconds")
    for one in results:
        if one.status != NOT_APPLICABLE:
            cells = (one.stage, one.check, one.status, one.text, one.rule, f"{one.seconds:.1f}")
            table.add_row(*(Text(cell, STYLES[one.status] if cell == one.status else "") for cell in cells))
    if table.row_count:
        console.print(table)
    for one in results:
        if one.failed:
            console.print(Text(f"{one.stage}: {one.check} failed. {one.mend}", STYLES[one.status]))
    for line in not_applicable(results):
        console.print(Text(line, STYLES[NOT_APPLICABLE]))
    counts = {status: sum(one.status == status for one in results) for status in STYLES}
    said = ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "nothing to check"
    left_out = f"; skipped by the recipe: {', '.join(skipped)}" if skipped else ""
    print(f"{said}{left_out}; {sum(one.seconds for one in results):.1f} s")


def not_applicable(results: Sequence[Result]) -> list[str]:
    """What does not apply, in one line for each stage and reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in results:
        if one.status == NOT_APPLICABLE:
            found.setdefault((one.stage, one.text), []).append(one.check)
    return [f"{stage}: not applicable: {', '.join(checks)}: {why}" for (stage, why), checks in found.items()]
