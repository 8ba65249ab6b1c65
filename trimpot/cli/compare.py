"""The commands compare, power and looks: is B better than A, what would show it, and how often may one look."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trimpot.cli.flags import noted
from trimpot.cli.knobs import print_json, print_lines
from trimpot.core.errors import UsageError
from trimpot.site.decimals import decimal, p_value

if TYPE_CHECKING:
    from trimpot.core.stats import Estimate
    from trimpot.evaluation.compare.gate import RuleResult
    from trimpot.evaluation.compare.result import Comparison, Row
    from trimpot.statistics.planning import Plan

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
COLOURS = {"better": "green", "worse": "red", "equivalent": "cyan", "underpowered": "yellow"}
OUTCOMES = {"pass": "green", "fail": "red", "warn": "yellow"}
EFFECTS = (0.01, 0.02, 0.03, 0.05, 0.10)
WIDTH = 150


def compare(
    context: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A", help="The baseline: RUN/STAGE, an evaluation, a .parquet file.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The new one. Training seeds: several, parted by commas.")],
    gate: Annotated[Path | None, typer.Option(help="Rules in YAML; exit 1 with the reason where one fails.")] = None,
    slices: Annotated[
        list[str] | None, typer.Option("--slice", help="Only this slice (task and perturbation too); repeatable.")
    ] = None,
    correction: Annotated[str | None, typer.Option(help="Over rows: holm (default) or bh.")] = None,
    margin: Annotated[float | None, typer.Option(help="The smallest difference that matters; default 0.02.")] = None,
    json: Json = False,
    _noise: Annotated[
        str | None, typer.Option("--noise", callback=noted, help="A evaluated again: shows the A/A noise floor.")
    ] = None,
    _page: Annotated[
        Path | None, typer.Option("--page", callback=noted, help="Write it with its samples as one HTML file.")
    ] = None,
) -> None:
    """Is B better than A, where, and is it real? Paired by item, clustered, corrected; positive is always B better."""
    from trimpot.evaluation.compare.compare import compare_table, twin_of
    from trimpot.evaluation.compare.files import frames_of
    from trimpot.evaluation.compare.gate import check_gate, read_gate
    from trimpot.evaluation.compare.settings import CompareSettings
    from trimpot.evaluation.compare.table import pair
    from trimpot.evaluation.compare.variance import variances

    noise, page = context.meta["_noise"], context.meta["_page"]
    rules = None if gate is None else read_gate(gate)
    settings = CompareSettings() if rules is None else rules.settings
    given: dict[str, Any] = {"correction": correction, "margin": margin, "slices": tuple(slices) if slices else None}
    settings = dataclasses.replace(settings, **{name: value for name, value in given.items() if value is not None})
    settings.check("compare")
    first = frames_of(a)
    second = frames_of(b)
    table = pair(first, second, settings, (a, b))
    twin = None if noise is None else twin_of(first, frames_of(noise), settings, (a, noise))
    found = compare_table(table, settings, twin, (*variances(first, "A"), *variances(second, "B")))
    results = () if rules is None else check_gate(rules, table)
    passed = all(one.outcome != "fail" for one in results)
    if page is not None:
        from trimpot.site.comparison_page import read_answers, write_page

        write_page(page, found, table, read_answers(a, b))
    if json:
        verdict = None if rules is None else {"passed": passed, "rules": [one.as_dict() for one in results]}
        print_json({**found.as_dict(), "gate": verdict, "page": None if page is None else str(page)})
    else:
        _print_comparison(found, noise is not None)
        _print_gate(results, passed)
        print_lines([("page:", str(page))] if page is not None else [])
    if not passed:
        for one in results:
            if one.outcome == "fail":
                print(f"trimpot: gate: {_told(one)}", file=sys.stderr)
        raise typer.Exit(1)


def _print_comparison(found: Comparison, with_floor: bool) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    console = _console()
    settings = found.settings
    for group in dict.fromkeys(row.key.group for row in found.rows if row.counts.paired):
        title = f"{group}: A = {found.a}, B = {found.b}. Positive: B is better."
        table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE, padding=(0, 1, 0, 0))
        headings = ("slice", "items", "A", "B", f"improvement [{100 * (1 - settings.alpha):.3g}%]",
                    f"p ({settings.correction})", "verdict", "detectable", "flips", "items to decide")  # fmt: skip
        for heading in (*headings, *(["A/A floor"] if with_floor else [])):
            table.add_column(heading, justify="left" if heading in ("slice", "verdict") else "right", no_wrap=True)
        for row in found.rows:
            if row.key.group == group:
                table.add_row(*_cells(row, with_floor))
        console.print(table)
    lines: list[tuple[str, str]] = [("seeds:", found.seeds)]
    lines += [("note:", f"{row.key.group} {row.key.label}: {note}") for row in found.rows for note in row.notes]
    for drift in found.drifts:
        if drift.length_ratio is not None and drift.length_ratio.value is not None:
            lines.append(("length:", f"{drift.group}: B's answers are {drift.length_ratio.text('.2f')} times as long"))
        if drift.calibration is not None:
            change = f"{drift.calibration_a:.3f} to {drift.calibration_b:.3f}, change {_signed(drift.calibration)}"
            lines.append(("calibration:", f"{drift.group}: error {change}"))
        lines += [("note:", f"{drift.group}: {note}") for note in drift.notes]
    lines += [("variance:", one.sentence) for one in found.variances]
    lines += [line for row in found.rows if row.key.kind == "all" for line in _unreadable(row)]
    lines += [("warning:", text) for text in (*(one.sentence for one in found.paradoxes), *found.warnings)]
    print_lines(lines)


def _cells(row: Row, with_floor: bool) -> list[str]:
    from trimpot.evaluation.compare.result import items_to_decide

    clustered = row.difference.clusters not in (0, row.counts.paired)
    items = f"{row.counts.paired} in {row.difference.clusters}" if clustered else str(row.counts.paired)
    decides = items_to_decide(row)
    cells = [
        row.key.label, items, decimal(row.mean_a), decimal(row.mean_b), _signed(row.interval), p_value(row.p_adjusted),
        f"[{COLOURS[row.verdict]}]{row.verdict}[/]", decimal(row.detectable), f"+{row.flips.gained} −{row.flips.lost}",
        "" if decides is None else str(decides),
    ]  # fmt: skip
    from rich.markup import escape

    cells = [cell if place == 6 else escape(cell) for place, cell in enumerate(cells)]
    return [*cells, *([decimal(None if row.floor is None else row.floor.floor)] if with_floor else [])]


def _unreadable(row: Row) -> list[tuple[str, str]]:
    """What is said of answers that could not be read, where there were any."""
    a, b, change = row.parse_failed
    if a is None or b is None or not (a or b):
        return []
    text = f"{row.key.group}: {100 * a:.1f}% in A, {100 * b:.1f}% in B (they score worst), change {_signed(change)}"
    return [("unreadable:", text)]


def _print_gate(results: Sequence[RuleResult], passed: bool) -> None:
    if not results:
        return
    console = _console()
    for one in results:
        console.print(f"[{OUTCOMES[one.outcome]}]{one.outcome}[/] ", end="")
        console.print(_told(one), highlight=False, markup=False, soft_wrap=True)
    console.print(f"gate: {'passed' if passed else 'failed'}", highlight=False)


def _told(one: RuleResult) -> str:
    """The rule, its answer and why, in one line."""
    said = {"pass": "passes", "fail": "fails", "cannot tell": "cannot tell"}[one.answer]
    return f"{one.rule} {said}: {one.reason}"


def power(
    effect: Annotated[float, typer.Option(help="The true difference that is to be found.")] = 0.03,
    sd: Annotated[float | None, typer.Option(help="SD of one item's difference; default 1/3 (Miller 2024).")] = None,
    outcomes: Annotated[str | None, typer.Option(help="Measure it: one evaluation, or two parted by a comma.")] = None,
    seeds: Annotated[int, typer.Option(help="Training seeds on each side.")] = 1,
    seed_sd: Annotated[float, typer.Option(help="SD of a side's mean score over training seeds.")] = 0.0,
    clusters: Annotated[int | None, typer.Option(help="Clusters that there are (documents, templates).")] = None,
    icc: Annotated[float | None, typer.Option(help="Share of a difference's variance between clusters.")] = None,
    json: Json = False,
) -> None:
    """How many items and training seeds does an effect need? 3 points at 80% power: 969 items (Miller 2024)."""
    from trimpot.evaluation.compare.files import frames_of
    from trimpot.evaluation.compare.plan import PUBLISHED_SD, spread_of
    from trimpot.statistics.planning import Plan

    if sd is not None and outcomes is not None:
        raise UsageError("power", "--sd is given beside --outcomes, which measures it", "Give one of the two.")
    if not abs(effect) > 0:
        raise UsageError("--effect", f"{effect} is no effect", "Give a number other than 0, as in 0.03.")
    if icc and clusters is None and outcomes is None:
        raise UsageError("--icc", "says nothing without the number of clusters", "Give --clusters too.")
    if clusters is not None and icc is None and outcomes is None:
        raise UsageError("--clusters", "says nothing without the share of variance between them", "Give --icc too.")
    measured = None if outcomes is None else spread_of(frames_of(outcomes))
    if measured is not None:
        sd, source = measured.sd, measured.source
        icc = measured.icc if icc is None else icc
        clusters = measured.clusters if clusters is None and measured.clusters < measured.items else clusters
    else:
        source = "given" if sd is not None else "Miller 2024"
        sd = PUBLISHED_SD if sd is None else sd
    try:
        plan = Plan(sd, icc or 0.0, clusters, seeds, seed_sd)
    except ValueError as error:
        raise UsageError("power", str(error), "Mend that option.") from error
    effects = sorted({*EFFECTS, abs(effect)})
    rows = [(one, plan, dataclasses.replace(plan, power=0.9)) for one in effects]
    asked = next(row for row in rows if row[0] == abs(effect))
    if json:
        print_json(_power_json(plan, source, asked, rows))
        return
    _print_power(plan, source, abs(effect), rows)


PowerRow = tuple[float, "Plan", "Plan"]


def _power_json(plan: Plan, source: str, asked: PowerRow, rows: Sequence[PowerRow]) -> dict[str, Any]:
    def one(row: PowerRow) -> dict[str, Any]:
        effect, usual, high = row
        return {
            "effect": effect,
            "items": usual.items(effect),
            "items_at_90": high.items(effect),
            "seeds_at_least": usual.seeds_needed(effect) if plan.seed_sd else None,
        }

    return {**one(asked), "plan": {**dataclasses.asdict(plan), "sd_from": source}, "table": [one(row) for row in rows]}


def _print_power(plan: Plan, source: str, effect: float, rows: Sequence[PowerRow]) -> None:
    from rich.table import Table

    table = Table("effect", "items at 80%", "items at 90%", "training seeds a side, at least")
    for one, usual, high in rows:
        needed = usual.seeds_needed(one)
        seeds = "–" if not plan.seed_sd else "too many" if needed is None else str(needed)
        cells = [f"{one:g}", _items(usual.items(one)), _items(high.items(one)), seeds]
        table.add_row(*cells, style="bold" if one == effect else None)
    _console().print(table)
    told = f"SD of one item's difference {plan.sd:.3f} ({source}); two-sided 5%"
    if plan.clusters is not None:
        told += f"; {plan.clusters} clusters, {plan.icc:.2f} of the variance between them"
    if plan.seed_sd:
        told += f"; {plan.seeds} training seeds a side, SD {plan.seed_sd:g} over seeds"
    else:
        told += "; what another training seed would change is left out (--seeds, --seed-sd)"
    print_lines([("", told)])


def _items(count: int | None) -> str:
    return "no number" if count is None else f"{count:,}"


def looks(
    count: Annotated[int, typer.Argument(min=1, max=100, help="How often you will look.")],
    spending: Annotated[str, typer.Option(help="obrien_fleming (strict early) or pocock (even).")] = "obrien_fleming",
    level: Annotated[float, typer.Option(help="Confidence over all looks.")] = 0.95,
    json: Json = False,
) -> None:
    """Looking more than once raises false alarms: what p must be below at each look to keep 5% over all."""
    from trimpot.statistics.sequential import boundaries

    try:
        found = boundaries([number / count for number in range(1, count + 1)], level, spending)  # type: ignore[arg-type]
    except ValueError as error:
        raise UsageError("looks", str(error), "Give obrien_fleming or pocock, and a level such as 0.95.") from error
    if json:
        print_json({"spending": spending, "level": level, "looks": [dataclasses.asdict(one) for one in found]})
        return
    from rich.table import Table

    table = Table("look", "data in", "|z| at least", "p at most", "error used")
    for number, one in enumerate(found, start=1):
        table.add_row(
            str(number), f"{one.fraction:.0%}", f"{one.boundary:.4f}", f"{one.p_value:.2g}", f"{one.spent:.4f}"
        )
    _console().print(table)
    print_lines([("in a gate:", f"compare: {{looks: {count}, look: 1, spending: {spending}}}")])


def _console() -> Any:
    from rich.console import Console

    console = Console(file=sys.stdout)
    return console if console.is_terminal else Console(file=sys.stdout, width=WIDTH)


def _signed(estimate: Estimate) -> str:
    return "–" if estimate.value is None else estimate.text("+.3f")
