"""What the checks are tried on: stages of a tiny model that writes the first letter of a word several times."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from trimpot.core.rows import ChatRow, Message, Origin, PreferencePair, PromptRow, Row, TextRow
from trimpot.core.samples import Sample
from trimpot.core.seeds import seed_for, stream
from trimpot.data.prepare import tokenise
from trimpot.data.template import ChatTemplate
from trimpot.models.policy import Policy
from trimpot.models.reward import from_policy
from trimpot.models.tiny import tiny
from trimpot.objectives.preference.dpo import DPO
from trimpot.objectives.reward.bradley_terry import BradleyTerry
from trimpot.objectives.supervised.sft import SupervisedFineTuning
from trimpot.preflight.check import Built, Memory
from trimpot.training.loop import Plan, TrainState, train
from trimpot.training.reference import RowReference
from trimpot.training.rows import DatasetSource
from trimpot.training.settings import LoopSettings, OptimizerSettings

LETTERS, OTHERS = "abcdefgh", "stuvwxyz"
ROWS, EVALUATION, MAX_LENGTH, BATCH = 100, 10, 64, 8
LOOP = LoopSettings(steps=60, batch=BATCH, max_length=MAX_LENGTH)
RATES = {"sft": 1e-3, "preference": 3e-4, "reward": 1e-3}
STAGES = ("sft", "preference")


def words(count: int, name: str) -> list[str]:
    """Distinct words of three letters; another name gives other words."""
    draw = stream(0, "preflight words")
    every = [a + b + c for a in LETTERS for b in LETTERS for c in LETTERS]
    draw.shuffle(every)
    return every[:count] if name == "train" else every[-count:]


def answer_of(word: str) -> str:
    """Its first letter, two to four times by its second: answers differ in length."""
    return word[0] * (2 + LETTERS.index(word[1]) % 3)


def chats() -> list[ChatRow]:
    return [
        ChatRow((Message("user", word), Message("assistant", answer_of(word))), origin=Origin("chat.jsonl", line))
        for line, word in enumerate(words(ROWS, "train"), start=1)
    ]


def pairs() -> list[PreferencePair]:
    """The answer over as many other letters."""
    draw = stream(0, "preflight pairs")
    found = []
    for line, word in enumerate(words(ROWS, "train"), start=1):
        right = answer_of(word)
        wrong = "".join(draw.choice(OTHERS) for _ in range(draw.randint(2, 4)))
        chosen, rejected = (Message("assistant", right),), (Message("assistant", wrong),)
        origin = Origin("pairs.jsonl", line)
        found.append(PreferencePair((Message("user", word),), chosen, rejected, origin=origin))
    return found


def evaluation() -> list[PromptRow]:
    return [PromptRow((Message("user", word),), answer_of(word)) for word in words(EVALUATION, "evaluation")]


_KEPT: dict[str, dict[str, Any]] = {}


def base() -> Policy:
    """A tiny model pretrained on whole conversations and on the other letters: it knows the form, and some answers."""
    policy = tiny("0.1m", seed=1)
    if "base" not in _KEPT:
        template = ChatTemplate(policy.tokenizer)
        chat = [
            ChatRow((Message("user", word), Message("assistant", answer_of(word)))) for word in words(400, "evaluation")
        ]
        draw = stream(0, "preflight text")
        texts = [TextRow("".join(draw.choice(OTHERS) for _ in range(8))) for _ in range(100)]
        samples = tokenise([*chat, *texts], template, MAX_LENGTH, "all").samples
        optimizer = OptimizerSettings(learning_rate=3e-3, warmup=0.05)
        loop = LoopSettings(steps=150, batch=16, micro_batch_tokens=2048)
        plan = Plan(SupervisedFineTuning(), DatasetSource(samples, 16, 0), loop, optimizer)
        for _ in train(TrainState.new(policy, optimizer), plan):
            pass
        _KEPT["base"] = {name: value.detach().clone() for name, value in policy.model.state_dict().items()}
    policy.model.load_state_dict(_KEPT["base"])
    return policy


def built(kind: str, scratch: bool = False, rows: Sequence[Row] | None = None, **changes: Any) -> Built:
    """A clean stage of a kind: sft, preference (DPO) or reward. ``changes``: of the loop's settings."""
    policy = tiny("0.1m", seed=2) if scratch else base()
    template = ChatTemplate(policy.tokenizer)
    rows = rows if rows is not None else (chats() if kind == "sft" else pairs())
    loop = dataclasses.replace(LOOP, **changes)
    prepared = tokenise(rows, template, loop.max_length)
    source = DatasetSource(prepared.samples, BATCH, seed_for(0, kind))
    optimizer = OptimizerSettings(learning_rate=RATES[kind], weight_decay=0.0)
    objective = {"sft": SupervisedFineTuning(), "preference": DPO(), "reward": BradleyTerry()}[kind]
    reference = RowReference(policy) if kind == "preference" else None
    trainee = from_policy(policy) if kind == "reward" else policy
    plan = Plan(objective, source, loop, optimizer, reference)
    return Built(
        kind, kind, rows, prepared.samples, template, trainee, plan, evaluation(),
        truncated_rows=prepared.truncated_rows, scratch=scratch, memory=Memory(1.02e9, lambda seconds: 1e9),
    )  # fmt: skip


def with_samples(one: Built, samples: Sequence[Sample]) -> Built:
    """The stage with other samples, in its source as well."""
    source = DatasetSource(samples, BATCH, seed_for(0, one.kind))
    return dataclasses.replace(one, samples=tuple(samples), plan=dataclasses.replace(one.plan, source=source))
