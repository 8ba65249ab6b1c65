"""The commands probe precision and probe recompute: parse, call, print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trimpot.cli.bars import progress_bars
from trimpot.cli.flags import noted
from trimpot.cli.knobs import print_json, print_lines
from trimpot.core.errors import UsageError, nearest

if TYPE_CHECKING:
    from trimpot.probes.precision.compare import ModeReport, PrecisionReport, PrecisionSettings
    from trimpot.probes.recompute.measure import ModeCost, RecomputeReport

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Plot = Annotated[Path | None, typer.Option(help="Write a chart: .svg or .png.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model by name, folder or stage of a run.")]
Line = tuple[str, str]


def precision(
    context: typer.Context,
    model: Model,
    data: Annotated[str, typer.Option(help="SFT rows: a file, a saved data set or embedded:NAME.")],
    modes: Annotated[str, typer.Option(help="Modes, parted by commas; default: all nine (fp32 always runs).")] = "",
    steps: Annotated[int, typer.Option(min=1, help="Training steps of every run.")] = 20,
    batch: Annotated[int, typer.Option(min=1, help="Rows of a step.")] = 8,
    plot: Plot = None,
    json: Json = False,
    _rate: Annotated[float, typer.Option("--learning-rate", callback=noted, help="Of AdamW, constant.")] = 2e-5,
    _orders: Annotated[
        int, typer.Option("--orders", callback=noted, help="fp32 runs in other orders of the rows: the noise band.")
    ] = 4,
    _measured: Annotated[
        int, typer.Option("--measured", callback=noted, min=1, help="Rows no run trains on, which measure them all.")
    ] = 16,
    _static: Annotated[float, typer.Option("--static-scale", callback=noted, help="Of the loss.")] = 1024.0,
    _growth: Annotated[
        int, typer.Option("--growth-interval", callback=noted, min=1, help="Clean steps to a doubled scale.")
    ] = 2000,
    _mask: Annotated[
        str, typer.Option("--mask", callback=noted, help="Which tokens of a conversation train (see card sft.mask).")
    ] = "assistant",
    _length: Annotated[int, typer.Option("--max-length", callback=noted, min=2, help="Longest row in tokens.")] = 1024,
    _seed: Annotated[int, typer.Option("--seed", callback=noted, help="Of the order of the rows.")] = 0,
) -> None:  # fmt: skip
    """What fp32, bf16 and fp16 do to training here: a few steps side by side, what vanishes, and which mode departs."""
    from trimpot.probes.precision.compare import PrecisionSettings
    from trimpot.probes.precision.modes import modes_of

    options = context.meta
    names = [name.strip() for name in modes.split(",") if name.strip()]
    modes_of(names)
    _check_plot(plot)
    settings = PrecisionSettings(
        steps=steps, batch=batch, learning_rate=options["_rate"], orders=options["_orders"],
        measured=options["_measured"], static_scale=options["_static"], growth_interval=options["_growth"],
        seed=options["_seed"],
    )  # fmt: skip
    found = _trained(model, data, settings, names, options)
    result = {"model": model, "data": data, **found.as_dict()}
    if plot is not None:
        from trimpot.site.precision_chart import draw_precision

        result["chart"] = str(draw_precision(result, plot))
    if json:
        print_json(result)
        return
    _print_table(MODE_COLUMNS, [_mode_cells(one) for one in found.modes])
    _print_table(GROUP_COLUMNS, _group_cells(found))
    print_lines([*_precision_lines(found), *_chart_line(result)])


def _trained(
    model: str, data: str, settings: PrecisionSettings, names: Sequence[str], options: Mapping[str, Any]
) -> PrecisionReport:
    from trimpot.data.load import load_rows
    from trimpot.data.prepare import tokenise
    from trimpot.data.template import ChatTemplate
    from trimpot.models.adapters import TrainableSettings, choose_trainable
    from trimpot.models.load import load
    from trimpot.probes.precision.compare import measure_precision

    rows = load_rows(data, "chat or text", seed=settings.seed)
    policy = load(model)
    choose_trainable(policy, TrainableSettings())
    template = ChatTemplate(policy.tokenizer, policy.virtual_ids)
    samples = tokenise(rows, template, options["_length"], options["_mask"]).samples
    with progress_bars() as bars:
        return measure_precision(policy, samples, settings, names, progress=bars(f"precision of {policy.name}"))


def recompute(
    model: Model,
    tokens: Annotated[int, typer.Option(min=2, help="Tokens of a row.")] = 256,
    sequences: Annotated[int, typer.Option(min=1, help="Rows of the pass.")] = 2,
    every: Annotated[int | None, typer.Option(min=1, help="Layers of a segment; default: of least memory.")] = None,
    kernel: Annotated[
        str, typer.Option(help="Of attention: default, or math, which keeps the matrix of scores.")
    ] = "default",
    repeats: Annotated[int, typer.Option(min=1, help="Timings, of which the median counts.")] = 3,
    plot: Plot = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Memory, operations and time of recomputing nothing, every layer, segments, attention alone; equal gradients."""
    from trimpot.models.adapters import TrainableSettings, choose_trainable
    from trimpot.models.load import load
    from trimpot.probes.recompute.measure import KERNELS, RecomputeSettings, measure_recompute

    if kernel not in KERNELS:
        raise UsageError("--kernel", f"{kernel!r} is not a kernel", nearest(kernel, KERNELS))
    _check_plot(plot)
    policy = load(model)
    choose_trainable(policy, TrainableSettings())
    settings = RecomputeSettings(tokens, sequences, every, kernel, repeats)
    with progress_bars() as bars:
        found = measure_recompute(policy, settings, bars(f"recomputation of {policy.name}"))
    result = {"model": model, **found.as_dict()}
    if plot is not None:
        from trimpot.site.precision_chart import draw_recompute

        result["chart"] = str(draw_recompute(result, plot))
    if json:
        print_json(result)
        return
    _print_table(COST_COLUMNS, [_cost_cells(one, found) for one in found.modes])
    print_lines([*_recompute_lines(found), *_chart_line(result)])


MODE_COLUMNS = (
    "mode", "leaves the band", "loss", "against fp32", "overflows", "scale", "gradient gone", "cosine", "updates lost",
    "s/step",
)  # fmt: skip
GROUP_COLUMNS = (
    "gradients of",
    "not 0",
    "below 2^-24",
    "flushed",
    "subnormal",
    "largest",
    "updates lost in fp16",
    "in bf16",
)
COST_COLUMNS = (
    "recompute", "kept", "by formula", "peak", "lower by", "by formula", "operations", "seconds", "gradients"
)  # fmt: skip


def _check_plot(plot: Path | None) -> None:
    """Before anything is measured, not after."""
    if plot is not None and plot.suffix not in (".svg", ".png"):
        problem = f"cannot draw a {plot.suffix or 'file without ending'}"
        raise UsageError(str(plot), problem, "Give .svg or .png.")


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=not place)
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False)
    if not console.is_terminal:
        # As wide as the table is, so that no cell of a file is cut.
        console.width = 200
    console.print(table)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _mode_cells(one: ModeReport) -> tuple[str, ...]:
    from trimpot.probes.precision.magnitudes import LostUpdates

    stays = "stays" if one.departure is None else f"step {one.departure.step}, {one.departure.side}"
    scales = [record.scale for record in one.records]
    scale = f"{scales[0]:g}" if scales[0] == scales[-1] else f"{scales[0]:g} to {scales[-1]:g}"
    lost = sum(one.lost.values(), LostUpdates(one.mode.dtype)).lost_share
    return (
        one.mode.name, stays, f"{one.measured[-1]:.4f}", "-" if one.gap is None else f"{one.gap:+.2g}",
        str(len(one.overflows)), "-" if one.mode.scaling == "none" else scale, _share(one.vanished),
        "-" if one.cosine is None else f"{one.cosine:.4f}", _share(lost), f"{one.seconds:.2g}",
    )  # fmt: skip


def _group_cells(found: PrecisionReport) -> list[tuple[str, ...]]:
    cells = []
    for name, one in found.gradients.items():
        lost = (found.lost.get(dtype, {}).get(name) for dtype in ("float16", "bfloat16"))
        cells.append((
            name, f"{one.nonzero:,}", _share(one.below(-24)), _share(one.flushed_share), _share(one.subnormal_share),
            "-" if one.largest is None else f"{one.largest:.2g}",
            *("-" if group is None else _share(group.lost_share) for group in lost),
        ))  # fmt: skip
    return cells


def _precision_lines(found: PrecisionReport) -> list[Line]:
    settings, (low, high) = found.settings, found.band[-1]
    lines: list[Line] = [(
        "band:",
        f"{low:.4f} to {high:.4f} at step {settings.steps}: 95%, from {settings.orders} fp32 runs in other orders of"
        f" the rows; a mode leaves it at the first of three steps outside",
    )]  # fmt: skip
    left = [f"{one.mode.name} (step {one.departure.step})" for one in found.modes if one.departure is not None]
    lines.append(("dynamics change in:", ", ".join(left) or "none of these modes, in so few steps"))
    for one in found.modes:
        if one.overflows:
            lines.append((f"{one.mode.name}:", f"overflowed and skipped steps {', '.join(map(str, one.overflows))}"))
    lines.append(("loss scale:", _window_text(found)))
    lost = ", ".join(
        f"{_share(found.lost_in(dtype).lost_share)} in {name} ({_share(found.lost_in(dtype).small_share)} below"
        f" 2^-{digits} of the weight)"
        for dtype, name, digits in (("float16", "fp16", 11), ("bfloat16", "bf16", 8))
    )
    lines.append(("without master weights:", f"of fp32's updates are lost {lost}"))
    measured = f"{found.rows} rows, {settings.batch} a step; {found.parameters / 1e6:.4g} M weights"
    lines.append(("measured:", f"{measured}; gradients and updates at the first, middle and last step of fp32"))
    return lines


def _window_text(found: PrecisionReport) -> str:
    window = found.window
    if window is None:
        return "no gradient but 0"
    if window.least > window.most:
        return (
            f"none serves all groups: 2^{window.least} is needed to keep {1 - window.allowed:.1%} of the gradients, and"
            f" above 2^{window.most} the largest overflows; scale dynamically, or train in bf16"
        )
    return (
        f"2^{window.least} to 2^{window.most} keep {1 - window.allowed:.1%} of every group's gradients from vanishing,"
        " and none overflows"
    )


def _cost_cells(one: ModeCost, found: RecomputeReport) -> tuple[str, ...]:
    base = found.modes[0]
    name = f"every {one.every}" if one.mode == "every" else one.mode
    return (
        name, _bytes(one.kept), "-" if one.formula is None else _bytes(one.formula), _bytes(one.peak),
        _bytes(base.peak - one.peak), "-" if one.formula_saving is None else _bytes(one.formula_saving),
        f"{one.operations / base.operations:.3f}x" if base.operations else "-", f"{one.seconds:.3g}",
        "same, bit by bit" if one.gradients.bitwise else one.gradients.finding,
    )  # fmt: skip


def _recompute_lines(found: RecomputeReport) -> list[Line]:
    settings = found.settings
    lines: list[Line] = [
        ("a layer:", f"keeps {_bytes(found.layer)}, {found.hidden_states_kept:.3g} times its input"),
        ("least memory:", f"segments of {found.least} of {found.layers} layers, by the formula"),
        ("kept:", "what the layers save in the forward pass; formula: inputs of segments (none: all layers)"),
        ("peak:", "alive at most in forward and backward, the head included, weights and gradients not"),
        ("measured:", f"{settings.sequences} rows of {settings.tokens} random tokens, {settings.kernel} attention"),
    ]  # fmt: skip
    base = found.modes[0].peak
    if any(one.formula_saving and base - one.peak < 0.8 * one.formula_saving for one in found.modes):
        lines.append(("note:", "the peak now lies outside the layers (the head's logits, say)"))
    for one in found.modes:
        if not one.gradients.equal:
            lines.append((f"{one.mode} is wrong:", f"{one.gradients.finding}. {one.gradients.mend}"))
    return lines


def _chart_line(result: Mapping[str, Any]) -> list[Line]:
    return [("chart:", result["chart"])] if "chart" in result else []


def _bytes(count: float) -> str:
    sign, count = ("-", -count) if count < 0 else ("", count)
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{sign}{count / size:.3g} {unit}"
    return f"{sign}{count:.0f} B"
