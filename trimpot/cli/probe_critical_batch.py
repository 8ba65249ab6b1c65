"""The command probe critical-batch: parse, call, print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trimpot.cli.knobs import print_json, print_lines
from trimpot.core.errors import UsageError

if TYPE_CHECKING:
    from trimpot.core.stats import Estimate
    from trimpot.statistics.critical_batch import CriticalBatch, SweepRun

SMALL = {"batches": "1,2,4,8,16,32,64", "rates": "0.002,0.001", "goal": 0.5}
"""Of a sweep of the tiny model where nothing else is asked for: about two minutes on one core."""


def critical_batch(
    runs: Annotated[
        Path | None,
        typer.Argument(help="A CSV of runs to one goal: batch, steps (or examples); reached, learning_rate, seed."),
    ] = None,
    tiny: Annotated[bool, typer.Option("--tiny", help="Make the runs here: a tiny model on random text.")] = False,
    batch: Annotated[int | None, typer.Option(min=1, help="The batch in use: what does it cost?")] = None,
    batches: Annotated[str, typer.Option(help="--tiny: batch sizes, parted by commas.")] = str(SMALL["batches"]),
    rates: Annotated[str, typer.Option(help="--tiny: learning rates, the best of which counts.")] = str(SMALL["rates"]),
    seeds: Annotated[int, typer.Option(min=1, help="--tiny: seeds.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """The batch at which steps and examples cost alike, from runs to one goal: (S/S_min − 1)(E/E_min − 1) = 1."""
    from trimpot.probes.critical_batch import read_sweep
    from trimpot.statistics.critical_batch import FEWEST_BATCHES, best_runs, fit_critical_batch

    if (runs is None) == (not tiny):
        raise UsageError("critical-batch", "takes a file of runs or --tiny", "Give one of the two.")
    if runs is None:
        own = _tiny_runs(batches, rates, seeds)
        kept = [run for run in own if run.reached]
        missed = sorted({run.batch for run in own} - {run.batch for run in kept})
    else:
        kept, missed = best_runs(read_sweep(runs))
    reached = len({run.batch for run in kept})
    if reached < FEWEST_BATCHES:
        where = "--batches" if runs is None else str(runs)
        mend = f"Give {FEWEST_BATCHES} at least, far apart."
        raise UsageError(where, f"has {reached} batch sizes that reached the goal", mend)
    found = fit_critical_batch([run.batch for run in kept], [run.steps for run in kept])
    if json:
        print_json(_as_json(found, kept, missed, batch))
    else:
        print_lines(_lines(found, kept, missed, batch))


def _tiny_runs(batches: str, rates: str, seeds: int) -> list[SweepRun]:
    from trimpot.cli.bars import progress_bars
    from trimpot.studies.batch_sweep import sweep

    sizes = [int(one) for one in _numbers("--batches", batches)]
    with progress_bars() as bars:
        over = (sizes, _numbers("--rates", rates), range(seeds))
        return sweep({"goal": SMALL["goal"]}, over, bars("runs to the goal"))


def _numbers(option: str, text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(option, f"{text!r} is not a list of numbers", "Part them by commas.") from error
    if min(found) <= 0 or (option == "--batches" and any(one != int(one) for one in found)):
        raise UsageError(option, f"{text!r} has a number that cannot be one", "Give numbers above 0, batches whole.")
    return found


def _as_json(
    found: CriticalBatch, kept: Sequence[SweepRun], missed: Sequence[int], batch: int | None
) -> dict[str, Any]:
    from dataclasses import asdict

    costs = _costs(found.critical_batch, batch)
    return {**found.as_dict(), "batch": costs, "runs": [asdict(run) for run in kept], "not_reached": list(missed)}


def _costs(critical: Estimate, batch: int | None) -> dict[str, float] | None:
    from trimpot.statistics.critical_batch import trade

    assert critical.value is not None
    return None if batch is None else trade(batch, critical.value).as_dict()


def _lines(
    found: CriticalBatch, kept: Sequence[SweepRun], missed: Sequence[int], batch: int | None
) -> list[tuple[str, str]]:
    critical = found.critical_batch
    lines = [
        ("critical batch:", f"{_text(critical)}: there both steps and examples are twice their least"),
        ("fewest steps:", _text(found.fewest_steps)),
        ("fewest examples:", _text(found.fewest_examples)),
    ]
    for run in kept:
        rate = "" if run.learning_rate is None else f" at learning rate {run.learning_rate:g}"
        lines.append((f"batch {run.batch}:", f"{run.steps:.4g} steps, {run.steps * run.batch:.4g} examples{rate}"))
    costs = _costs(critical, batch)
    if costs is not None:
        said = f"{costs['steps']:.3g}x the fewest steps, {costs['examples']:.3g}x the fewest examples"
        lines.append((f"batch {batch} costs:", said))
    if found.error is not None:
        lines.append(("about the fit:", f"steps lie {100 * found.error:.2g}% off it (standard deviation)"))
    lines += [("warning:", f"no run at batch {size} reached the goal") for size in missed]
    lines += [("warning:", found.warning)] if found.warning else []
    return lines


def _text(one: Estimate) -> str:
    return one.text(".4g") if one.low is not None else f"{one.text('.4g')} (the runs do not bound it)"
