"""Does a scaling law fitted to small models predict a larger one, within the interval that it gives?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from trimpot.statistics.scaling_laws import HeldOut, hold_out
from trimpot.statistics.scaling_points import runs_of
from trimpot.studies.byte_text import held_out_loss, learn, model, parameters, windows
from trimpot.studies.measures import Arms, Difference, Metrics, has, select
from trimpot.studies.study import Budget, Chart, Settings, Study, Tuning, Values

RESAMPLES = 200
FIRST_ORDER: Values = {"order": 0}


def prepare(settings: Settings, seed: int, folder: Path) -> None:
    """Reads the text, so that a missing file shows at once."""
    windows(seed)


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """Trains one size on so many tokens: held-out ``loss`` in nats per byte, ``parameters`` without embedding."""
    policy = model(int(values["width"]), seed)
    rate, order = float(values["learning_rate"]), int(values["order"])
    learn(policy, seed, int(values["tokens"]), settings["batch"], rate, order)
    return {"loss": held_out_loss(policy, seed), "parameters": float(parameters(policy))}


@dataclass(frozen=True)
class Prediction:
    """What the law fitted to all sizes but the largest says of the largest at its most tokens, of one seed's runs.

    ``what``: ``inside``, how deep the measured loss lies in its 95% prediction interval, in half-widths: 1 in the
    middle, 0 at an end, below 0 outside. ``gain``: the error of the prediction, as a share of the loss, less the error
    of taking the loss of the largest fitted size at as many tokens; below 0 where the law is better.

    Example: a loss of 2.00 in [1.96, 2.06]: 0.04 / 0.05 = 0.8.
    """

    what: str
    words: str
    form: str = "chinchilla"

    def applies(self, arms: Arms) -> bool:
        return bool(select(arms, FIRST_ORDER))

    def value(self, arms: Arms, metrics: Metrics) -> float | None:
        names = select(arms, FIRST_ORDER)
        if not has(metrics, names, "loss"):
            return None
        rows = [(metrics[name]["parameters"], float(arms[name]["tokens"]), metrics[name]["loss"]) for name in names]
        found = predicted(tuple(rows), self.form)
        held, place = found.held_out, found.largest
        one, loss = found.predicted[place], float(held.loss[place])
        if one.low is None or one.high is None or one.high <= one.low:
            return None
        if self.what == "inside":
            return 2 * min(loss - one.low, one.high - loss) / (one.high - one.low)
        fitted, tokens = found.fit.runs, held.point(place)["tokens"]
        near = [(fitted.point(row)["parameters"], float(fitted.loss[row])) for row in range(len(fitted))
                if fitted.point(row)["tokens"] == tokens]  # fmt: skip
        return abs(found.errors[place]) - abs(max(near)[1] / loss - 1)

    def describe(self) -> dict[str, Any]:
        return {"kind": "prediction of the largest", "resamples": RESAMPLES, **asdict(self)}


@cache
def predicted(rows: tuple[tuple[float, float, float], ...], form: str) -> HeldOut:
    """The held-out prediction for runs of (parameters, tokens, loss)."""
    sizes, tokens, losses = zip(*rows, strict=True)
    return hold_out(runs_of(losses, sizes, tokens), form, draws=RESAMPLES)


def _arm(width: int, tokens: int, order: int = 0) -> tuple[str, Values]:
    name = f"{width} wide, {tokens // 1000}k tokens{', other order' if order else ''}"
    return name, {"width": width, "tokens": tokens, "order": order}


def _arms(*tokens: int) -> Mapping[str, Values]:
    return dict([*(_arm(width, count) for width in WIDTHS for count in tokens), _arm(WIDTHS[0], CONTROL, 1)])


WIDTHS, CONTROL = (16, 24, 36, 56, 84), 64_000
BUDGETS = {"quick": (32_000, CONTROL, 128_000, 256_000), "full": (CONTROL, 128_000, 256_000, 512_000)}
SETTINGS = {"batch": 16}
WITHIN = "depth of the largest run's loss in its prediction interval, in half-widths"
GAIN = "error of the prediction less that of the next smaller size's loss, as shares of the loss"

STUDY = Study(
    id="scaling-fit",
    question="Does a law fitted to four small sizes predict the loss of a fifth, larger one within its interval?",
    model="byte decoders of 6 thousand to 170 thousand parameters",
    scale=(
        "random Llamas of two layers, 16 to 84 wide, one pass over 64 to 512 thousand bytes of code, documentation and"
        " prose that packages bring; loss on held-out documents; L = E + A/N^alpha + B/D^beta; every size and amount"
        " with its own learning rate out of four; settings chosen on seeds 0-1"
    ),
    tests={"inside": Prediction("inside", WITHIN), "gain": Prediction("gain", GAIN)},
    claims={"prediction-interval-holds": "inside", "small-models-predict-large": "gain"},
    budgets={
        "quick": Budget(_arms(*BUDGETS["quick"]), 5, SETTINGS, minutes=5.0, tuning_seeds=1),
        "full": Budget(_arms(*BUDGETS["full"]), 8, SETTINGS, minutes=25.0),
    },
    prepare=prepare,
    run=run,
    control=Difference("loss", _arm(16, CONTROL)[0], _arm(16, CONTROL, 1)[0], "loss of two data orders, smallest size"),
    chart=Chart("loss", "tokens", "width", FIRST_ORDER, "held-out loss, nats per byte", "bytes", "width"),
    first_seed=10,
    tuning=Tuning(values=(4e-3, 8e-3, 1.6e-2, 3.2e-2), metric="loss", lowest=True),
)  # fmt: skip
