"""Should prompt tokens be targets of supervised fine-tuning, with few or many rows, and with short or long prompts?"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file, save_file

from trimpot.core.seeds import seed_for
from trimpot.studies.measures import Difference
from trimpot.studies.second_task import filled, fine_tune, mean_loss, measured, task_of
from trimpot.studies.study import Budget, Chart, Settings, Study, Tuning, Values
from trimpot.studies.subject import prepare_subject, subject_of

MODEL = "language-model.safetensors"
LONG = 6
"""Words of filler before a long prompt: 30 tokens, and an answer has 5."""


def prepare(settings: Settings, seed: int, folder: Path) -> None:
    """The seed's base model, trained further on every token of its task's rows, half of them with long prompts.

    Pretrained models know the text of prompts; the base, fine-tuned on answers alone, would not.
    Edge cases: the user's own model is taken as it is.
    """
    prepare_subject(settings, seed, folder)
    if settings.get("subject") == "own":
        return
    subject = subject_of(settings, seed, folder)
    policy, chats = subject.base(), subject.chats()
    long = [replace(row, messages=filled(row.messages, LONG, seed, row.id)) for row in chats[::2]]
    every_token = {**settings, "steps": settings["pretrain_steps"]}
    samples = subject.samples([*long, *chats[1::2]], policy, "all")
    fine_tune(policy, samples, every_token, settings["pretrain_rate"], seed_for(seed, "pretrain"))
    save_file({name: value.contiguous() for name, value in policy.trainable().items()}, folder / MODEL)


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """Fine-tunes on the second task's first rows under one mask; measured on rows and prompts that are held out.

    ``gap`` is the loss on held-out answers less that on trained ones. Losses are of answers only under every mask.
    Units: nats per token.
    Edge cases: of fewer rows of the user's than an arm wants all are taken.
    """
    subject = subject_of(settings, seed, folder)
    policy = subject.base()
    if (folder / MODEL).exists():
        policy.model.load_state_dict(load_file(folder / MODEL), strict=False)
    task = task_of(subject, settings, seed, int(values["filler"]))
    rows = task.train[: int(values["rows"])]
    order = seed_for(seed, "order", int(values["order"]))
    samples = subject.samples(rows, policy, str(values["mask"]))
    fine_tune(policy, samples, settings, float(values["learning_rate"]), order)
    metrics = measured(policy, subject, task, seed_for(seed, "measure"))
    trained = mean_loss(policy, subject.samples(rows, policy))
    return {**metrics, "trained_answer_loss": trained, "gap": metrics["answer_loss"] - trained}


def _name(mask: str, rows: int, filler: int, order: int = 0) -> str:
    return f"{mask}, {rows} rows, {'long' if filler else 'short'} prompts{', other order' if order else ''}"


def _arms(*places: tuple[int, int]) -> Mapping[str, Mapping[str, float | str]]:
    """Both masks at each number of rows and of fillers, and the control's second arm."""
    plain = [(mask, *place, 0) for place, mask in itertools.product(places, ("assistant", "all"))]
    knobs = ("mask", "rows", "filler", "order")
    return {_name(*arm): dict(zip(knobs, arm, strict=True)) for arm in [*plain, ("assistant", FEW, LONG, 1)]}


def _difference(metric: str, rows: int, filler: int, words: str) -> Difference:
    all_tokens, answers = _name("all", rows, filler), _name("assistant", rows, filler)
    return Difference(metric, all_tokens, answers, f"{words}: {all_tokens}, less assistant")


FEW, MANY = 32, 872
SETTINGS = {
    "stop_at": 0.9, "sft_steps": 1000, "prompts": 1000, "pairs": 0, "held_out": 200,
    "pretrain_steps": 300, "pretrain_rate": 1e-3, "steps": 100, "batch": 32,
}  # fmt: skip
SCORE = "held-out accuracy (of own rows: negated loss on answers)"
CONTROL = (_name("assistant", FEW, LONG), _name("assistant", FEW, LONG, 1), f"{SCORE} of two data orders")

STUDY = Study(
    id="sft-mask",
    question="Does loss on prompt tokens help supervised fine-tuning, and does that depend on rows and prompt length?",
    model="tiny-0.1m",
    scale=(
        "a random Llama on bytes, fine-tuned to write four letters backwards, then trained on all tokens of that task;"
        " fine-tuned to write them rotated: answers of 5 tokens, prompts of 5 random ones in a template of 19,"
        " long ones with 30 of random filler words; all weights, AdamW, every arm with its own learning rate"
        " out of four; settings chosen on seed 0"
    ),
    tests={
        "few rows": _difference("score", FEW, LONG, SCORE),
        "long prompts": _difference("score", MANY, LONG, SCORE),
        "many rows, short prompts": _difference("score", MANY, 0, SCORE),
        "held-out loss": _difference("answer_loss", FEW, LONG, "loss on held-out answers, nats per token"),
    },
    claims={
        "prompt-loss-helps-few-rows": "few rows",
        "prompt-loss-helps-long-prompts": "long prompts",
        "answers-alone-do-better": "many rows, short prompts",
        "prompt-loss-lowers-held-out-loss": "held-out loss",
    },
    budgets={
        "quick": Budget(_arms((FEW, LONG), (MANY, 0)), 5, SETTINGS, tuning_seeds=1),
        "full": Budget(_arms(*itertools.product((FEW, MANY), (0, LONG))), 8, SETTINGS),
    },
    prepare=prepare,
    run=run,
    control=Difference("score", *CONTROL),
    chart=Chart("score", "rows", "mask", {"filler": LONG, "order": 0}, SCORE, "rows, long prompts", "targets", False),
    first_seed=10,
    tuning=Tuning(values=(1e-3, 3e-3, 1e-2, 3e-2), metric="score"),
    kinds=("chats",),
)
