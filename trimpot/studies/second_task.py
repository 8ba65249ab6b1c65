"""What a fine-tuned model learns next: to write four letters rotated, or the user's chats; trained and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from trimpot.core.rows import ChatRow, Message, Messages, PromptRow
from trimpot.core.samples import Sample
from trimpot.core.seeds import stream
from trimpot.core.tensors import pack
from trimpot.data.embedded import embedded_rows
from trimpot.data.load import EMBEDDED
from trimpot.models.adapters import TrainableSettings, choose_trainable
from trimpot.models.policy import Policy
from trimpot.objectives.supervised.sft import SupervisedFineTuning
from trimpot.studies.study import Settings
from trimpot.studies.subject import Subject
from trimpot.training.loop import Plan, TrainState, train
from trimpot.training.rows import DatasetSource
from trimpot.training.settings import LoopSettings, OptimizerSettings

TOKENS = 4096
FILLERS = (
    "milk", "moon", "soil", "plum", "worm", "spin", "turn", "jump",
    "knot", "lion", "moss", "noon", "rust", "silk", "pony", "root",
)  # fmt: skip
"""Words without any letter of the task."""


@dataclass(frozen=True)
class Task:
    """Rows to train on, rows held out, and the held-out prompts for the verifier; none where nothing can score."""

    train: Sequence[ChatRow]
    held_out: Sequence[ChatRow]
    prompts: Sequence[PromptRow]


def rotated(rows: Sequence[PromptRow]) -> list[PromptRow]:
    """The second task on the rows' letters, asked for in another form: ``>abcd``, answered ``bcda``."""
    words = [row.prompt[-1].content for row in rows]
    return [PromptRow((Message("user", f">{word}"),), word[1:] + word[:1]) for word in words]


def answered(rows: Sequence[PromptRow]) -> list[ChatRow]:
    """The rows with their answers, to train on."""
    return [ChatRow((*row.prompt, Message("assistant", row.answer))) for row in rows]


def filled(messages: Messages, words: int, seed: int, name: str) -> Messages:
    """The turns with so many random FILLERS before the first user turn's text; seed and ``name`` decide which."""
    place = next((index for index, turn in enumerate(messages) if turn.role == "user"), None)
    if not words or place is None:
        return messages
    draw = stream(seed, "filler", name)
    text = " ".join([*(draw.choice(FILLERS) for _ in range(words)), messages[place].content])
    return (*messages[:place], replace(messages[place], content=text), *messages[place + 1 :])


def task_of(subject: Subject, settings: Settings, seed: int, filler: int = 0) -> Task:
    """The second task on words that the base model has not seen, or the user's rows; ``filler`` words before each.

    A verifier scores the words and the embedded rows. Conversations of the user's own have none.
    """
    if settings.get("subject") == "own":
        chats, unseen = subject.chats(), subject.held_out()
    else:
        chats, unseen = answered(rotated(subject.prompts())), rotated(subject.held_out())
    chats = [replace(row, messages=filled(row.messages, filler, seed, row.id)) for row in chats]
    unseen = [replace(row, prompt=filled(row.prompt, filler, seed, row.id)) for row in unseen]
    scored = settings.get("subject") != "own" or settings["data"].startswith(EMBEDDED)
    return Task(chats, answered(unseen), unseen if scored else ())


def source_chats(subject: Subject, settings: Settings, seed: int) -> list[ChatRow]:
    """What may be forgotten: unseen rows of the words task; of the user's model, embedded questions with answers."""
    if settings.get("subject") != "own":
        return answered(subject.held_out())
    rows = embedded_rows("reasoning-easy", "evaluation", settings["held_out"], seed, "chat")
    return [row for row in rows if isinstance(row, ChatRow)]


def choose(policy: Policy, kind: str, size: int, seed: int) -> None:
    """Marks what trains: ``head``, ``last_k`` (``size`` layers), ``lora`` (of rank ``size``, α = 2 rank), or ``all``.

    The head is the output embedding. It is taken apart from the input embedding first, which stays as it was.
    """
    if kind == "head":
        head = policy.model.get_output_embeddings()
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
        policy.model.requires_grad_(False)
        head.weight.requires_grad_(True)
        return
    last, rank = (size if kind == name else 1 for name in ("last_k", "lora"))
    chosen = TrainableSettings(trainable=kind, last_layers=last, lora_rank=rank, lora_alpha=2.0 * rank)
    choose_trainable(policy, chosen, seed)


def fine_tune(policy: Policy, samples: Sequence[Sample], settings: Settings, learning_rate: float, seed: int) -> None:
    """Trains what is trainable for ``settings["steps"]`` steps of ``settings["batch"]`` rows."""
    optimizer = OptimizerSettings(learning_rate=learning_rate)
    source = DatasetSource(samples, settings["batch"], seed)
    loop = LoopSettings(steps=settings["steps"], batch=settings["batch"])
    for _ in train(TrainState.new(policy, optimizer), Plan(SupervisedFineTuning(), source, loop, optimizer)):
        pass


@torch.no_grad()
def mean_loss(policy: Policy, samples: Sequence[Sample]) -> float:
    """−Σ log π(y | before) / N over the N targets of the samples.

    Units: nats per token.
    Raises:
        ValueError: no samples.
    """
    if not samples:
        raise ValueError("no samples: a mean of nothing")
    scores = [policy.scores(batch).logprob_N.double() for batch in pack(samples, TOKENS, str(policy.device))]
    return -float(torch.cat(scores).mean())


def measured(policy: Policy, subject: Subject, task: Task, seed: int) -> dict[str, float]:
    """``answer_loss`` on held-out answers, ``accuracy`` by the verifier of one sample a prompt, and ``score``.

    The score is the accuracy; where nothing can be verified, the negated answer loss. A higher one is better.
    """
    metrics = {"answer_loss": mean_loss(policy, subject.samples(task.held_out, policy))}
    if task.prompts:
        _, scores = subject.sampled(policy, task.prompts, 1, seed)
        metrics["accuracy"] = sum(score for group in scores for score in group) / len(task.prompts)
    return {**metrics, "score": metrics.get("accuracy", -metrics["answer_loss"])}
