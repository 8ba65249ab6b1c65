"""Generation in the training process, on the weights of the moment: nothing to synchronise, exact log-probs."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trimpot.core.errors import UsageError
from trimpot.core.progress import Progress, ignore
from trimpot.core.seeds import seed_for
from trimpot.core.settings import check_settings
from trimpot.data.template import ChatTemplate
from trimpot.models.policy import Policy, sliding_window
from trimpot.rollout.cache import DecodeCache, Waves
from trimpot.rollout.packed import Linear, packed_weights
from trimpot.rollout.sampling import SamplingSettings, choose
from trimpot.rollout.stop import StopStrings

ROWS_AT_ONCE = 128
"""Completions under way at one time; further prompts are admitted as completions end."""
ADMIT_FROM = 16
"""Free rows from which prompts are admitted: a wave of few rows costs as many calls of attention as one of many."""
PREFILL_TOKENS = 2048
"""Prompt tokens of one forward pass, beside the rows that decode in it; a longer prompt goes alone."""
PACK_FROM = 1024
"""Tokens, those of prompts and at most those of completions, from which packing the weights first is worth it."""


@dataclass
class Completion:
    """One completion: its tokens (with the end-of-turn token if it was reached) and their log-probs under the sampler.

    ``ids`` are the tokens as they were sampled, whole: a stop string is in them, with whatever else its last token
    holds. ``finished``: it ended by an end token or a stop string, not at ``max_tokens``. ``entropies`` are those of
    the distributions the tokens were drawn from.

    Units: nats, of the distribution sampled from (temperature and truncation included; greedy: of temperature 1).
    """

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    finished: bool = False


@dataclass(frozen=True)
class _Row:
    """A completion under way and its random stream."""

    completion: Completion
    stream: random.Random


@dataclass
class _Group:
    """A distinct prompt with all its rows: they share its prefill."""

    prompt: tuple[int, ...]
    rows: list[_Row] = field(default_factory=list)


class _Wave:
    """Groups that are prefilled together; their rows get a token each in every forward pass after that."""

    def __init__(self, policy: Policy, groups: Sequence[_Group], max_tokens: int) -> None:
        lengths, counts = [len(group.prompt) for group in groups], [len(group.rows) for group in groups]
        window = sliding_window(policy.model.config)
        self.cache = DecodeCache(lengths, counts, max_tokens - 1, policy.device, window)
        self.rows = [row for group in groups for row in group.rows]
        self.next_ids = [token for group in groups for token in group.prompt]
        self.read: list[int] = []
        """For every row the place in ``next_ids`` whose hidden state gives its next token."""
        end = 0
        for length, count in zip(lengths, counts, strict=True):
            end += length
            self.read += [end - 1] * count

    def keep(self, rows: Sequence[int]) -> None:
        """Goes on with these rows (ascending), each fed the last token that it drew."""
        self.rows = [self.rows[row] for row in self.cache.keep(rows)] if len(rows) < len(self.rows) else self.rows
        self.next_ids = [row.completion.ids[-1] for row in self.rows]
        self.read = list(range(len(self.rows)))


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

    Batches are continuous: prompts are prefilled in the same forward pass in which others decode, as rows become free.
    A prompt is prefilled once, however often it is given; its completions are under way at one time, all of them, even
    when they are more than ROWS_AT_ONCE.

    Raises:
        UsageError: a setting out of range, an empty prompt, or one that leaves no room in the model's context.
    """
    check_settings(settings)
    _check_room(policy, prompts, settings.max_tokens)
    names = range(len(prompts)) if names is None else names
    results: list[list[Completion]] = [[Completion() for _ in range(samples)] for _ in prompts]
    waiting = _groups(prompts, results, names, seed)
    longest_work = sum(len(group.prompt) + len(group.rows) * settings.max_tokens for group in waiting)
    with packed_weights(policy, longest_work >= PACK_FROM) as head:
        _decode(policy, head, waiting, settings, progress)
    return results


def _decode(
    policy: Policy, head: Linear, waiting: deque[_Group], settings: SamplingSettings, progress: Progress
) -> None:
    ends, stops = end_tokens(policy), StopStrings(policy.tokenizer, settings.stop or ())
    total, done = sum(len(group.rows) for group in waiting), 0
    waves: list[_Wave] = []
    while waiting or waves:
        admitted = _admit(waiting, sum(len(wave.rows) for wave in waves))
        if admitted:
            waves.append(_Wave(policy, admitted, settings.max_tokens))
        rows = [row for wave in waves for row in wave.rows]
        uniform_R = torch.tensor([row.stream.random() for row in rows], dtype=torch.float64, device=policy.device)
        drawn = choose(_next_logits(policy, head, waves), uniform_R, settings)
        going = []
        for row, token, logprob, entropy in zip(rows, *(part.tolist() for part in drawn), strict=True):
            completion = row.completion
            completion.ids.append(token)
            completion.logprobs.append(logprob)
            completion.entropies.append(entropy)
            completion.finished = token in ends or stops.end(completion.ids)
            going.append(not completion.finished and len(completion.ids) < settings.max_tokens)
        waves = _go_on(waves, going)
        done += len(going) - sum(going)
        progress(done, total)


def _check_room(policy: Policy, prompts: Sequence[tuple[int, ...]], max_tokens: int) -> None:
    limit = context_limit(policy)
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise UsageError(f"prompt {index}", "is empty", "Give every prompt at least one token.")
        if limit is not None and len(prompt) + max_tokens > limit:
            room = f"{len(prompt)} prompt + {max_tokens} new tokens exceed the context of {limit}"
            raise UsageError(f"prompt {index}", room, "Lower max_tokens or shorten the prompt.")


def _groups(
    prompts: Sequence[tuple[int, ...]], results: Sequence[Sequence[Completion]], names: Sequence[int], seed: int
) -> deque[_Group]:
    """The distinct prompts with their rows; those of like size together, as a wave reads to its longest prompt."""
    groups: dict[tuple[int, ...], _Group] = {}
    for prompt, completions, name in zip(prompts, results, names, strict=True):
        rows = groups.setdefault(prompt, _Group(prompt)).rows
        rows += [_Row(one, random.Random(seed_for(seed, name, n))) for n, one in enumerate(completions)]
    found = [group for group in groups.values() if group.rows]
    return deque(sorted(found, key=lambda group: (len(group.rows), len(group.prompt)), reverse=True))


def _admit(waiting: deque[_Group], running: int) -> list[_Group]:
    """Takes from the waiting groups what the next forward pass begins with."""
    free = ROWS_AT_ONCE - running
    rest = sum(len(group.rows) for group in waiting)
    if running and free < min(ADMIT_FROM, rest):
        return []
    admitted: list[_Group] = []
    rows = tokens = 0
    while waiting:
        rows, tokens = rows + len(waiting[0].rows), tokens + len(waiting[0].prompt)
        alone = not admitted and not running
        if (rows > free and not alone) or (tokens > PREFILL_TOKENS and admitted):
            break
        admitted.append(waiting.popleft())
    return admitted


def _next_logits(policy: Policy, head: Linear, waves: Sequence[_Wave]) -> Tensor:
    """One forward pass of all waves: the logits [R, V] of every row's next token."""
    counts = [len(wave.next_ids) for wave in waves]
    ids = [token for wave in waves for token in wave.next_ids]
    positions = [place for wave in waves for place in wave.cache.positions()]
    ids_T, positions_T = torch.tensor([ids, positions], device=policy.device)
    hidden_TH = policy.hidden(ids_T, positions_T, Waves([wave.cache for wave in waves], counts))
    for wave in waves:
        wave.cache.advance()
    starts = [sum(counts[:number]) for number in range(len(counts))]
    read = [start + place for start, wave in zip(starts, waves, strict=True) for place in wave.read]
    places, place_of_row = torch.tensor(read, device=policy.device).unique(return_inverse=True)
    logits = head(hidden_TH[places]).float()
    # Rows of a prompt share its logits until each has drawn its first token.
    return logits if len(places) == len(read) else logits[place_of_row]


def _go_on(waves: Iterable[_Wave], going: Sequence[bool]) -> list[_Wave]:
    """Evicts the rows that have ended; ``going`` is by row, wave after wave. Waves without rows are left out."""
    left, start = [], 0
    for wave in waves:
        stop = start + len(wave.rows)
        kept = [row for row, goes in enumerate(going[start:stop]) if goes]
        if kept:
            wave.keep(kept)
            left.append(wave)
        start = stop
    return left


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
