"""What is a leak worth: test items among the training rows, the score they buy, and what it says of ability."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trimpot.core.seeds import seed_for, stream
from trimpot.studies.measures import Difference
from trimpot.studies.second_task import answered, fine_tune, rotated
from trimpot.studies.study import Budget, Chart, Settings, Study, Values
from trimpot.studies.subject import prepare_subject, subject_of


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """Fine-tunes on equally many rows, some of them test items; ``score`` on the test, ``clean`` on items nobody saw.

    ``inflation`` is score less clean: both are drawn alike, so without a leak it is 0 but for noise. One sample an
    item at temperature 1.
    """
    subject = subject_of(settings, seed, folder)
    policy, unseen = subject.base(), rotated(subject.held_out())
    test, fresh = unseen[: settings["test"]], unseen[settings["test"] :]
    leaked = stream(seed, "leak").sample(range(len(test)), round(float(values["leak"]) * len(test)))
    rows = [test[place] for place in sorted(leaked)]
    rows += rotated(subject.prompts())[: settings["rows"] - len(rows)]
    order = seed_for(seed, "order", int(values["order"]))
    fine_tune(policy, subject.samples(answered(rows), policy), settings, settings["learning_rate"], order)
    measure = seed_for(seed, "measure")
    scores = {}
    for name, asked in (("score", test), ("clean", fresh)):
        _, marks = subject.sampled(policy, asked, settings["samples"], measure)
        scores[name] = sum(mark for group in marks for mark in group) / (len(asked) * settings["samples"])
    return {**scores, "inflation": scores["score"] - scores["clean"]}


def _name(leak: float, order: int = 0) -> str:
    return f"{leak:.0%} of the test leaked{', other order' if order else ''}"


def _arms(*leaks: float) -> Mapping[str, Values]:
    arms = {_name(leak): {"leak": leak, "order": 0} for leak in leaks}
    return {**arms, _name(0.0, 1): {"leak": 0.0, "order": 1}}


def _against_none(metric: str, leak: float, words: str) -> Difference:
    return Difference(metric, _name(leak), _name(0.0), f"{words}, {_name(leak)} less none")


SETTINGS = {
    "stop_at": 0.9, "sft_steps": 1000, "prompts": 200, "pairs": 0, "held_out": 240, "test": 40, "rows": 40,
    "samples": 8, "steps": 100, "batch": 32, "learning_rate": 1e-3,
}  # fmt: skip

STUDY = Study(
    id="contamination",
    question="What does a share of the test among the training rows add to the score, and what to ability?",
    model="tiny-0.1m",
    scale=(
        "a random Llama on bytes, fine-tuned to write four letters backwards, then on 40 rows to write them rotated,"
        " some of these rows being items of the test of 40; 200 further items are clean; settings chosen on seeds 0-1"
    ),
    tests={
        "tenth": _against_none("inflation", 0.1, "score on the test less that on clean items"),
        "whole": _against_none("inflation", 1.0, "score on the test less that on clean items"),
        "ability": _against_none("clean", 1.0, "score on clean items"),
    },
    claims={
        "small-leak-raises-score": "tenth",
        "leak-raises-score": "whole",
        "leak-adds-no-ability": "ability",
    },
    margins={"leak-adds-no-ability": 0.05},
    budgets={
        "quick": Budget(_arms(0.0, 0.1, 1.0), 5, SETTINGS, minutes=2.0),
        "full": Budget(_arms(0.0, 0.05, 0.1, 0.25, 0.5, 1.0), 12, SETTINGS, minutes=6.0),
    },
    prepare=prepare_subject,
    run=run,
    control=Difference("score", _name(0.0), _name(0.0, 1), "score of two data orders without a leak"),
    chart=Chart(
        "inflation", "leak", None, {"order": 0}, "score on the test less that on clean items",
        "share of the test among the training rows", log=False,
    ),
    first_seed=10,
)  # fmt: skip
