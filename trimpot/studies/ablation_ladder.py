"""Karpathy's rebuild of LeCun 1989, one change a rung: what does each change do to the error on unseen digits?

Every rung keeps the changes of those below it, and a rung may be worse than the one below. Passes and images are equal
on all rungs, where Karpathy raised the passes along with some changes; more of them, and seven times the images, are
arms of their own, as is ReLU alone. Every arm tries the same multiples of its optimiser's learning rate.

It cannot run on a user's model: the network and its images are the question.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trimpot.core.seeds import seed_for
from trimpot.studies.digits import DROPOUT, Rung, error, fit, split
from trimpot.studies.measures import Clearance, Difference
from trimpot.studies.study import Budget, Chart, Settings, Study, Tuning, Values

IMAGES, SEVENFOLD = 171, 1197
PASSES, MORE_PASSES = 150, 391
"""Passes on all rungs, and 60/23 times as many: Karpathy's 60 in place of 23."""
MARGIN = 0.8
"""Points of error below which a change is not substantial: the smallest gain that the post calls one is 0.79."""


def prepare(settings: Settings, seed: int, folder: Path) -> None:
    """Nothing: images come with scikit-learn, and which of them are trained on follows from the seed."""


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """Trains one rung; ``error`` on the seed's 600 test images and ``training_error``, both in per cent."""
    rung = Rung(
        loss=str(values["loss"]),
        optimizer=str(values["optimizer"]),
        activation=str(values["activation"]),
        shift=int(values["shift"]),
        dropout=float(values["dropout"]),
        images=int(values["images"]),
        passes=int(values["passes"]),
    )
    train, test = split(seed, rung.images)
    weights = fit(rung, float(values["rate"]), train, seed_for(seed, "run", int(values["draws"])))
    found = {"error": test, "training_error": train}
    return {name: error(weights, data, rung.activation) for name, data in found.items()}


def _arm(rung: str, below: Mapping[str, float | str], **changes: float | str) -> dict[str, float | str]:
    return {**below, "rung": rung, **changes}


BEGIN: Mapping[str, float | str] = {
    "rung": "squared error", "loss": "squared", "optimizer": "sgd", "activation": "tanh", "shift": 0, "dropout": 0.0,
    "images": IMAGES, "passes": PASSES, "beside": 0, "draws": 0,
}  # fmt: skip
CROSS_ENTROPY = _arm("cross-entropy", BEGIN, loss="cross-entropy")
ADAMW = _arm("AdamW", CROSS_ENTROPY, optimizer="adamw")
SHIFTS = _arm("shifts", ADAMW, shift=1)
LAST = _arm("dropout, ReLU", SHIFTS, activation="relu", dropout=DROPOUT)
LADDER = {str(arm["rung"]): arm for arm in (BEGIN, CROSS_ENTROPY, ADAMW, SHIFTS, LAST)}
AGAIN = {"squared error, other draws": _arm("squared error", BEGIN, draws=1)}
BESIDE = {
    "squared error, more passes": _arm("squared error", BEGIN, passes=MORE_PASSES, beside=1),
    "squared error, ReLU": _arm("squared error", BEGIN, activation="relu", beside=1),
    "squared error, 7 × the images": _arm("squared error", BEGIN, images=SEVENFOLD),
    "dropout, ReLU, 7 × the images": _arm("dropout, ReLU", LAST, images=SEVENFOLD),
}


def _no_gain(first: str, second: str) -> Clearance:
    return Clearance("error", first, second, -MARGIN, f"{first} less {second}, test error in per cent, plus {MARGIN}")


def _change(first: str, second: str) -> Difference:
    return Difference("error", first, second, f"test error in per cent, {first} less {second}")


STUDY = Study(
    id="ablation-ladder",
    question="What does each change between 1989 and 2022 do to the error on digits that the network has not seen?",
    model="a convolutional network of 9832 weights",
    scale=(
        "scikit-learn's digits of 8 × 8 pixels, 171 to train on (1197 where the arm says so), 600 to test on, split by"
        " the seed; batches of 16, 150 passes; every arm at its own multiple of its optimiser's rate; settings chosen"
        " on seeds 0-9"
    ),
    tests={
        "cross-entropy": _change("cross-entropy", "squared error"),
        "AdamW": _change("AdamW", "cross-entropy"),
        "shifts": _change("shifts", "AdamW"),
        "dropout": _change("dropout, ReLU", "shifts"),
        "all changes": _change("dropout, ReLU", "squared error"),
        "more passes": _no_gain("squared error, more passes", "squared error"),
        "ReLU alone": _no_gain("squared error, ReLU", "squared error"),
        "images alone": _change("squared error, 7 × the images", "squared error"),
        "images and changes": _change("dropout, ReLU, 7 × the images", "dropout, ReLU"),
    },
    claims={
        "cross-entropy-overfits-digits": "cross-entropy",
        "adamw-lowers-digit-error": "AdamW",
        "shifts-lower-digit-error": "shifts",
        "dropout-lowers-digit-error": "dropout",
        "changes-lower-digit-error": "all changes",
        "more-passes-alone-do-little": "more passes",
        "relu-alone-does-little": "ReLU alone",
        "seven-times-data-lowers-error": "images alone",
        "data-and-changes-add-up": "images and changes",
    },
    budgets={"quick": Budget({**LADDER, **AGAIN}, 10, {}), "full": Budget({**LADDER, **AGAIN, **BESIDE}, 12, {})},
    prepare=prepare,
    run=run,
    control=_change("squared error", "squared error, other draws"),
    chart=Chart(
        "error", "rung", group="images", where={"draws": 0, "beside": 0}, metric_title="test error, per cent",
        knob_title="the change of this rung, with all before it", group_title="training images", log=False,
    ),
    first_seed=10,
    tuning=Tuning(knob="rate", values=(3.0, 10.0, 30.0), metric="error", lowest=True),
)  # fmt: skip
