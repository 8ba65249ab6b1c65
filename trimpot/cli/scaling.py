"""The commands scaling fit, split and constants: a law through finished runs, what it predicts, and published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trimpot.cli.bars import progress_bars
from trimpot.cli.flags import noted
from trimpot.cli.knobs import print_json, print_lines
from trimpot.core.errors import UsageError, nearest
from trimpot.core.progress import ignore

if TYPE_CHECKING:
    from trimpot.core.stats import Estimate
    from trimpot.data.scaling_runs import RunTable
    from trimpot.statistics.scaling_constants import Published
    from trimpot.statistics.scaling_laws import Fit, HeldOut

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Form = Annotated[
    str,
    typer.Option(help="chinchilla, chinchilla-parameters|tokens, kaplan, or kaplan-parameters|tokens|compute."),
]
Bootstrap = Annotated[int, typer.Option(min=0, help="Resamples of the runs; 0: no intervals. 1000 take half a minute.")]
SPLIT = ("parameters", "tokens", "tokens_per_parameter", "parameters_exponent", "tokens_exponent", "loss")
app = typer.Typer(
    help="Scaling laws: fit one to your runs, split a budget of compute, list published constants.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Line = tuple[str, str]


@app.command()
def fit(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="Finished runs, a row each: .csv, .jsonl or .parquet.")],
    form: Form = "chinchilla",
    hold_out: Annotated[
        str | None,
        typer.Option("--hold-out", help="Fit without the largest and predict it: size (all its runs) or run (one)."),
    ] = None,
    predict: Annotated[
        list[str] | None, typer.Option(help="The loss at a point, as N=1e9,D=2e10 or C=1e21; repeatable.")
    ] = None,
    bootstrap: Bootstrap = 1000,
    plot: Annotated[Path | None, typer.Option(help="Write a chart: .svg or .png.")] = None,
    json: Json = False,
    _beyond: Annotated[
        bool, typer.Option("--beyond", callback=noted, help="Predict more than 10 times beyond the runs too.")
    ] = False,
    _column: Annotated[
        list[str] | None,
        typer.Option(
            "--column", callback=noted,
            help="ROLE=COLUMN, where a name is not recognised; roles: parameters, tokens, compute, loss, run.",
        ),
    ] = None,
    _cluster: Annotated[
        str | None,
        typer.Option("--cluster", callback=noted, help="Resample together: rows, run or size (one model size)."),
    ] = None,
    _against: Annotated[
        list[str] | None,
        typer.Option("--against", callback=noted, help="A published set: which of its constants the intervals hold."),
    ] = None,
) -> None:  # fmt: skip
    """Fit a scaling law to runs, with bootstrap intervals; hold the largest out to see whether it is predicted."""
    from trimpot.data.scaling_runs import read_runs

    options = context.meta
    points = [_point(text) for text in predict or ()]
    published = _published(options["_against"] or (), form)
    if plot is not None:
        from trimpot.site.scaling_chart import check_ending, draw_scaling

        check_ending(plot)
    table = read_runs(file, _pairs(options["_column"] or ()), options["_cluster"])
    found = _fitted(table, form, hold_out, bootstrap, options["_beyond"])
    fitted = _law_of(found)
    predicted = [(point, fitted.predict(point, options["_beyond"])) for point in points]
    holds = {one.name: fitted.constant_intervals_hold(one.constants) for one in published}
    picture = None if plot is None else str(draw_scaling(found, plot))
    if json:
        print_json({**_fit_json(table, found, predicted, holds), "chart": picture})
        return
    lines = [*_table_lines(table, file), *_fit_lines(fitted), *_held_lines(found)]
    lines += [(f"at {_point_text(point)}:", f"loss {one.text('.4g')}") for point, one in predicted]
    lines += [(f"{name}:", _holds_text(one)) for name, one in holds.items()]
    print_lines([*lines, *([] if picture is None else [("chart:", picture)])])


@app.command()
def split(
    compute: Annotated[float, typer.Argument(help="The budget in floating-point operations, as 1e21.")],
    constants: Annotated[str | None, typer.Option(help="A published set: see trimpot scaling constants.")] = None,
    runs: Annotated[str | None, typer.Option(help="Or your own runs, to which a law is fitted.")] = None,
    form: Form = "chinchilla",
    bootstrap: Bootstrap = 1000,
    beyond: Annotated[bool, typer.Option("--beyond", help="Also more than 10 times beyond the law's runs.")] = False,
    json: Json = False,
) -> None:
    """How many parameters and tokens give the least loss for a budget, by a published law or one of your own runs."""
    from trimpot.core.stats import Estimate
    from trimpot.data.scaling_runs import read_runs
    from trimpot.statistics.scaling_constants import Published
    from trimpot.statistics.scaling_laws import fit as fit_law

    if (constants is None) == (runs is None):
        raise UsageError("split", "takes one of --constants and --runs", "Give one: a published set, or a file.")
    if constants is not None:
        values = Published(constants).split(compute, beyond)
        found = {name: Estimate(value, None, None, 0, "published constants") for name, value in values.items()}
    else:
        with progress_bars() as bars:
            progress = bars("resamples") if bootstrap else ignore
            fitted = fit_law(read_runs(str(runs)).runs, form, bootstrap, progress=progress)
        found = fitted.split(compute, beyond)
    if json:
        from dataclasses import asdict

        print_json({"compute": compute, "law": constants or form, **{name: asdict(found[name]) for name in SPLIT}})
        return
    print_lines([(f"{compute:.4g} operations:", f"{constants or f'{form}, fitted to {runs}'}")])
    print_lines([(f"{name.replace('_', ' ')}:", found[name].text(".4g")) for name in SPLIT])


@app.command()
def constants(
    name: Annotated[str | None, typer.Argument(help="One set; without it all.")] = None, json: Json = False
) -> None:  # fmt: skip
    """Published scaling laws, each set of constants whole, with its source, and what their runs covered."""
    from trimpot.statistics.scaling_constants import CRITICAL_EXPONENT, CRITICAL_TOKENS, PUBLISHED, Published

    chosen = [Published(one).as_dict() for one in ([name] if name is not None else PUBLISHED)]
    if json:
        critical = {"tokens": CRITICAL_TOKENS, "exponent": CRITICAL_EXPONENT, "source": "openai-scaling",
                    "equation": "B_crit = tokens / L^(1/exponent)"}  # fmt: skip
        print_json({"sets": chosen, "critical_batch": critical})
        return
    for one in chosen:
        print_lines(_set_lines(one))
    if name is None:
        equation = f"B_crit = {CRITICAL_TOKENS:g} / L^(1/{CRITICAL_EXPONENT:g}) tokens (openai-scaling, equation 1.4)"
        print_lines([("critical batch:", equation)])


def _published(names: Sequence[str], form: str) -> list[Published]:
    """The published sets to compare with.

    Raises:
        UsageError: an unknown set, or one of another form.
    """
    from trimpot.statistics.scaling_constants import Published

    found = [Published(name) for name in names]
    other = next((one for one in found if one.form.name != form), None)
    if other is not None:
        problem = f"is of the form {other.form.name}, and {form} is fitted"
        raise UsageError(f"--against {other.name}", problem, "Compare laws of one form.")
    return found


def _fitted(table: RunTable, form: str, hold_out: str | None, draws: int, beyond: bool) -> Fit | HeldOut:
    from trimpot.statistics import scaling_laws

    with progress_bars() as bars:
        progress = bars("resamples") if draws else ignore
        if hold_out is None:
            return scaling_laws.fit(table.runs, form, draws, progress=progress)
        return scaling_laws.hold_out(table.runs, form, hold_out, beyond, draws=draws, progress=progress)


def _set_lines(one: Mapping[str, Any]) -> list[Line]:
    values = ", ".join(f"{name} {value:.6g}" for name, value in one["constants"].items())
    runs = "; ".join(f"{low:.3g} to {high:.3g} {name}" for name, (low, high) in one["runs"].items())
    return [
        (f"{one['name']}:", one["equation"]),
        ("", values),
        ("", f"{one['source']}, {one['place']}; {one['note']}" + (f"; runs of {runs}" if runs else "")),
    ]


def _pairs(given: Sequence[str]) -> dict[str, str]:
    """ROLE=COLUMN of every --column."""
    pairs = {}
    for text in given:
        role, sign, column = text.partition("=")
        if not sign or not column:
            raise UsageError(f"--column {text}", "is not ROLE=COLUMN", "Write it as loss=val_loss.")
        pairs[role] = column
    return pairs


def _point(text: str) -> dict[str, float]:
    """A point of --predict: N, D and C or their names, with numbers."""
    from trimpot.statistics.scaling_forms import SYMBOLS
    from trimpot.statistics.scaling_points import completed

    names = {**{symbol: name for name, symbol in SYMBOLS.items()}, **{name: name for name in SYMBOLS}}
    point = {}
    for part in text.split(","):
        key, sign, value = (piece.strip() for piece in part.partition("="))
        if not sign:
            raise UsageError(f"--predict {text}", f"{part!r} is not NAME=NUMBER", "Write it as N=1e9,D=2e10.")
        if key not in names:
            raise UsageError(f"--predict {text}", f"{key!r} is no variable", nearest(key, names))
        try:
            point[names[key]] = float(value)
        except ValueError as error:
            problem = f"{value!r} is not a number"
            raise UsageError(f"--predict {text}", problem, "Write it as N=1e9,D=2e10.") from error
    return completed(point)


def _table_lines(table: RunTable, file: str) -> list[Line]:
    took = ", ".join(f"{role} from {column!r}" for role, column in table.columns.items())
    together = {"rows": "rows one by one", "run": "the rows of a run together", "size": "runs of a size together"}
    return [(f"{file}:", f"{len(table.runs)} rows; {took}; resamples {together[table.clusters]}")]


def _fit_lines(fitted: Fit) -> list[Line]:
    lines: list[Line] = [("law:", f"{fitted.form.equation}, fitted to {len(fitted.runs)} runs")]
    lines += [(f"{name}:", one.text(".5g")) for name, one in fitted.constants.items()]
    lines.append(("typical error:", f"{fitted.as_dict()['typical_error']:.2%} of the loss (median over fitted runs)"))
    return lines + [("note:", text) for text in fitted.notes]


def _held_lines(found: Fit | HeldOut) -> list[Line]:
    from trimpot.statistics.scaling_laws import HeldOut

    if not isinstance(found, HeldOut):
        return []
    lines: list[Line] = []
    for place, one in enumerate(found.predicted):
        words = "inside" if found.inside[place] else "outside"
        head = "largest, held out" if place == found.largest else "held out"
        text = f"{_point_text(found.held_out.point(place))}: loss {found.held_out.loss[place]:.4g}, predicted"
        lines.append((f"{head}:", f"{text} {one.text('.4g')}, {found.errors[place]:+.2%}, {words}"))
    lines.append(("in their intervals:", f"{sum(found.inside)} of {len(found.inside)} held-out runs"))
    return lines


def _fit_json(
    table: RunTable,
    found: Fit | HeldOut,
    predicted: Sequence[tuple[Mapping[str, float], Estimate]],
    holds: Mapping[str, Mapping[str, bool]],
) -> dict[str, Any]:
    from dataclasses import asdict

    from trimpot.statistics.scaling_laws import HeldOut

    held = found.as_dict()["held_out"] if isinstance(found, HeldOut) else None
    return {
        "columns": dict(table.columns),
        "cluster": table.clusters,
        "fit": _law_of(found).as_dict(),
        "held_out": held,
        "predicted": [{"point": dict(point), "loss": asdict(one)} for point, one in predicted],
        "against": {name: dict(one) for name, one in holds.items()},
    }


def _law_of(found: Fit | HeldOut) -> Fit:
    from trimpot.statistics.scaling_laws import HeldOut

    return found.fit if isinstance(found, HeldOut) else found


def _holds_text(found: Mapping[str, bool]) -> str:
    inside = [name for name, holds in found.items() if holds]
    outside = [name for name, holds in found.items() if not holds]
    return f"inside the intervals: {', '.join(inside) or 'none'}; outside: {', '.join(outside) or 'none'}"


def _point_text(point: Mapping[str, float]) -> str:
    from trimpot.statistics.scaling_forms import SYMBOLS

    return ", ".join(f"{SYMBOLS[name]} {value:.4g}" for name, value in point.items())
