"""Generation: transformers' `generate` and `generate_batch` and trimpot's engine, on the same prompts.

Two workloads of 64 completions: in ``mixed`` 64 prompts of 20 to 240 tokens with one completion each, in ``groups`` 8
such prompts with 8 each. All sample at temperature 1 from the whole vocabulary, in fp32, exactly ``new_tokens`` tokens:
the end token is switched off on both sides (transformers: no eos_token_id; trimpot: its set of end tokens emptied), so
no side computes anything to forbid it. Time is from ids to ids, after a warm-up of two prompts.

`generate` runs all completions at once, padded on the left; the other peer of that name runs 16 prompts of like length
at a time, which pads less. `generate_batch` (continuous batching, paged cache) shares the pages of a group's prompt. It
gets a cache of the size that the job needs: by default it takes most of the machine's memory on CPU and fills it first.
"same allocator": with the setting of glibc's allocator that trimpot makes. Operations: 2 × trunk × (prompt + new
tokens) + 2 × head × new tokens, a prompt's tokens once for its group.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from benchmarks.jobs import OURS
from benchmarks.measure import SCORED, peak_memory, weights_of
from benchmarks.rows import passages


@dataclass(frozen=True)
class Setup:
    """How transformers generates: ``at_once`` prompts sorted by length (None: all), or by continuous batching."""

    continuous: bool = False
    at_once: int | None = None
    keep_memory: bool = False


SETUPS = {
    "generate": Setup(),
    "generate, 16 at once, same allocator": Setup(at_once=16, keep_memory=True),
    "generate_batch": Setup(continuous=True),
}
"""Peer -> how transformers runs."""
WORKLOADS = {"mixed": 1, "groups": 8}
"""Workload -> completions of every prompt."""
FULL: dict[str, Any] = {"model": "smollm2-135m", "completions": 64, "new_tokens": 64}
QUICK: dict[str, Any] = {"model": "smollm2-135m", "completions": 16, "new_tokens": 8}
SHORTEST, LONGEST, PAGE = 20, 240, 32

Prompts = Sequence[tuple[int, ...]]
Generate = Callable[[Prompts, int, int], list[list[int]]]
"""Prompts, completions of each, new tokens of each -> the new ids of every completion."""


def run(peer: str, workload: str, model: str, completions: int, new_tokens: int) -> dict[str, Any]:
    """New tokens per second of one peer in this process."""
    from trimpot.models.allocator import keep_freed_memory

    if peer == OURS or SETUPS[peer].keep_memory:
        keep_freed_memory()
    samples = WORKLOADS[workload]
    prompts = build_prompts(model, completions // samples)
    generate = _trimpot(model) if peer == OURS else _transformers(model, SETUPS[peer])
    generate(prompts[:2], samples, 2)
    began = time.perf_counter()
    found = generate(prompts, samples, new_tokens)
    seconds = time.perf_counter() - began
    if [len(ids) for ids in found] != [new_tokens] * completions:
        raise RuntimeError(f"{peer} did not sample {new_tokens} tokens for each of {completions} completions")
    prompt_tokens, drawn = sum(map(len, prompts)), completions * new_tokens
    return {
        "value": drawn / seconds,
        "seconds": seconds,
        "peak_memory_bytes": peak_memory(),
        "work": {"completions": completions, "prompt_tokens": prompt_tokens, "new_tokens": drawn},
        **({"operations": weights_of(model).operations(SCORED, prompt_tokens + drawn, drawn)} if peer == OURS else {}),
    }


def build_prompts(model: str, count: int) -> list[tuple[int, ...]]:
    """Beginnings of passages of Python's documentation, of evenly spread lengths, the lengths in no order."""
    from transformers import AutoTokenizer

    from trimpot.models.load import folder_of

    tokenizer = AutoTokenizer.from_pretrained(folder_of(model))
    found = passages(1200)
    prompts = []
    for number in range(count):
        place = number * 37 % count  # 37 has no divisor in common with the counts used here
        length = SHORTEST + (LONGEST - SHORTEST) * place // max(count - 1, 1)
        prompts.append(tuple(tokenizer(found[number % len(found)][1])["input_ids"][:length]))
    return prompts


def _trimpot(model: str) -> Generate:
    from trimpot.models.load import load
    from trimpot.rollout.engine import generate as trimpot_generate
    from trimpot.rollout.sampling import SamplingSettings

    policy = load(model)

    def generate(prompts: Prompts, samples: int, new_tokens: int) -> list[list[int]]:
        with patch("trimpot.rollout.engine.end_tokens", lambda _policy: set()):
            groups = trimpot_generate(policy, prompts, samples, SamplingSettings(1.0, new_tokens), seed=0)
        return [one.ids for group in groups for one in group]

    return generate


def _transformers(model: str, setup: Setup) -> Generate:
    from transformers import AutoModelForCausalLM, GenerationConfig

    from trimpot.models.load import folder_of

    stock = AutoModelForCausalLM.from_pretrained(folder_of(model), dtype="float32").eval()
    stock.generation_config.eos_token_id = None

    def generate(prompts: Prompts, samples: int, new_tokens: int) -> list[list[int]]:
        config = GenerationConfig(
            max_new_tokens=new_tokens, do_sample=True, top_k=0, num_return_sequences=samples, pad_token_id=0
        )
        if setup.continuous:
            return _continuous(stock, prompts, config)
        at_once = setup.at_once or len(prompts)
        in_order = sorted(prompts, key=len) if setup.at_once else prompts
        parts = [in_order[low : low + at_once] for low in range(0, len(prompts), at_once)]
        return [ids for part in parts for ids in _padded(stock, part, config)]

    return generate


def _padded(stock: Any, prompts: Prompts, config: Any) -> list[list[int]]:
    import torch

    longest = max(map(len, prompts))
    ids = torch.tensor([(0,) * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    found: list[list[int]] = stock.generate(ids, attention_mask=mask, generation_config=config)[:, longest:].tolist()
    return found


def _continuous(stock: Any, prompts: Prompts, config: Any) -> list[list[int]]:
    from transformers import ContinuousBatchingConfig

    tokens = sum(len(prompt) + config.max_new_tokens + PAGE for prompt in prompts) * config.num_return_sequences
    # Half as much again, as it keeps a part of its pages free.
    sized = ContinuousBatchingConfig(page_size=PAGE, num_blocks=tokens * 3 // (2 * PAGE), max_batch_tokens=2048)
    found = stock.generate_batch(
        [list(prompt) for prompt in prompts], generation_config=config, continuous_batching_config=sized
    )
    return [one.generated_tokens for one in found.values()]
