"""How many items until the ranking of three checkpoints is that of the whole test?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from trimpot.core.rows import ChatRow, Message
from trimpot.core.seeds import seed_for
from trimpot.store.atomic import write_text
from trimpot.studies.measures import Difference, Level
from trimpot.studies.second_task import fine_tune
from trimpot.studies.study import Budget, Chart, Settings, Study, Values
from trimpot.studies.subject import prepare_subject, subject_of

SCORES = "scores.json"


def prepare(settings: Settings, seed: int, folder: Path) -> None:
    """Three checkpoints: the base, and it fine-tuned for few steps and for twice as many; all answer all items."""
    prepare_subject(settings, seed, folder)
    subject = subject_of(settings, seed, folder)
    rows = [ChatRow((*row.prompt, Message("assistant", row.answer))) for row in subject.prompts()]
    scores = []
    for number in range(3):
        policy = subject.base()
        if number:
            longer = {**settings, "steps": settings["steps"] * number}
            fine_tune(policy, subject.samples(rows, policy), longer, settings["learning_rate"], seed_for(seed, "order"))
        _, marks = subject.sampled(policy, subject.held_out(), 1, seed_for(seed, "answers", number))
        scores.append([group[0] for group in marks])
    write_text(folder / SCORES, json.dumps(scores))


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """Draws so many of the items without replacement, often, and ranks the checkpoints by them.

    ``same``: share of draws that rank all three as the whole test does; ``best``: that put the same one first. Ties of
    a draw count as wrong. ``short_of_95``: same less 0.95. ``gap``: the smallest difference of two neighbours' scores.
    """
    scores = np.array(json.loads((folder / SCORES).read_text()))
    draws = np.random.default_rng(seed_for(seed, "draws", int(values["draw"])))
    same, best = _agreement(scores, int(values["items"]), settings["draws"], draws)
    gap = float(np.diff(np.sort(scores.mean(axis=1))).min())
    return {"same": same, "best": best, "short_of_95": same - 0.95, "gap": gap}


def _agreement(scores: np.ndarray, items: int, draws: int, generator: np.random.Generator) -> tuple[float, float]:
    """Shares of draws with the ranking, and with the best checkpoint, of all items; ``scores`` [checkpoint, item]."""
    order = np.argsort(-scores.mean(axis=1), kind="stable")
    ranked = scores[order]
    same = best = 0
    for _ in range(draws):
        means = ranked[:, generator.permutation(scores.shape[1])[:items]].mean(axis=1)
        first, second, third = means
        best += bool(first > max(second, third))
        same += bool(first > second > third)
    return same / draws, best / draws


def _arms(sizes: Sequence[int]) -> Mapping[str, Values]:
    arms = {f"{size} items": {"items": size, "draw": 0} for size in sizes}
    return {**arms, f"{SMALL} items, other draws": {"items": SMALL, "draw": 1}}


SMALL, LARGE = 100, 1000
SETTINGS = {
    "stop_at": 0.5, "sft_steps": 600, "prompts": 1000, "pairs": 0, "held_out": 2000, "steps": 8, "batch": 32,
    "learning_rate": 3e-4, "draws": 1000,
}  # fmt: skip

STUDY = Study(
    id="ranking-items",
    question="How many items are needed until three checkpoints of one run rank as on the whole test?",
    model="tiny-0.1m",
    scale=(
        "a random Llama on bytes that writes four letters backwards, and two later checkpoints of the same training;"
        " one sample of each of 2000 items; 1000 draws of items for each size; settings chosen on seeds 0-1"
    ),
    tests={
        "hundred": Level("short_of_95", f"share of draws of {SMALL} that rank alike, less 0.95", {"items": SMALL}),
        "more": Difference("same", f"{LARGE} items", f"{SMALL} items", f"share that ranks alike, {LARGE} less {SMALL}"),
    },
    claims={"hundred-items-rank-alike": "hundred", "more-items-rank-better": "more"},
    budgets={
        "quick": Budget(_arms((SMALL, LARGE)), 5, SETTINGS, minutes=2.0),
        "full": Budget(_arms((25, 50, SMALL, 200, 500, LARGE, 1500)), 12, SETTINGS, minutes=5.0),
    },
    prepare=prepare,
    run=run,
    control=Difference("same", f"{SMALL} items", f"{SMALL} items, other draws", "share that ranks alike, other draws"),
    chart=Chart("same", "items", None, {"draw": 0}, "share of draws that rank alike", "items", log=False),
    first_seed=10,
)  # fmt: skip
