"""The command doctor: what is wrong with a training, from its log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trimpot.cli.knobs import print_json, print_lines
from trimpot.core.errors import UsageError


def doctor(
    path: Annotated[Path, typer.Argument(help="A trimpot run, trainer_state.json, event files, mlruns, CSV, JSONL, …")],
    run: Annotated[str | None, typer.Option("--run", help="Of several runs or stages in it, this one.")] = None,
    beta: Annotated[float | None, typer.Option(help="The β of a preference run that TRL logged; default 0.1.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write it with its curves as one HTML file.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 1 when something was found.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """What is wrong with a training, from its log: findings by evidence, what to mend, and what was not looked at."""
    from trimpot.cli.bars import progress_bars
    from trimpot.doctor.examine import FINDINGS, examine
    from trimpot.doctor.read import read_logs
    from trimpot.doctor.text import all_lines

    if beta is not None and not 0 < beta < float("inf"):
        raise UsageError("--beta", f"{beta} is no β", "Give the run's own, a number above 0, as in 0.1.")
    with progress_bars() as bar:
        logs = read_logs(path, run, bar("reading"))
        found = [examine(log, beta, bar(f"examining {log.title}")) for log in logs]
    if html is not None:
        from trimpot.doctor.page import write_page

        write_page(html, found)
    if json:
        print_json({"path": str(path), "runs": [one.as_dict() for one in found], "page": html and str(html)})
    else:
        print_lines(all_lines(found))
        print_lines([("page:", str(html))] if html is not None else [])
    if strict and any(one.verdict == FINDINGS for one in found):
        raise typer.Exit(1)
