"""Does a language model as the judge of two answers prefer a place, and do both orders together judge better?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file

from trimpot.core.seeds import seed_for, stream
from trimpot.data.prepare import tokenise
from trimpot.data.template import ChatTemplate
from trimpot.evaluation.local import LocalModel
from trimpot.models.load import load
from trimpot.studies.judging import GAPS, margins, measured, pairs_of, told
from trimpot.studies.measures import Difference, Growth, Level
from trimpot.studies.second_task import fine_tune
from trimpot.studies.study import Budget, Chart, Settings, Study, Values

TRAINED = "judge.safetensors"


def prepare(settings: Settings, seed: int, folder: Path) -> None:
    """Trains the second judge on pairs of all gaps, the right answer as often first as second."""
    policy = load(settings["model"], seed=seed)
    pairs = [pair for gap in GAPS for pair in pairs_of("train", settings["trained_on"], gap, seed)]
    # In the order of the rows places would go by kinds of questions.
    stream(seed, "places").shuffle(pairs)
    rows = [told(pair, right_first=bool(number % 2)) for number, pair in enumerate(pairs)]
    samples = tokenise(rows, ChatTemplate(policy.tokenizer, policy.virtual_ids), settings["max_length"]).samples
    fine_tune(policy, samples, settings, settings["learning_rate"], seed_for(seed, "order"))
    save_file({name: value.contiguous() for name, value in policy.trainable().items()}, folder / TRAINED)


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """The judge on pairs of a right and a wrong answer, both orders of each: see ``measured``.

    ``judge`` plain or trained, ``gap`` of GAPS; ``draw`` chooses the pairs.
    """
    policy = load(settings["model"], seed=seed)
    if values["judge"] == "trained":
        policy.model.load_state_dict(load_file(folder / TRAINED, str(policy.device)), strict=False)
    drawn = seed_for(seed, "pairs", int(values["draw"]))
    pairs = pairs_of("evaluation", settings["pairs"], str(values["gap"]), drawn)
    return measured(margins(LocalModel(policy), pairs), stream(drawn, "shown first"))


def _arms(judges: Sequence[str], gaps: Sequence[str]) -> Mapping[str, Values]:
    arms: dict[str, Values] = {
        f"{judge}, {gap}": {"judge": judge, "gap": gap, "draw": 0} for judge in judges for gap in gaps
    }
    return {**arms, "trained, near, other pairs": {"judge": "trained", "gap": "near", "draw": 1}}


PLAIN: Values = {"judge": "plain", "draw": 0}
SKILLED: Values = {"judge": "trained", "draw": 0}
SETTINGS = {
    "model": "smollm2-135m", "pairs": 96, "trained_on": 120, "steps": 60, "batch": 8, "learning_rate": 5e-5,
    "max_length": 256,
}  # fmt: skip

STUDY = Study(
    id="judge-position-bias",
    question="Does a judge of two answers go by their place, and does asking in both orders mend it?",
    model="smollm2-135m",
    scale=(
        "SmolLM2-135M-Instruct in float32 from a 4-bit file, as it is and trained as a judge for 60 steps of 8 pairs;"
        " which letter is likelier, on 96 pairs of a right and an equally long wrong answer to easy questions whose"
        " answer is a number; settings chosen on seed 0"
    ),
    tests={
        "conflicts": Level("conflicts", "share of pairs whose verdict changes with the order, judge as it is", PLAIN),
        "favoured": Level("favoured", "share of verdicts for the favoured place less a half, judge as it is", PLAIN),
        "gap": Difference(
            "conflicts", "trained, near", "trained, no number",
            "share of pairs whose verdict changes with the order, wrong by 1 less no number, trained judge",
        ),
        "both": Growth(
            "right_both", "right_one", "share of right verdicts, both orders less one, trained judge", SKILLED
        ),
        "balance": Growth(
            "place_agreed", "place_one", "wins of the first place away from a half, agreed less one order, plain judge",
            PLAIN,
        ),
    },
    claims={
        "judge-prefers-a-place": "conflicts",
        "place-bias-is-no-chance": "favoured",
        "near-answers-flip-more": "gap",
        "both-orders-judge-better": "both",
        "asking-both-orders-balances": "balance",
    },
    budgets={
        "quick": Budget(
            _arms(("plain", "trained"), ("near", "no number")), 2, {**SETTINGS, "pairs": 48, "batch": 4}, minutes=4.0
        ),
        "full": Budget(_arms(("plain", "trained"), GAPS), 8, SETTINGS, minutes=30.0),
    },
    prepare=prepare,
    run=run,
    control=Difference(
        "conflicts", "trained, near", "trained, near, other pairs", "share of conflicts on two draws of pairs"
    ),
    chart=Chart(
        "conflicts", "gap", "judge", {"draw": 0}, "share of pairs whose verdict changes with the order",
        "the wrong answer", "judge", log=False,
    ),
    first_seed=10,
)  # fmt: skip
