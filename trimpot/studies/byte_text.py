"""Tiny decoders trained from random weights on bytes of packaged text: for studies of size, data and learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from trimpot.core.samples import Branch, Sample
from trimpot.core.seeds import seed_for, stream
from trimpot.core.tensors import pack
from trimpot.evaluation.suites.packaged_text import DOMAINS
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny
from trimpot.objectives.supervised.sft import SupervisedFineTuning
from trimpot.training.loop import Plan, TrainState, train
from trimpot.training.rows import DatasetSource
from trimpot.training.settings import LoopSettings, OptimizerSettings

LENGTH = 64
"""Bytes of a window, which is a row to train on: the first is given, the others are targets."""
HELD_OUT = 48_000
"""Bytes that are held out, at least: whole documents."""
KINDS = ("code", "documentation", "prose")
"""Without licences: packages bring nearly the same ones, so a held-out one would have been trained on."""
HEADS, LAYERS = 2, 2
PASS = 4096
"""Tokens of one forward pass."""


@cache
def documents() -> tuple[str, ...]:
    """The texts of the documents of KINDS, passages of one document joined, in the order of the files."""
    joined: dict[tuple[str, str], list[str]] = {}
    for kind in KINDS:
        for passage in DOMAINS[kind]():
            joined.setdefault((kind, passage.document), []).append(passage.text)
    return tuple("\n\n".join(texts) for texts in joined.values())


@cache
def windows(seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The seed's windows to train on, shuffled, and its held-out ones, of other documents.

    A window has LENGTH characters, nearly all of one byte.
    """
    texts = list(documents())
    stream(seed, "documents").shuffle(texts)
    count = size = 0
    while size < HELD_OUT:
        size += len(texts[count])
        count += 1
    train_on, held_out = _cut(texts[count:]), _cut(texts[:count])
    stream(seed, "windows").shuffle(train_on)
    return tuple(train_on), tuple(held_out)


def model(width: int, seed: int) -> Policy:
    """A Llama of two layers and two heads with the hidden size ``width``, as transformers initialises it."""
    changes: dict[str, Any] = {
        "hidden_size": width, "intermediate_size": 8 * width // 3, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "head_dim": width // HEADS,
    }  # fmt: skip
    return tiny("0.1m", seed=seed, **changes)


def parameters(policy: Policy) -> int:
    """Parameters without the embedding, which is the head too."""
    return sum(value.numel() for name, value in policy.trainable().items() if "embed" not in name)


def learn(
    policy: Policy, seed: int, tokens: int, batch: int, rate: float, order: int = 0,
    factors: Mapping[str, float] | None = None,
) -> None:  # fmt: skip
    """One pass over the seed's first ``tokens`` tokens in steps of ``batch`` windows; AdamW, 10% warm-up, cosine.

    ``factors``: see ``TrainState.new``. ``order``: another order of the same windows.

    Raises:
        ValueError: there are fewer tokens.
    """
    chosen, count = windows(seed)[0], tokens // LENGTH
    if count > len(chosen):
        raise ValueError(f"{tokens} tokens are asked for, and there are {LENGTH * len(chosen)}")
    samples = [_sample(policy, text, number) for number, text in enumerate(chosen[:count])]
    optimizer = OptimizerSettings(learning_rate=rate, schedule="cosine", beta2=0.99)
    loop = LoopSettings(steps=max(1, count // batch), batch=batch, micro_batch_tokens=PASS)
    plan = Plan(SupervisedFineTuning(), DatasetSource(samples, batch, seed_for(seed, "order", order)), loop, optimizer)
    for _ in train(TrainState.new(policy, optimizer, factors), plan):
        pass


@torch.no_grad()
def held_out_loss(policy: Policy, seed: int) -> float:
    """The mean negative log-probability of the held-out bytes, in nats per byte."""
    samples = [_sample(policy, text, number) for number, text in enumerate(windows(seed)[1])]
    found = [policy.scores(batch).logprob_N.double() for batch in pack(samples, PASS, str(policy.device))]
    return -float(torch.cat(found).mean())


def _cut(texts: list[str]) -> list[str]:
    whole = "\n\n".join(texts)
    return [whole[at : at + LENGTH] for at in range(0, len(whole) - LENGTH + 1, LENGTH)]


def _sample(policy: Policy, text: str, number: int) -> Sample:
    ids = tuple(policy.tokenizer.encode(text, add_special_tokens=False))
    return Sample(str(number), (), (Branch(ids, (False, *[True] * (len(ids) - 1))),))
