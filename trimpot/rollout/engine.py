"""Generation in the training process, on the training weights: no copy, no synchronisation, exact log-probs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trimpot.core.errors import UsageError
from trimpot.core.seeds import seed_for
from trimpot.core.settings import setting
from trimpot.data.template import ChatTemplate
from trimpot.models.policy import Policy, sliding_window
from trimpot.rollout.cache import DecodeCache

ROWS_AT_ONCE = 128
"""Completions under way at one time; more prompts wait for the next wave."""


Progress = Callable[[int, int], None]


def ignore(done: int, total: int) -> None:
    """Progress that nobody looks at."""


@dataclass(frozen=True)
class SamplingSettings:
    """How completions are drawn."""

    temperature: float = setting(1.0, "0 is greedy; else divides the logits", "TRL's GRPOConfig", at_least=0)
    max_tokens: int = setting(256, "longest completion in tokens", "ours; TRL 1.16 GRPOConfig has 512", at_least=1)


@dataclass
class Completion:
    """One completion: its tokens (with the end-of-turn token if it was reached) and their log-probs under the sampler.

    ``entropies`` are those of the distributions the tokens were drawn from.

    Units: nats, of the distribution sampled from (temperature included; greedy: of temperature 1).
    """

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    finished: bool = False


@torch.no_grad()
def generate(
    policy: Policy,
    prompts: Sequence[tuple[int, ...]],
    samples: int,
    settings: SamplingSettings,
    seed: int,
    progress: Progress = ignore,
    names: Sequence[int] | None = None,
) -> list[list[Completion]]:
    """Draws ``samples`` completions of every prompt.

    Every sample has its own random stream, named by its prompt's name (one of ``names``, by default the prompt's
    index) and its number, so that neither the batch nor the other prompts change a draw. ``progress`` hears after
    every token how many completions are done.

    Raises:
        UsageError: an empty prompt, or one that leaves no room in the model's context.
    """
    limit = context_limit(policy)
    names = range(len(prompts)) if names is None else names
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise UsageError(f"prompt {index}", "is empty", "Give every prompt at least one token.")
        if limit is not None and len(prompt) + settings.max_tokens > limit:
            room = f"{len(prompt)} prompt + {settings.max_tokens} new tokens exceed the context of {limit}"
            raise UsageError(f"prompt {index}", room, "Lower max_tokens or shorten the prompt.")
    results: list[list[Completion]] = [[Completion() for _ in range(samples)] for _ in prompts]
    per_wave = max(1, ROWS_AT_ONCE // samples)
    # Prompts of like length together: rows of a wave then end their caches at about the same place.
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    total = samples * len(prompts)
    for low in range(0, len(order), per_wave):
        wave = order[low : low + per_wave]
        rows = [(completion, seed_for(seed, names[i], n)) for i in wave for n, completion in enumerate(results[i])]
        for waiting in _decode(policy, [prompts[i] for i in wave], samples, rows, settings):
            progress(samples * (low + len(wave)) - waiting, total)
    return results


def _decode(
    policy: Policy,
    prompts: list[tuple[int, ...]],
    samples: int,
    rows: list[tuple[Completion, int]],
    settings: SamplingSettings,
) -> Iterator[int]:
    """Decodes one wave to its end, yielding after each token how many completions are still under way."""
    device, ends = policy.device, end_tokens(policy)
    lengths = [len(prompt) for prompt in prompts]
    window = sliding_window(policy.model.config)
    cache = DecodeCache(lengths, [samples] * len(prompts), max(lengths) + settings.max_tokens, device, window)
    ids = torch.tensor([token for prompt in prompts for token in prompt], device=device)
    positions = torch.cat([torch.arange(length, device=device) for length in lengths])
    hidden = policy.hidden(ids, positions, cache)
    last = torch.tensor(lengths, device=device).cumsum(0) - 1
    logits = _logits(policy, hidden[last]).repeat_interleave(samples, dim=0)
    active = [(completion, random.Random(seed)) for completion, seed in rows]
    for _ in range(settings.max_tokens):
        tokens, logprobs, entropies = choose(logits, [stream for _, stream in active], settings.temperature)
        drawn = zip(tokens.tolist(), logprobs.tolist(), entropies.tolist(), strict=True)
        alive = []
        for row, (token, logprob, entropy) in enumerate(drawn):
            completion = active[row][0]
            completion.ids.append(token)
            completion.logprobs.append(logprob)
            completion.entropies.append(entropy)
            completion.finished = token in ends
            if not completion.finished and len(completion.ids) < settings.max_tokens:
                alive.append(row)
        yield len(alive)
        if not alive:
            return
        if len(alive) < len(active):
            index = torch.tensor(alive, device=device)
            cache.keep(index)
            tokens, active = tokens[index], [active[row] for row in alive]
        cache.begin_step()
        hidden = policy.hidden(tokens, cache.lengths_R, cache)
        cache.end_step()
        logits = _logits(policy, hidden)


def _logits(policy: Policy, hidden_RH: Tensor) -> Tensor:
    weight, bias = policy.head()
    return torch.nn.functional.linear(hidden_RH, weight, bias).float()


def choose(logits_RV: Tensor, streams: Sequence[random.Random], temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """One token per row with its log-prob and the entropy: [R, V] -> tokens [R], log-probs [R], entropies [R].

    Sampling inverts the cumulative distribution at one uniform number per row: a single pass over the vocabulary,
    where drawing noise for every word would cost more than the model's matrix products.
    """
    if temperature > 0:
        logits_RV = logits_RV / temperature
    logprobs_RV = logits_RV.log_softmax(1)
    probabilities_RV = logprobs_RV.exp()
    entropy_R = -torch.linalg.vecdot(probabilities_RV, logprobs_RV.clamp_min(-1e4))
    if temperature == 0:
        tokens_R = logprobs_RV.argmax(1)
    else:
        uniform_R = torch.tensor([stream.random() for stream in streams], device=logits_RV.device)
        cumulative_RV = probabilities_RV.cumsum(1)
        threshold_R1 = (uniform_R * cumulative_RV[:, -1])[:, None]
        tokens_R = torch.searchsorted(cumulative_RV, threshold_R1, right=True)[:, 0]
        tokens_R = tokens_R.clamp_max(logits_RV.shape[1] - 1)
    return tokens_R, logprobs_RV.gather(1, tokens_R[:, None])[:, 0], entropy_R


def end_tokens(policy: Policy) -> set[int]:
    """The tokens that end a completion: the template's end of turn, the end of sequence, and the model's own list."""
    configured = getattr(getattr(policy.model, "generation_config", None), "eos_token_id", None)
    many = configured if isinstance(configured, list) else [configured]
    return {*ChatTemplate(policy.tokenizer).stop_ids, *(token for token in many if token is not None)}


def context_limit(policy: Policy) -> int | None:
    """The longest sequence that the model can read, in tokens. None: its configuration does not say."""
    limit: int | None = getattr(policy.model.config, "max_position_embeddings", None)
    return limit


def decode(policy: Policy, completion: Completion) -> str:
    """A completion's text without special tokens."""
    return str(policy.tokenizer.decode(completion.ids, skip_special_tokens=True))
