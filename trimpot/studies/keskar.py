"""Large batches on digits: do they generalise worse, are they sharper, and does a tuned rate close the gap?

Beside every sharpness stands that of the same network with rescaled weights: what the measure says of scale alone.

It cannot run on a user's model: the network and its images are the question.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from torch.nn.functional import cross_entropy

from trimpot.core.seeds import seed_for
from trimpot.probes.curvature.ball import ADAPTIVE_RADIUS, BallSettings, ball_sharpness
from trimpot.probes.curvature.box import DIRECTIONS, EPSILONS, BoxSettings, box_sharpness
from trimpot.probes.curvature.rescale import rescaled
from trimpot.probes.curvature.surface import Surface, flat
from trimpot.studies.dense import descend, error, outputs
from trimpot.studies.digits import Digits, split
from trimpot.studies.measures import Difference, Growth
from trimpot.studies.study import Budget, Chart, Settings, Study, Tuning, Values

IMAGES = 1197
SMALL, LARGE = 16, 399
"""Batches: 1% and a third of the images, 25 times as many (Keskar: 256, and a tenth of the images)."""
PASSES, MORE = 60, 600
RATE = 0.1
"""The rate that is left as it is, as Keskar leaves Adam's: on seeds 0 and 1 both batches train at it, and neither does
best."""
STRETCH = 32.0
"""What rescaling multiplies by. The box is as wide as |x| + 1, so that a factor of 4 does next to nothing here."""
PAIRS = (("w2", "w3"), ("b2", "w3"))


def prepare(settings: Settings, seed: int, folder: Path) -> None:
    """Nothing: images come with scikit-learn, and which of them are trained on follows from the seed."""


def surface(weights: Mapping[str, Tensor], data: Digits) -> Surface:
    """The loss on all of the images, around these weights."""
    images_N = data.images_N.double()
    return Surface.of(lambda named: cross_entropy(outputs(named, images_N), data.labels_N), weights)


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """Trains one arm; errors in per cent, and φ and its relatives of the loss on the images that were trained on.

    ``rescaled_phi`` is φ of the same network with the last layer but one multiplied by STRETCH and the last divided.
    """
    train, test = split(seed, IMAGES)
    rate = float(values["rate"]) if values["tuned"] else RATE
    own = seed_for(seed, "run", int(values["draws"]))
    weights = descend(train, int(values["batch"]), int(values["passes"]), rate, own)
    found = surface(weights, train)
    other = flat(rescaled(found.weights, PAIRS, STRETCH).values())
    boxes = [box_sharpness(found, BoxSettings(epsilon)) for epsilon in EPSILONS]
    return {
        "error": error(weights, test),
        "accuracy": 100 - error(weights, test),
        "training_error": error(weights, train),
        "training_loss": boxes[0].loss,
        "phi": boxes[0].phi,
        "phi_half": boxes[1].phi,
        "phi_subspace": box_sharpness(found, BoxSettings(EPSILONS[0], DIRECTIONS, seed=seed)).phi,
        "rescaled_phi": box_sharpness(found, BoxSettings(EPSILONS[0]), other).phi,
        "adaptive": ball_sharpness(found, BallSettings(ADAPTIVE_RADIUS, adaptive=True)).rise,
    }


def _arm(name: str, batch: int, passes: int = PASSES, tuned: int = 0, draws: int = 0) -> dict[str, float | str]:
    return {"kind": name, "batch": batch, "passes": passes, "tuned": tuned, "draws": draws}


ARMS = {
    "small": _arm("small", SMALL),
    "small, other draws": _arm("small", SMALL, draws=1),
    "small, tuned rate": _arm("small, tuned rate", SMALL, tuned=1),
    "large": _arm("large", LARGE),
    "large, tuned rate": _arm("large, tuned rate", LARGE, tuned=1),
    "large, more passes": _arm("large, more passes", LARGE, MORE),
    "large, more passes, tuned rate": _arm("large, more passes, tuned rate", LARGE, MORE, tuned=1),
}
FEW = {name: arm for name, arm in ARMS.items() if arm["passes"] == PASSES}


def _change(metric: str, first: str, second: str, words: str) -> Difference:
    return Difference(metric, first, second, f"{words}, {first} less {second}", log=metric.startswith("phi"))


STUDY = Study(
    id="keskar",
    question="Do large batches generalise worse and end sharper, and does a tuned learning rate close the gap?",
    model="a fully connected network of 8970 weights",
    scale=(
        "scikit-learn's digits of 8 × 8 pixels, 1197 to train on, 600 to test on, split by the seed; ReLU,"
        " cross-entropy, plain gradient descent at a constant rate; batches of 16 and 399, 60 passes (600 where the arm"
        " says so); settings chosen on seeds 0-9"
    ),
    tests={
        "gap": _change("accuracy", "large", "small", "test accuracy in per cent"),
        "tuned gap": _change("error", "large, tuned rate", "large", "test error in per cent"),
        "sharper": _change("phi", "large, more passes", "small", "log φ at 1e-3"),
        "rescaling": Growth("rescaled_phi", "phi", "φ of the rescaled network less φ", {"kind": "small", "draws": 0}),
        "converged gap": _change("accuracy", "large, more passes", "small", "test accuracy in per cent"),
        "tuned, left over": _change("accuracy", "large, tuned rate", "small, tuned rate", "test accuracy in per cent"),
        "tuned, sharper": _change("phi", "large, more passes, tuned rate", "small", "log φ at 1e-3"),
    },
    claims={
        "large-batch-generalises-worse": "gap",
        "tuned-large-batch-loses-nothing": "tuned gap",
        "large-batch-ends-sharper": "sharper",
        "sharpness-depends-on-scale": "rescaling",
    },
    budgets={"quick": Budget(FEW, 5, {}, tuning_seeds=1), "full": Budget(ARMS, 10, {})},
    prepare=prepare,
    run=run,
    control=_change("accuracy", "small", "small, other draws", "test accuracy in per cent"),
    chart=Chart(
        "phi", "kind", where={"draws": 0}, metric_title="sharpness φ at 1e-3, per cent", knob_title="batch", log=True
    ),
    first_seed=10,
    tuning=Tuning(knob="rate", values=(0.1, 0.2, 0.3, 0.5), metric="error", lowest=True),
)
