"""The commands probe sharpness, probe hessian and probe health: parse, call, print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from trimpot.cli.flags import noted
from trimpot.cli.knobs import print_json, print_lines
from trimpot.core.errors import UsageError, nearest

if TYPE_CHECKING:
    from trimpot.core.samples import Sample
    from trimpot.models.policy import Policy
    from trimpot.probes.curvature.hessian import Spectrum
    from trimpot.probes.curvature.report import HessianReport, SharpnessReport
    from trimpot.training.loop import Step


Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model by name, folder or stage of a run.")]
Data = Annotated[str, typer.Option(help="SFT rows: a file, a saved data set or embedded:NAME.")]
Part = Annotated[str | None, typer.Option(help="Weights by a piece of their name, as layers.1.mlp; all if not given.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Rows = Annotated[int, typer.Option("--rows", callback=noted, min=1, help="Rows to measure on, drawn from all.")]
Mask = Annotated[
    str, typer.Option("--mask", callback=noted, help="Which tokens of a conversation train (see card sft.mask).")
]
MaxLength = Annotated[int, typer.Option("--max-length", callback=noted, min=2, help="Longest row in tokens.")]
Seed = Annotated[int, typer.Option("--seed", callback=noted, help="Of the draw of rows, and of random directions.")]


def sharpness(
    context: typer.Context,
    model: Model,
    data: Data,
    part: Part = None,
    directions: Annotated[
        int | None,
        typer.Option(min=1, help="Search in a random subspace of so many (100 in the paper); full if not given."),
    ] = None,
    starts: Annotated[int, typer.Option(min=1, help="Points to search from: the weights, then random ones.")] = 1,
    json: Json = False,
    _rows: Rows = 16,
    _mask: Mask = "assistant",
    _max_length: MaxLength = 1024,
    _seed: Seed = 0,
) -> None:
    """How sharp the minimum is: Keskar's measure, SAM's, one that ignores scale, and a rescaling as control."""
    from trimpot.cli.bars import progress_bars
    from trimpot.probes.curvature.box import BoxSettings
    from trimpot.probes.curvature.report import sharpness_report

    policy, samples = _model_and_rows(context, model, data)
    with progress_bars() as bars:
        told = bars(f"sharpness of {policy.name}")
        settings = BoxSettings(directions=directions, starts=starts, seed=context.meta["_seed"])
        found = sharpness_report(policy, samples, part, settings, progress=told)
    if json:
        print_json({"model": model, "data": data, **found.as_dict()})
    else:
        print_lines(_sharpness_lines(found))


def _sharpness_lines(found: SharpnessReport) -> list[tuple[str, str]]:
    first = found.boxes[0]
    space = "full space" if first.directions is None else f"{first.directions} random directions"
    lines = [
        ("loss:", f"{first.loss:.5g} nats a target token, over {found.rows} rows; {first.size / 1e6:.4g} M weights")
    ]
    lines += [
        ("φ (Keskar):", f"{one.phi:.4g} at ε {one.epsilon:g}, {space}; in percent of 1 + loss") for one in found.boxes
    ]
    for name, ball in (("SAM:", found.ball), ("adaptive:", found.adaptive)):
        lines.append((name, f"rise of {ball.rise:.4g} within {ball.radius:g} (its one step: {ball.first:.4g})"))
    for name, label in (("phi", "φ"), ("adaptive", "adaptive")):
        one = found.controls[name]
        if one is None:
            lines.append(("control:", f"{label} not rescaled: no linear pair of weights is among those measured"))
        else:
            same = f"weights x{one.factor:g} and /{one.factor:g}, same function (loss moves by {one.change:.0e})"
            lines.append(("control:", f"{label} {one.before:.4g} becomes {one.after:.4g} with {same}"))
    lines.append(("measured:", f"in {found.seconds:.0f} s; a search finds at least so much rise, not at most"))
    return lines


def hessian(
    context: typer.Context,
    model: Model,
    data: Data,
    part: Part = None,
    count: Annotated[int, typer.Option(min=1, help="Eigenvalues at each end.")] = 1,
    vectors: Annotated[int, typer.Option(min=2, help="Random vectors for the trace.")] = 32,
    learning_rate: Annotated[float | None, typer.Option(help="Hold the largest eigenvalue against 2 / this.")] = None,
    json: Json = False,
    _rows: Rows = 16,
    _mask: Mask = "assistant",
    _max_length: MaxLength = 1024,
    _seed: Seed = 0,
) -> None:
    """The curvature of the loss: largest and smallest eigenvalues of its Hessian, and its trace with an interval."""
    from trimpot.cli.bars import progress_bars
    from trimpot.probes.curvature.hessian import SpectrumSettings
    from trimpot.probes.curvature.report import hessian_report

    if learning_rate is not None and not learning_rate > 0:
        raise UsageError("--learning-rate", f"{learning_rate} is not above 0", "Give the rate that is in use.")
    policy, samples = _model_and_rows(context, model, data)
    with progress_bars() as bars:
        told = bars(f"Hessian of {policy.name}")
        found = hessian_report(
            policy, samples, part, SpectrumSettings(count, seed=context.meta["_seed"]), vectors, learning_rate, told
        )
    if json:
        print_json({"model": model, "data": data, **found.as_dict()})
    else:
        print_lines(_hessian_lines(found))


def _hessian_lines(found: HessianReport) -> list[tuple[str, str]]:
    lines = [("largest:", _values(found.largest)), ("smallest:", _values(found.smallest))]
    lines.append(("trace:", f"{found.trace.text('.4g')} from {found.trace.n} random vectors"))
    if found.limit is not None and found.largest.largest is not None:
        word = "above" if found.largest.largest > found.limit else "below"
        lines.append(
            ("2/η:", f"{found.limit:.4g}; the largest is {word} it, at {found.largest.largest / found.limit:.3g} of it")
        )
        lines.append(("", "a limit of plain gradient descent; Adam's own: the live probe sharpness"))
    products = found.largest.products + found.smallest.products + found.trace.n
    size = f"{found.size / 1e6:.4g} M weights"
    lines.append(("measured:", f"{found.rows} rows; {size}; {products} Hessian products; {found.seconds:.0f} s"))
    return lines


def _values(found: Spectrum) -> str:
    said = ", ".join(f"{one.value:.4g} (within {one.residual:.0e})" for one in found.eigenvalues)
    return (said or "none") + ("" if found.converged else "; not all converged")


def health(
    context: typer.Context,
    model: Model,
    data: Data,
    steps: Annotated[int, typer.Option(min=1, help="Training steps to take; nothing is kept of them.")] = 5,
    learning_rate: Annotated[float, typer.Option(help="Of those steps, held constant.")] = 2e-5,
    batch: Annotated[int, typer.Option(min=1, help="Rows of a step.")] = 8,
    peak_flops: Annotated[
        float | None, typer.Option(help="The machine's peak, per second; measured if not given.")
    ] = None,
    json: Json = False,
    _mask: Mask = "assistant",
    _max_length: MaxLength = 1024,
    _seed: Seed = 0,
) -> None:
    """What a few training steps look like from inside: updates, activations, dead units, attention, gradients, MFU."""
    import torch

    from trimpot.cli.bars import progress_bars
    from trimpot.probes.health_compute import measured_peak

    for name, value in (("--learning-rate", learning_rate), ("--peak-flops", peak_flops)):
        if value is not None and not value > 0:
            raise UsageError(name, f"{value} is not above 0", "Give a positive number.")
    policy, samples = _model_and_rows(context, model, data)
    with progress_bars() as bars:
        told = bars(f"steps of {policy.name}")
        looks = []
        for done, step in enumerate(_train(policy, samples, (steps, batch, learning_rate), context.meta["_seed"]), 1):
            looks.append({name: value for name, value in step.metrics.items() if name.startswith("health/")})
            told(done, steps)
    if peak_flops is not None:
        measured = measured_peak(str(policy.device), torch.get_num_threads())
        looks = [_against(one, measured / peak_flops) for one in looks]
    if json:
        print_json({"model": model, "data": data, "steps": looks})
    else:
        print_lines(_health_lines(looks))


SHOWN = (
    ("update_ratio", "|Δw|/|w| of a step; usual about 1e-3, doubtful outside 1e-5 to 0.1"),
    ("update_ratio_low", "of the group of layers with the smallest"),
    ("update_ratio_high", "and the largest"),
    ("activation_rms", "root mean square of a layer's output, the largest"),
    ("nonfinite_layers", "layers whose output held NaN or infinity"),
    ("dead_units", "share of feed-forward units that no token moves; doubtful above 0.2"),
    ("attention_entropy", "1: all keys alike, 0: one key"),
    ("attention_entropy_low", "of the lowest head"),
    ("mfu", "share of the peak that the model's operations need"),
)


def _health_lines(looks: Sequence[Mapping[str, float | None]]) -> list[tuple[str, str]]:
    lines = []
    for name, words in SHOWN:
        values = [one.get(f"health/{name}") for one in looks]
        said = ["not measured" if value is None else f"{value:.3g}" for value in (values[0], values[-1])]
        change = said[0] if len(looks) == 1 or said[0] == said[1] else f"{said[0]} to {said[1]}"
        lines.append((f"{name}:", f"{change}; {words}"))
    norms = {name.rsplit("/", 1)[1]: value for name, value in looks[-1].items() if name.startswith("health/grad_norm/")}
    text = ", ".join(f"{group} {value:.3g}" for group, value in norms.items() if value is not None)
    return [*lines, ("gradient norms:", f"{text} (of the last step, before clipping)")]


def _train(policy: Policy, samples: Sequence[Sample], pace: tuple[int, int, float], seed: int) -> Iterator[Step]:
    """Steps of SFT with the live probe; ``pace``: steps, batch, learning rate."""
    from trimpot.objectives.supervised.sft import SupervisedFineTuning
    from trimpot.training.loop import Plan, TrainState, train
    from trimpot.training.rows import DatasetSource
    from trimpot.training.settings import LoopSettings, OptimizerSettings

    steps, batch, rate = pace
    optimizer = OptimizerSettings(learning_rate=rate, schedule="constant", warmup=0.0)
    loop = LoopSettings(steps=steps, batch=batch, probes=("health",), probe_every=1)
    source = DatasetSource(samples, batch, seed)
    return train(TrainState.new(policy, optimizer), Plan(SupervisedFineTuning(), source, loop, optimizer))


def _against(look: Mapping[str, float | None], factor: float) -> dict[str, float | None]:
    value = look.get("health/mfu")
    return {**look, "health/mfu": None if value is None else value * factor}


def _model_and_rows(context: typer.Context, model: str, data: str) -> tuple[Policy, list[Sample]]:
    """The model, all of it trainable, and tokenised rows: ``--rows`` of them by the seed's draw, without it all."""
    from trimpot.core.seeds import stream
    from trimpot.data.load import load_rows
    from trimpot.data.masks import MASKS
    from trimpot.data.prepare import tokenise
    from trimpot.data.template import ChatTemplate
    from trimpot.models.adapters import TrainableSettings, choose_trainable
    from trimpot.models.load import load

    given = context.meta
    if given["_mask"] not in MASKS:
        raise UsageError("--mask", f"{given['_mask']!r} is not a mask", nearest(given["_mask"], MASKS))
    read = load_rows(data, "chat or text", seed=given["_seed"])
    policy = load(model)
    choose_trainable(policy, TrainableSettings())
    template = ChatTemplate(policy.tokenizer, policy.virtual_ids)
    samples = list(tokenise(read, template, given["_max_length"], given["_mask"]).samples)
    stream(given["_seed"], "curvature rows").shuffle(samples)
    return policy, samples[: given.get("_rows")]
