"""Log-likelihoods of 4-choice few-shot questions: lm-eval and trimpot in turn, each in a process of its own.

Two workloads, contexts of three solved examples and the question, about 240 tokens: in ``shared`` the same examples
stand before every question, as few-shot tasks have it, in ``own`` others before each. lm-eval runs at batch sizes 1, 8
and 64; the last is what its ``auto`` takes where that fits in memory (its default ``max_batch_size``), here without the
five passes by which it finds out. It also runs with trimpot's allocator setting, to tell that share of the ratio. Time
is from texts to log-likelihoods, after a warm-up of two questions; memory is the process's maximum resident set.
Operations: 2 × trunk weights × tokens that are run + 2 × head weights × targets. Log-likelihoods must agree within
TOLERANCE a token: in fp32 each program is up to 1e-5 from float64, lm-eval the further of the two.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from benchmarks.measure import SCORED, peak_memory, weights_of

SETUPS: dict[str, dict[str, Any]] = {
    "lm-eval, batch 1": {"batch": 1, "allocator": False},
    "lm-eval, batch 8": {"batch": 8, "allocator": False},
    "lm-eval, batch 64": {"batch": 64, "allocator": False},
    "lm-eval, batch 8, same allocator": {"batch": 8, "allocator": True},
    "trimpot": {"batch": None, "allocator": True},
}
"""Who runs, and how: lm-eval's batch size (None: not lm-eval), and whether freed memory is kept."""
FULL = {"model": "smollm2-135m", "questions": 8, "warmup": 2}
QUICK = {"model": "smollm2-135m", "questions": 3, "warmup": 1}
EXAMPLE_WORDS, CHOICE_WORDS, CHOICES, SHOTS = 32, 4, 4, 3
TOLERANCE = 2e-5
"""Nats a token."""

Texts = list[tuple[str, list[str]]]
"""Context and choices of every question."""


def build_questions(workload: str, count: int) -> Texts:
    """Python's own documentation (pydoc_data): which of four phrases, of four plain words, continues a passage?"""
    from pydoc_data.topics import topics

    words = [text.split() for _, text in sorted(topics.items())]
    length = EXAMPLE_WORDS + CHOICE_WORDS
    passages = [text[at : at + length] for text in words for at in range(0, len(text) - length, length)]
    random.Random(0).shuffle(passages)
    draw = (one for one in passages if all(word.strip(".,").isalpha() for word in one[EXAMPLE_WORDS:]))

    def prompt(passage: list[str]) -> str:
        return f"Passage: {' '.join(passage[:EXAMPLE_WORDS])}\nContinues:"

    def phrase(passage: list[str]) -> str:
        return " " + " ".join(passage[EXAMPLE_WORDS:])

    def examples() -> str:
        return "".join(f"{prompt(one)}{phrase(one)}\n\n" for one in (next(draw) for _ in range(SHOTS)))

    fixed, questions = examples(), []
    for _ in range(count):
        some = [next(draw) for _ in range(CHOICES)]
        before = fixed if workload == "shared" else examples()
        questions.append((before + prompt(some[0]), [phrase(one) for one in some]))
    return questions


def lm_eval_scorer(model: str, batch: int) -> Callable[[Texts], list[float]]:
    """A function from questions to the log-likelihoods of their choices, by lm-eval on transformers' own forward."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from trimpot.models.load import folder_of

    folder = folder_of(model)
    stock = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    peer = HFLM(pretrained=stock, tokenizer=AutoTokenizer.from_pretrained(folder), batch_size=batch)

    def score(texts: Texts) -> list[float]:
        pairs = [(context, choice) for context, choices in texts for choice in choices]
        requests = [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]
        return [logprob for logprob, _ in peer.loglikelihood(requests, disable_tqdm=True)]

    return score


def trimpot_scorer(model: str) -> Callable[[Texts], list[float]]:
    """The same by trimpot."""
    from trimpot.evaluation.likelihood import choice_scores, encode_question
    from trimpot.models.load import load

    policy = load(model)

    def score(texts: Texts) -> list[float]:
        questions = [encode_question(policy.tokenizer, context, choices) for context, choices in texts]
        return [one.logprob for scores in choice_scores(policy, questions) for one in scores]

    return score


def run(peer: str, workload: str, model: str, questions: int, warmup: int) -> dict[str, Any]:
    """Questions per second of one peer in this process, and the log-likelihoods, which must be equal for all peers."""
    from trimpot.models.allocator import keep_freed_memory

    batch = SETUPS[peer]["batch"]
    if SETUPS[peer]["allocator"]:
        keep_freed_memory()
    texts = build_questions(workload, warmup + questions)
    score = trimpot_scorer(model) if batch is None else lm_eval_scorer(model, batch)
    score(texts[:warmup])
    start = time.perf_counter()
    logprobs = score(texts[warmup:])
    seconds = time.perf_counter() - start
    memory = peak_memory()
    pairs = pairs_of(model, texts[warmup:])
    work = {"questions": questions, "choices": len(pairs), "targets": sum(len(choice) for _, choice in pairs)}
    per_token = [logprob / len(choice) for logprob, (_, choice) in zip(logprobs, pairs, strict=True)]
    return {
        "value": questions / seconds,
        "seconds": seconds,
        "peak_memory_bytes": memory,
        "work": work,
        "numbers": {"logprob_per_token": per_token},
        **({"operations": operations(model, pairs)} if batch is None else {}),
    }


def pairs_of(model: str, texts: Texts) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Context and choice of every choice, as ids."""
    from transformers import AutoTokenizer

    from trimpot.evaluation.likelihood import encode_pair
    from trimpot.models.load import folder_of

    tokenizer = AutoTokenizer.from_pretrained(folder_of(model))
    return [encode_pair(tokenizer, context, choice) for context, choices in texts for choice in choices]


def operations(model: str, pairs: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> float:
    """What trimpot computes for these pairs."""
    from trimpot.models.prefix import additions

    tokens = sum(len(part.new) for part in additions([context + choice[:-1] for context, choice in pairs]))
    return weights_of(model).operations(SCORED, tokens, sum(len(choice) for _, choice in pairs))
