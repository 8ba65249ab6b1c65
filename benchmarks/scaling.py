"""How trimpot's rates change with the length of rows, the rows of a step, and the completions of a group.

Length: tokens/s of a training step on rows of one length, half of each supervised, about as many tokens in every step.
Batch: tokens/s of a step on so many rows of one length; the optimiser's part, the same for every step, weighs less in
a large one. Group: tokens/s of sampling and completions/s of a training step on one prompt with so many completions.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.loop import steps_of
from benchmarks.measure import peak_memory
from benchmarks.rows import passages

FULL: dict[str, Any] = {
    "model": "smollm2-135m",
    "lengths": (64, 128, 256, 512, 1024, 2048, 4096),
    "tokens": 2048,
    "batches": (1, 2, 4, 8, 16),
    "batch_length": 256,
    "groups": (1, 2, 4, 8, 16, 32),
    "new_tokens": 32,
}
QUICK: dict[str, Any] = {
    **FULL, "lengths": (64, 256), "tokens": 256, "batches": (1, 2), "batch_length": 64, "groups": (1, 4),
    "new_tokens": 8,
}  # fmt: skip
PROMPT_TOKENS = 192


def run(
    peer: str,
    model: str,
    lengths: Sequence[int],
    tokens: int,
    batches: Sequence[int],
    batch_length: int,
    groups: Sequence[int],
    new_tokens: int,
) -> dict[str, Any]:
    """The three curves as ``details``; the value is the best rate of training by length."""
    from trimpot.models.allocator import keep_freed_memory
    from trimpot.models.load import load

    keep_freed_memory()
    began = time.perf_counter()
    policy = load(model)
    ids = _tokens(policy, 4 * max(*lengths, tokens, batch_length * max(batches)))
    curves = {
        "length": [
            {"length": length, "tokens_per_second": _training(policy, ids, length, max(1, tokens // length))}
            for length in lengths
        ],
        "batch": [{"batch": rows, "tokens_per_second": _training(policy, ids, batch_length, rows)} for rows in batches],
        "group": [_group(policy, ids, group, new_tokens) for group in groups],
    }
    return {
        "value": max(point["tokens_per_second"] for point in curves["length"]),
        "seconds": time.perf_counter() - began,
        "peak_memory_bytes": peak_memory(),
        "work": {},
        "details": curves,
    }


def _tokens(policy: Any, count: int) -> list[int]:
    """At least so many tokens of running text."""
    text = " ".join(text for _, text in passages(1))
    ids: list[int] = policy.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids * (1 + count // len(ids))


def _chat(ids: Sequence[int], start: int, length: int) -> Any:
    from trimpot.core.samples import Branch, Sample

    half = length // 2
    return Sample(
        str(start), (), (Branch(tuple(ids[start : start + length]), (False,) * half + (True,) * (length - half)),)
    )


def _training(policy: Any, ids: Sequence[int], length: int, rows: int) -> float:
    """Tokens per second of the second of two steps."""
    samples = [_chat(ids, number * length, length) for number in range(2 * rows)]
    return rows * length / _second_step(steps_of(policy, samples, rows))


def _second_step(steps: Iterator[Any]) -> float:
    next(steps)
    began = time.perf_counter()
    next(steps)
    return time.perf_counter() - began


def _group(policy: Any, ids: Sequence[int], group: int, new_tokens: int) -> dict[str, float]:
    from trimpot.core.samples import Branch, Sample
    from trimpot.rollout.engine import generate
    from trimpot.rollout.sampling import SamplingSettings

    prompt = tuple(ids[:PROMPT_TOKENS])
    settings = SamplingSettings(temperature=1.0, max_tokens=new_tokens)
    began = time.perf_counter()
    (completions,) = generate(policy, [prompt], group, settings, seed=0)
    sampling = time.perf_counter() - began
    branches = tuple(
        Branch(tuple(ids[start : start + new_tokens]), (True,) * new_tokens)
        for start in range(PROMPT_TOKENS, PROMPT_TOKENS + group * new_tokens, new_tokens)
    )
    training = _second_step(steps_of(policy, [Sample("group", prompt, branches)] * 2, 1))
    return {
        "group": group,
        "sampled_tokens_per_second": sum(len(one.ids) for one in completions) / sampling,
        "trained_completions_per_second": group / training,
    }
