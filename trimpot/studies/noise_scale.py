"""Does the noise scale tell the critical batch, and does it rise as the loss falls? A sweep of batches to one goal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from trimpot.studies.batch_measures import HyperbolaProduct, NoiseOverCriticalBatch
from trimpot.studies.batch_sweep import WINDOWS, noise_on_the_way, run_to_goal
from trimpot.studies.measures import Difference, Growth, Slope
from trimpot.studies.study import Budget, Chart, Settings, Study, Values


def prepare(settings: Settings, seed: int, folder: Path) -> None:
    """Nothing is shared: a run makes its text and model of the seed."""


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """Trains at one batch size with every learning rate and keeps the one that took the fewest steps to the goal.

    A rate is given up when it has taken more steps than the best before it. Units: steps; ``examples`` rows; noise
    scales in rows. ``log_noise_early`` and ``log_noise_late``: of the first and the last of the run's parts.
    Edge cases: no rate reached the goal: no metric but ``reached``.
    """
    batch = int(values["batch"])
    settings = {**settings, "probe": batch == settings["probe_batch"]}
    best, kept, most = 0.0, None, int(settings["most"])
    for rate in settings["rates"]:
        found = run_to_goal(settings, seed, batch, rate, most, int(values["order"]))
        if found.steps is not None and (kept is None or found.steps < (kept.steps or math.inf)):
            best, kept, most = rate, found, math.ceil(found.steps)
    if kept is None or kept.steps is None:
        return {"reached": 0.0}
    metrics = {"reached": 1.0, "steps": kept.steps, "examples": kept.steps * batch, "rate": best}
    parts = noise_on_the_way(kept.looks)
    if len(parts) == WINDOWS:
        metrics["noise"] = math.fsum(parts) / len(parts)
        metrics["log_noise_early"], metrics["log_noise_late"] = math.log(parts[0]), math.log(parts[-1])
    return metrics


def _arms(*batches: int) -> dict[str, Mapping[str, float | str]]:
    arms: dict[str, Mapping[str, float | str]] = {f"batch {batch}": {"batch": batch, "order": 0} for batch in batches}
    return {**arms, **{name: {"batch": 8, "order": order} for order, name in enumerate(TWINS, start=1)}}


TWINS = ("batch 8, other rows", "batch 8, other rows again")
FIRST = {"order": 0}
SETTINGS = {"goal": 0.5, "most": 4000, "rates": (2e-3, 1e-3, 3e-3, 5e-4), "probe_batch": 64}

STUDY = Study(
    id="noise-scale",
    question="Does the gradient noise scale tell the critical batch size, and does it rise as the loss falls?",
    model="tiny-0.1m",
    scale=(
        "a random Llama of two layers on random text in which a letter depends on the two before it, rows of 32 letters"
        " that never come back; AdamW, the best of four learning rates at every batch and seed; steps until half of"
        " the way from the entropy of pairs to that of triples is left; settings chosen on seeds 0-1"
    ),
    tests={
        "predicts": NoiseOverCriticalBatch("noise", "steps", "ln of the noise scale over the critical batch", FIRST),
        "hyperbola": HyperbolaProduct("steps", 8, "ln (S/S_min − 1)(E/E_min − 1) at batch 8", FIRST),
        "rises": Growth(
            "log_noise_late", "log_noise_early", "ln noise scale, last part of the run less the first", {"batch": 64}
        ),
        "rate": Slope("rate", "batch", "change in ln of the best rate for batch times e", log=True, where=FIRST),
    },
    claims={
        "noise-scale-predicts-critical-batch": "predicts",
        "steps-and-examples-trade-off": "hyperbola",
        "noise-scale-grows": "rises",
        "best-rate-grows-with-batch": "rate",
    },
    margins={"noise-scale-predicts-critical-batch": math.log(3), "steps-and-examples-trade-off": math.log(1.5)},
    budgets={
        "quick": Budget(_arms(2, 8, 16, 64), 5, {**SETTINGS, "rates": (2e-3, 1e-3)}, minutes=5.0),
        "full": Budget(_arms(1, 2, 4, 8, 16, 32, 64), 10, SETTINGS, minutes=20.0),
    },
    prepare=prepare,
    run=run,
    control=Difference("steps", *TWINS, "ln steps, two draws", log=True),
    chart=Chart("steps", "batch", None, FIRST, metric_title="steps to the goal", knob_title="batch, rows"),
    first_seed=10,
)
