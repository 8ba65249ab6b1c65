"""The command import: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trimpot.cli.knobs import print_json, print_lines
from trimpot.core.errors import UsageError


def import_logs(
    files: Annotated[list[Path], typer.Argument(help="lm-eval's samples_*.jsonl, inspect_ai's .eval or .json.")],
    output: Annotated[Path, typer.Option("--output", help="Where the outcomes go.")] = Path("outcomes.parquet"),
    metric: Annotated[
        str | None, typer.Option("--metric", help="Which of several metrics or scorers (SCORER or SCORER/KEY).")
    ] = None,
    slices: Annotated[
        list[str] | None, typer.Option("--slice", help="A field of the documents or metadata to slice by, repeatable.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Read lm-eval's sample logs and inspect_ai's logs into outcomes, which compare and the reports read."""
    from trimpot.evaluation.formats.detect import read_logs
    from trimpot.evaluation.formats.imported import counts
    from trimpot.store.outcomes import write_outcomes

    if output.exists():
        raise UsageError(str(output), "is there already", "Name another --output, or remove it.")
    found = read_logs(files, metric, slices or ())
    outcomes = [outcome for one in found for outcome in one.outcomes]
    write_outcomes(output, outcomes)
    tasks, notes = counts(outcomes), [note for one in found for note in one.notes]
    if json:
        read = [{"file": str(path), "format": one.format} for path, one in zip(files, found, strict=True)]
        print_json({"outcomes": str(output), "n": len(outcomes), "files": read, "tasks": tasks, "notes": notes})
        return
    for name, told in tasks.items():
        statuses = ", ".join(f"{count} {status}" for status, count in told["statuses"].items() if count)
        mean = "no scores" if told["mean"] is None else f"mean score {told['mean']:.4g}"
        print_lines([(name, f"{told['n']} outcomes of {told['items']} items: {statuses}; {mean}")])
    print_lines([*[("note:", note) for note in notes], (f"{len(outcomes)} outcomes", f"in {output}")])
