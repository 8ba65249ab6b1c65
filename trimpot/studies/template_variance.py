"""Is the spread of accuracy over prompt templates larger than the difference between two checkpoints?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trimpot.core.seeds import seed_for
from trimpot.models.load import load
from trimpot.studies.measures import Difference, Growth, Level
from trimpot.studies.study import Budget, Chart, Settings, Study, Values
from trimpot.studies.subject import prepare_subject, subject_of
from trimpot.studies.templates import TEMPLATES, answers, drawn_facts, measured


def prepare(settings: Settings, seed: int, folder: Path) -> None:
    """The second checkpoint: the model fine-tuned for ``sft_steps`` on questions of another kind."""
    prepare_subject(settings, seed, folder)


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """Both checkpoints answer the same items in all templates: see ``measured``.

    ``examples`` before a question; ``draw`` chooses the items and the examples.
    """
    drawn = seed_for(seed, "items", int(values["draw"]))
    examples, items = drawn_facts(settings["items"], int(values["examples"]), drawn)
    checkpoints = (load(settings["model"], seed=seed), subject_of(settings, seed, folder).base())
    return measured(np.array([[answers(one, way, examples, items) for way in TEMPLATES] for one in checkpoints]))


def _arms(*examples: int) -> Mapping[str, Values]:
    arms: dict[str, Values] = {f"{count} examples": {"examples": count, "draw": 0} for count in examples}
    return {**arms, f"{SHOWN} examples, other items": {"examples": SHOWN, "draw": 1}}


SHOWN = 4
FIRST_DRAW: Values = {"draw": 0}
FEW_SHOT: Values = {"examples": SHOWN}
SETTINGS = {
    "subject": "own", "model": "smollm2-135m", "data": "embedded:reasoning-easy",
    "sft_steps": 60, "sft_batch": 4, "sft_learning_rate": 1e-4, "chats": 240, "items": 96,
}  # fmt: skip

STUDY = Study(
    id="template-variance",
    question="Do prompt templates that mean the same differ in accuracy by more than two checkpoints do?",
    model="smollm2-135m",
    scale=(
        "SmolLM2-135M-Instruct in float32 from a 4-bit file, and it fine-tuned for 60 steps of 4 conversations with"
        " easy reasoning questions; 96 of 144 everyday facts with 4 choices, by likelihood; six templates; items and"
        " settings chosen on seeds 0-1"
    ),
    tests={
        "spread": Level("spread", "accuracy of the best template less the worst, told on other items", FIRST_DRAW),
        "shown": Level("spread", f"the same with {SHOWN} examples before the question", FEW_SHOT),
        "exceeds": Growth("spread", "gap", "spread of the templates less the gap of the checkpoints", FIRST_DRAW),
        "shift": Level("shift", "gap of the checkpoints, one template less another, told on other items", FIRST_DRAW),
    },
    claims={
        "formats-differ-in-accuracy": "spread",
        "formats-differ-after-examples": "shown",
        "formats-exceed-checkpoints": "exceeds",
        "formats-change-the-gap": "shift",
    },
    budgets={
        "quick": Budget(_arms(0, SHOWN), 2, {**SETTINGS, "sft_steps": 15}, minutes=4.0),
        "full": Budget(_arms(0, 1, SHOWN), 16, SETTINGS, minutes=28.0),
    },
    prepare=prepare,
    run=run,
    control=Difference(
        "spread", f"{SHOWN} examples", f"{SHOWN} examples, other items", "spread of the templates on two draws of items"
    ),
    chart=Chart(
        "spread", "examples", None, {"draw": 0}, "best template less worst, told on other items",
        "examples before the question", log=False,
    ),
    first_seed=10,
)  # fmt: skip
