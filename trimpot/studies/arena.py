"""The bitter lesson as a contest: tricks against plain fine-tuning at equal measured operations, on budgets up to 16×.

All begin with the same untrained model. A budget pays for training and for the answers to the questions that are asked
afterwards, in operations that ``measured_flops`` counts: a trick that makes rows longer trains fewer steps, and so does
one that answers several times. Every arm has its own learning rate, out of as many as every other.

To enter a trick of your own, add a ``Trick`` to TRICKS in arena_tricks.py, with what it does otherwise than plain
fine-tuning (how rows are shown and answers read, the optimiser, what trains, the share for search). It then has arms
at all budgets; a line like those in ``tests`` tests its lead, and ``lead_by_budget`` lists it.

It cannot run on a user's model: the prior is about the letters of these words, and 31 units a trick for every seed and
learning rate are days of a real model's training on two cores.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from trimpot.core.seeds import seed_for
from trimpot.knobs.evidence import Evidence
from trimpot.models.tiny import tiny
from trimpot.studies.arena_runs import Costs, allocate, answer, costs_of, fine_tune, score, words_of
from trimpot.studies.arena_tricks import PLAIN, TRICKS
from trimpot.studies.measures import Difference, GapSlope
from trimpot.studies.study import Budget, Chart, Settings, Study, Tuning, Values
from trimpot.training.settings import LoopSettings


def prepare(settings: Settings, seed: int, folder: Path) -> None:
    """Measures what a training step and an answer take under every trick."""
    costs = {name: asdict(costs_of(trick, settings, seed)) for name, trick in TRICKS.items()}
    (folder / "costs.json").write_text(json.dumps(costs))


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """One trick at one budget trains and answers the questions: ``accuracy``, ``majority``, and what was spent.

    Units: ``flops`` and ``budget_flops`` in operations.
    """
    name, costs = str(values["trick"]), json.loads((folder / "costs.json").read_text())
    trick, own = TRICKS[name], Costs(**costs[name])
    budget = float(values["budget"]) * settings["unit_steps"] * costs[PLAIN]["step"]
    steps, answers = allocate(budget, own, trick.search)
    policy, (rows, questions) = tiny("0.1m", seed=seed), words_of(settings, seed)
    pace, order = LoopSettings(steps=steps, batch=settings["batch"]), seed_for(seed, "order", int(values["order"]))
    fine_tune(trick, policy, rows, pace, float(values["learning_rate"]), order)
    found = score(answer(trick, policy, questions, answers, seed_for(seed, "answers")), questions)
    return {**found, "steps": steps, "answers": answers, "flops": own.spent(steps, answers), "budget_flops": budget}


def lead_by_budget(evidence: Evidence, trick: str, metric: str = "accuracy") -> dict[float, float]:
    """What a trick has over plain fine-tuning at every budget, mean over seeds; ``crossing`` says where it ends."""
    means: dict[tuple[str, float], float] = {}
    for name, arm in evidence.arms.items():
        values = [metrics[metric] for metrics in evidence.results[name].values()]
        if values and not arm["order"]:
            means[str(arm["trick"]), float(arm["budget"])] = math.fsum(values) / len(values)
    return {b: mean - means[PLAIN, b] for (name, b), mean in means.items() if name == trick and (PLAIN, b) in means}


def _label(trick: str, budget: int) -> str:
    return f"{trick}, budget {budget}"


def _lead(first: str, second: str, budget: int) -> Difference:
    names = _label(first, budget), _label(second, budget)
    return Difference("letters", *names, f"letters in place at {budget} units, {first} less {second}")


BUDGETS, MIDDLE, LARGE = (1, 2, 4, 8, 16), 4, 16
AGAIN = f"{_label(PLAIN, MIDDLE)}, other order"
ARMS: Mapping[str, Mapping[str, float | str]] = {
    **{_label(trick, b): {"trick": trick, "budget": b, "order": 0} for b in BUDGETS for trick in TRICKS},
    AGAIN: {"trick": PLAIN, "budget": MIDDLE, "order": 1},
}
SETTINGS = {"unit_steps": 20, "batch": 16, "rows": 2048, "questions": 256}
FAMILIES: tuple[Values, Values] = {"trick": PLAIN, "order": 0}, {"trick": "numbered", "order": 0}
GAIN = "letters in place, plain less numbered, its rise as the budget grows e-fold"

STUDY = Study(
    id="arena",
    question="Which tricks beat plain fine-tuning at equal operations, and does their lead last as operations grow?",
    model="tiny-0.1m",
    scale=(
        "a random Llama on bytes learns to write four letters backwards, 2048 words, batches of 16; 256 other words are"
        " asked; budgets of 1 to 16 times the operations of 20 plain steps; settings chosen on seeds 0-9"
    ),
    tests={
        "prior at first": _lead("numbered", PLAIN, MIDDLE),
        "plain gains": GapSlope("letters", "budget", *FAMILIES, GAIN),
        "plain at last": _lead(PLAIN, "numbered", LARGE),
        "search": _lead("best-of-n", PLAIN, LARGE),
        "decay": _lead("cosine", PLAIN, LARGE),
        "noise": _lead("neftune", PLAIN, LARGE),
    },
    claims={
        "prior-helps-at-first": "prior at first",
        "prior-plateaus": "plain gains",
        "prior-is-overtaken": "plain at last",
        "search-beats-longer-training": "search",
        "decay-improves-the-end": "decay",
        "neftune-raises-score": "noise",
    },
    budgets={"quick": Budget(ARMS, 3, SETTINGS), "full": Budget(ARMS, 6, SETTINGS)},
    prepare=prepare,
    run=run,
    control=Difference("letters", _label(PLAIN, MIDDLE), AGAIN, "letters in place, two data orders"),
    chart=Chart(
        "letters", "budget", group="trick", where={"order": 0}, metric_title="letters in place, new words",
        knob_title="operations, in units of 20 plain training steps", group_title="trick", log=False,
    ),
    first_seed=10,
    tuning=Tuning(values=(5e-4, 1e-3, 2e-3), seeds=(0,)),
)  # fmt: skip
