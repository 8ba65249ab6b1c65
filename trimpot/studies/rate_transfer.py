"""Does the best learning rate move with width, and does it stay when hidden matrices learn at 1/width of it?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trimpot.studies.byte_text import LAYERS, held_out_loss, learn, model, windows
from trimpot.studies.measures import Arms, Difference, Metrics, has, select
from trimpot.studies.study import Budget, Chart, Settings, Study, Values

STANDARD, SCALED = "one rate for all", "hidden at 1/width"
HIDDEN = ("self_attn", "mlp")
"""Where a layer's hidden matrices are: both of their sides grow with the width."""


def prepare(settings: Settings, seed: int, folder: Path) -> None:
    """Reads the text, so that a missing file shows at once."""
    windows(seed)


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """Trains one width at one rate: ``loss`` on held-out text, in nats per byte."""
    width, order = int(values["width"]), int(values["order"])
    policy = model(width, seed)
    factors = hidden_factors(width) if values["scaling"] == SCALED else {}
    learn(policy, seed, settings["tokens"], settings["batch"], float(values["rate"]), order, factors)
    return {"loss": held_out_loss(policy, seed)}


def hidden_factors(width: int) -> dict[str, float]:
    """Name prefix of every hidden matrix -> BASE/width, what its learning rate is multiplied by.

    Embedding and norms keep the rate. Yang et al. also divide logits and attention by the width and begin weights
    otherwise; here weights begin as transformers has them.
    """
    return {f"model.layers.{layer}.{part}": BASE / width for layer in range(LAYERS) for part in HIDDEN}


@dataclass(frozen=True)
class BestRate:
    """The slope of log2 of the best learning rate on log2 of the width, of one seed's runs.

    −1: the best rate halves when the width doubles; 0: it stays. At BASE both scalings are one, so ``scaling`` takes
    its narrowest width from the standard runs. The best rate of a width is the lowest point of the parabola through
    the grid's best and its two neighbours.

    Example: losses 3, 2, 3 at rates 1, 2, 4 have the best rate 2; 3, 2, 2.5 the best log2 rate 1 + ½ (3 − 2.5) /
    (3 − 4 + 2.5) = 1.167.
    Edge cases: a best rate at an end of the grid may lie beyond: None.
    """

    scaling: str
    words: str

    def applies(self, arms: Arms) -> bool:
        return len(_curves(arms, self.scaling)) > 1

    def value(self, arms: Arms, metrics: Metrics) -> float | None:
        points = []
        for width, names in _curves(arms, self.scaling).items():
            if not has(metrics, names, "loss"):
                return None
            best = lowest([math.log2(float(arms[name]["rate"])) for name in names],
                          [metrics[name]["loss"] for name in names])  # fmt: skip
            if best is None:
                return None
            points.append((math.log2(width), best))
        centre_x, centre_y = (math.fsum(values) / len(points) for values in zip(*points, strict=True))
        cross = math.fsum((x - centre_x) * (y - centre_y) for x, y in points)
        return cross / math.fsum((x - centre_x) ** 2 for x, _ in points)

    def describe(self) -> dict[str, Any]:
        return {"kind": "slope of the best rate", **asdict(self)}


@dataclass(frozen=True)
class Borrowed:
    """What it costs the widest model to take the best rate of the narrowest: with one rate for all, less when scaled.

    Cost: its loss at the narrowest width's best rate of the grid less its own least loss on the grid, nats per byte.
    Example: 2.30 − 2.20 with one rate for all and 2.21 − 2.20 when scaled: 0.09.
    """

    words: str

    def applies(self, arms: Arms) -> bool:
        return all(len(_curves(arms, scaling)) > 1 for scaling in (STANDARD, SCALED))

    def value(self, arms: Arms, metrics: Metrics) -> float | None:
        costs = []
        for scaling in (STANDARD, SCALED):
            curves = _curves(arms, scaling)
            if not has(metrics, [name for names in curves.values() for name in names], "loss"):
                return None
            narrow, wide = ([metrics[name]["loss"] for name in curves[width]] for width in (min(curves), max(curves)))
            costs.append(wide[narrow.index(min(narrow))] - min(wide))
        return costs[0] - costs[1]

    def describe(self) -> dict[str, Any]:
        return {"kind": "cost of a borrowed rate", **asdict(self)}


def lowest(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Where the parabola through the least y and its neighbours is lowest; ``x`` in equal steps.

    Edge cases: None where the least y is the first or the last, or one of its neighbours is equal to it on both sides.
    """
    place = min(range(len(y)), key=y.__getitem__)
    if place in (0, len(y) - 1):
        return None
    before, least, after = y[place - 1 : place + 2]
    bend = before - 2 * least + after
    return x[place] if bend <= 0 else x[place] + (x[place + 1] - x[place]) * (before - after) / (2 * bend)


def _curves(arms: Arms, scaling: str) -> dict[float, list[str]]:
    """Width -> arms by rising rate. At BASE nothing is scaled, so there the standard runs serve for both."""
    names = select(arms, {"scaling": scaling, "order": 0})
    if scaling == SCALED:
        names = select(arms, {"scaling": STANDARD, "order": 0, "width": BASE}) + names
    widths = sorted({float(arms[name]["width"]) for name in names})
    rate = {name: float(arms[name]["rate"]) for name in names}
    return {width: sorted((n for n in names if arms[n]["width"] == width), key=rate.__getitem__) for width in widths}


def _arm(scaling: str, width: int, rate: float, order: int = 0) -> tuple[str, Values]:
    name = f"{scaling}, {width} wide, rate {rate:g}{', other order' if order else ''}"
    curve = f"{width} wide, {scaling}"
    return name, {"scaling": scaling, "width": width, "rate": rate, "curve": curve, "order": order}


def _arms(widths: Sequence[int], rates: Sequence[float]) -> Mapping[str, Values]:
    pairs = [(STANDARD, width) for width in widths] + [(SCALED, width) for width in widths if width != BASE]
    return dict([*(_arm(*pair, rate) for pair in pairs for rate in rates), _arm(STANDARD, BASE, CONTROL, 1)])


BASE, CONTROL = 24, 8e-3
RATES = tuple(1e-3 * 2**power for power in range(8))
SETTINGS = {"batch": 16, "tokens": 128_000}

STUDY = Study(
    id="rate-transfer",
    question="Does the best learning rate move with the width, and does it stay when hidden matrices learn slower?",
    model="byte decoders of 24, 48 and 96 width",
    scale=(
        "random Llamas of two layers as transformers initialises them (0.02 at every width, embedding tied to the"
        " head), one pass over 128 thousand bytes of code, documentation and prose that packages bring; AdamW; rates"
        " from 1e-3 to 0.128 by factors of two; settings chosen on seeds 0-1"
    ),
    tests={
        "standard": BestRate(STANDARD, "slope of log2 best rate on log2 width, one rate for all"),
        "scaled": BestRate(SCALED, "slope of log2 best rate on log2 width, hidden matrices at 1/width"),
        "borrowed": Borrowed("cost of the narrowest width's best rate to the widest, one rate for all less scaled"),
    },
    claims={
        "best-rate-falls-with-width": "standard",
        "scaled-rate-transfers": "scaled",
        "scaled-rate-costs-less": "borrowed",
    },
    margins={"scaled-rate-transfers": 0.25},
    budgets={
        "quick": Budget(_arms((BASE, 4 * BASE), RATES), 5, {**SETTINGS, "tokens": 64_000}, minutes=5.0),
        "full": Budget(_arms((BASE, 2 * BASE, 4 * BASE), RATES), 8, SETTINGS, minutes=15.0),
    },
    prepare=prepare,
    run=run,
    control=Difference(
        "loss", _arm(STANDARD, BASE, CONTROL)[0], _arm(STANDARD, BASE, CONTROL, 1)[0], "loss of two data orders"
    ),
    chart=Chart(
        "loss", "rate", "curve", {"order": 0}, "held-out loss, nats per byte", "learning rate", "model", log=False
    ),
    first_seed=10,
)  # fmt: skip
