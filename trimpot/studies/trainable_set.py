"""Which weights should train: what each set learns of a new task, what it costs, and what it forgets of an old one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from trimpot.core.errors import UsageError
from trimpot.core.progress import ignore
from trimpot.core.seeds import seed_for
from trimpot.data.load import EMBEDDED
from trimpot.studies.measures import Difference, Slope
from trimpot.studies.second_task import choose, fine_tune, mean_loss, measured, source_chats, task_of
from trimpot.studies.study import Budget, Chart, Settings, Study, Tuning, Values
from trimpot.studies.subject import prepare_subject, subject_of
from trimpot.training.frozen_rows import Room, keep_states


def prepare(settings: Settings, seed: int, folder: Path) -> None:
    """See ``prepare_subject``.

    Raises:
        UsageError: the embedded questions are the task itself, so nothing is left that could be forgotten.
    """
    if str(settings.get("data", "")).startswith(EMBEDDED):
        problem = "is what the study looks for in the model afterwards, to see what it forgot"
        raise UsageError(settings["data"], problem, "Give conversations of your own.")
    prepare_subject(settings, seed, folder)


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """Trains one set of weights on the target task; ``forgetting`` is the rise of the loss on the source's answers.

    Units: losses in nats per token; ``parameters`` that train; ``seconds`` of this process in training.
    """
    subject = subject_of(settings, seed, folder)
    policy, task = subject.base(), task_of(subject, settings, seed)
    source = subject.samples(source_chats(subject, settings, seed), policy)
    before = mean_loss(policy, source)
    choose(policy, str(values["kind"]), int(values["size"]), seed)
    samples = subject.samples(task.train, policy)
    began = time.process_time()
    # As a recipe trains: what frozen layers make of rows that come back is computed once.
    policy.trunk.frozen = keep_states(policy, samples, ("logprob_N",), Room(4096, None, ignore))
    fine_tune(policy, samples, settings, float(values["learning_rate"]), seed_for(seed, "order", int(values["order"])))
    policy.trunk.frozen = None
    seconds = time.process_time() - began
    metrics = measured(policy, subject, task, seed_for(seed, "measure"))
    metrics["source_loss"] = mean_loss(policy, source)
    if task.prompts:
        _, scores = subject.sampled(policy, subject.held_out(), 1, seed_for(seed, "source"))
        metrics["source_accuracy"] = sum(score for group in scores for score in group) / len(scores)
    parameters = float(sum(value.numel() for value in policy.trainable().values()))
    forgetting = metrics["source_loss"] - before
    return {**metrics, "forgetting": forgetting, "parameters": parameters, "seconds": seconds}


def _arm(kind: str, size: int = 0, order: int = 0) -> Mapping[str, float | str]:
    return {"trains": f"{kind} {size}" if size else kind, "kind": kind, "size": size, "order": order}


ARMS = {
    "LoRA, rank 1": _arm("lora", 1),
    "LoRA, rank 4": _arm("lora", 4),
    "head": _arm("head"),
    "LoRA, rank 16": _arm("lora", 16),
    "last layer": _arm("last_k", 1),
    "both layers": _arm("last_k", 2),
    "all": _arm("all"),
    "all, other order": _arm("all", order=1),
}
SOME = {name: values for name, values in ARMS.items() if name not in ("LoRA, rank 4", "both layers")}
SETTINGS = {
    "stop_at": 0.9, "sft_steps": 1000, "prompts": 800, "pairs": 0, "held_out": 200, "steps": 150, "batch": 32,
}  # fmt: skip
LORA = {"kind": "lora"}
SCORE = "held-out accuracy on the target (of own rows: negated loss)"

STUDY = Study(
    id="trainable-set",
    question="How well does each set of trainable weights learn a new task, and what does it forget of an old one?",
    model="tiny-0.1m",
    scale=(
        "a random Llama of two layers on bytes, fine-tuned to write four letters backwards (source), then, asked in"
        " another form, to write them rotated (target, 800 rows); AdamW; every arm with its own learning rate out of"
        " four; settings chosen on seed 0"
    ),
    tests={
        "last over head": Difference("score", "last layer", "head", f"{SCORE}, last layer less head"),
        "all over last": Difference("score", "all", "last layer", f"{SCORE}, all less last layer"),
        "all forget": Difference("forgetting", "all", "last layer", "rise of source loss, all less last layer"),
        "LoRA learns": Difference("score", "LoRA, rank 16", "all", f"{SCORE}, LoRA of rank 16 less all"),
        "LoRA forgets": Difference("forgetting", "LoRA, rank 16", "all", "rise of source loss, LoRA 16 less all"),
        "rank forgets": Slope("forgetting", "size", "change in the rise of source loss for rank times e", where=LORA),
    },
    claims={
        "last-layers-beat-frozen": "last over head",
        "all-layers-beat-last": "all over last",
        "all-layers-forget": "all forget",
        "lora-learns-less": "LoRA learns",
        "lora-matches-all": "LoRA learns",
        "lora-forgets-less": "LoRA forgets",
        "lora-rank-forgets": "rank forgets",
    },
    margins={"lora-matches-all": 0.05},
    budgets={"quick": Budget(SOME, 5, SETTINGS, tuning_seeds=1), "full": Budget(ARMS, 8, SETTINGS)},
    prepare=prepare,
    run=run,
    control=Difference("score", "all", "all, other order", f"{SCORE} of two data orders, all weights"),
    chart=Chart("score", "trains", None, {"order": 0}, SCORE, "what trains, few parameters first", log=False),
    first_seed=10,
    tuning=Tuning(values=(1e-3, 3e-3, 1e-2, 3e-2), metric="score"),
    kinds=("chats",),
)
