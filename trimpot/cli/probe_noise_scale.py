"""The command probe noise-scale: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from trimpot.cli.knobs import print_json, print_lines
from trimpot.core.errors import UsageError, nearest

if TYPE_CHECKING:
    from trimpot.probes.noise_scale import NoiseScaleReport


MAX_LENGTH = 1024
"""Longest row in tokens; longer ones are cut, as training cuts them."""


def noise_scale(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model by name, folder or stage of a run.")],
    data: Annotated[str, typer.Option(help="SFT rows: a file, a saved data set or embedded:NAME.")],
    batch: Annotated[int, typer.Option(min=1, help="The batch in use, in rows: what the answer is held against.")] = 8,
    examples: Annotated[int, typer.Option(min=3, help="Rows to measure, drawn from all.")] = 64,
    minutes: Annotated[float, typer.Option(min=0.1, help="Where these do not suffice, fewer rows are taken.")] = 4.0,
    method: Annotated[
        str, typer.Option(help="exact: every row's whole gradient; norms: of norm layers alone, much faster.")
    ] = "exact",
    mask: Annotated[str, typer.Option(help="Which tokens of a conversation train (see card sft.mask).")] = "assistant",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """How large a batch is useful here: the gradient noise scale on SFT rows, its interval, and what to do."""
    from trimpot.cli.bars import progress_bars
    from trimpot.data.load import load_rows
    from trimpot.data.prepare import tokenise
    from trimpot.data.template import ChatTemplate
    from trimpot.models.adapters import TrainableSettings, choose_trainable
    from trimpot.models.allocator import keep_freed_memory
    from trimpot.models.load import load
    from trimpot.probes.noise_scale import METHODS, NoiseScaleSettings, measure_noise_scale
    from trimpot.statistics.noise_scale import FEWEST_LOOKS

    if method not in METHODS:
        raise UsageError("--method", f"{method!r} is not a method", nearest(method, METHODS))
    keep_freed_memory()
    rows = load_rows(data, "chat or text")
    policy = load(model)
    choose_trainable(policy, TrainableSettings())
    samples = tokenise(rows, ChatTemplate(policy.tokenizer, policy.virtual_ids), MAX_LENGTH, mask).samples
    if len(samples) < FEWEST_LOOKS:
        raise UsageError(data, f"holds {len(samples)} rows", f"Give {FEWEST_LOOKS} at least; 64 give a fair interval.")
    settings = NoiseScaleSettings(method, examples, minutes, batch)
    with progress_bars() as bars:
        found = measure_noise_scale(policy, samples, settings, progress=bars(f"noise scale of {policy.name}"))
    if json:
        print_json({"model": model, "data": data, **found.as_dict()})
    else:
        print_lines(_lines(found))


def _lines(found: NoiseScaleReport) -> list[tuple[str, str]]:
    simple = found.scale.simple
    said = simple.text(".3g")
    if simple.high is None and simple.low is not None:
        said += f" (at least {simple.low:.3g}; no upper limit from so few rows)"
    lines = [("B_simple:", f"{said} rows{'' if simple.value is None else _in_tokens(found)}")]
    lines.append(("noise S:", f"{found.scale.trace.text('.4g')} of one row; S = trace of the gradient's covariance"))
    lines.append(("signal |G|²:", found.scale.squared_gradient.text(".4g")))
    if found.norms is not None and found.method == "exact":
        lines.append(("norm layers:", f"{found.norms.simple.text('.3g')} rows, by their gradients alone"))
    lines.append((f"batch {found.batch}:", f"{found.advice.verdict}; {found.advice.text}"))
    measured = f"{found.examples} rows of {found.tokens:.0f} tokens, {found.targets:.0f} of them targets"
    lines.append(("measured:", f"{measured}; {found.parameters / 1e6:.4g} M weights; {found.seconds:.0f} s"))
    if found.warning:
        lines.append(("warning:", found.warning))
    return lines


def _in_tokens(found: NoiseScaleReport) -> str:
    return f", or {found.simple_tokens:.3g} tokens"
