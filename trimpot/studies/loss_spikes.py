"""Loss spikes of Adam and what rises before them: which metric of a run's health gives warning, and how many steps.

A regression by full-batch Adam spikes without any fault in data or code: its second moment forgets more slowly than the
gradient falls, until the curvature that Adam sees passes what its rate stands (arXiv 2506.04805).

It cannot run on a user's model: every step of a run has its curvature measured, twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trimpot.core.seeds import seed_for
from trimpot.studies.measures import Difference, Growth, Level
from trimpot.studies.spike_precursors import precursors
from trimpot.studies.spike_runs import curves
from trimpot.studies.study import Budget, Chart, Settings, Study, Values

RATE = 0.03
STEADY: Mapping[str, float | str] = {"beta2": 0.999, "rate": RATE, "draws": 0}


def prepare(settings: Settings, seed: int, folder: Path) -> None:
    """Nothing is shared: the regression is the same for all, and weights follow from the seed."""


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """Trains one arm; see ``precursors``."""
    own = seed_for(seed, "run", int(values["draws"]))
    return precursors(curves(float(values["rate"]), float(values["beta2"]), int(settings["steps"]), own))


ARMS = {
    "β₂ 0.999": STEADY,
    "β₂ 0.999, other draws": {**STEADY, "draws": 1},
    "β₂ 0.99": {**STEADY, "beta2": 0.99},
    "β₂ 0.9": {**STEADY, "beta2": 0.9},
    "β₂ 0.999, a tenth of the rate": {**STEADY, "rate": RATE / 10},
}
FEW = {name: arm for name, arm in ARMS.items() if arm["rate"] == RATE and arm["beta2"] != 0.99}


def _lift(metric: str, words: str) -> Level:
    return Level(f"{metric}_lift", f"P({words} rises more before a spike than at a quiet step) − ½", STEADY)


STUDY = Study(
    id="loss-spikes",
    question="Which metric of a run's health rises before a loss spike, and how many steps before?",
    model="a network of one hidden layer of 100 tanh units",
    scale=(
        "full-batch Adam on 64 points of sin x + sin 4x, 1500 steps at a constant rate of 0.03; spikes as the detector"
        " loss_spike has them, 60 steps apart; settings chosen on seeds 0-9"
    ),
    tests={
        "limit": Growth(
            "over_limit_before", "over_limit_quiet",
            "share of spikes that Adam's limit is passed before, in 20 steps, less that of quiet steps", STEADY,
        ),
        "less memory": Difference("spikes", "β₂ 0.9", "β₂ 0.999", "spikes of a run, β₂ of 0.9 less 0.999"),
        "lower rate": Difference(
            "spikes", "β₂ 0.999, a tenth of the rate", "β₂ 0.999", "spikes of a run, a tenth of the rate less the rate"
        ),
        "update ratio": _lift("update_ratio", "|Δw|/|w|"),
        "gradient norm": _lift("grad_norm", "the gradient norm"),
        "plain sharpness": _lift("sharpness", "λ_max of the Hessian"),
        "update lead": Level("update_ratio_lead", "steps by which |Δw|/|w| warns, at 5% false alarms", STEADY),
        "limit lead": Level("over_limit_lead", "steps by which passing Adam's limit warns", STEADY),
    },
    claims={
        "adam-limit-passed-before-spike": "limit",
        "long-memory-of-squares-spikes": "less memory",
    },
    budgets={"quick": Budget(FEW, 4, {"steps": 1000}), "full": Budget(ARMS, 8, {"steps": 1500})},
    prepare=prepare,
    run=run,
    control=Difference("spikes", "β₂ 0.999", "β₂ 0.999, other draws", "spikes of a run, of two draws of weights"),
    chart=Chart(
        "spikes", "beta2", where={"draws": 0, "rate": RATE}, metric_title="spikes of a run", knob_title="β₂", log=False
    ),
    first_seed=10,
)  # fmt: skip
