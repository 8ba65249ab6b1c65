"""Log-likelihoods of texts and of the choices of questions: lm-eval's numbers, with what they share computed once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from trimpot.core.errors import UsageError
from trimpot.core.progress import Progress, ignore
from trimpot.core.settings import check_settings, setting
from trimpot.evaluation.language_model import Likelihood
from trimpot.models.head import target_scores
from trimpot.models.policy import Policy
from trimpot.models.prefix import last_hidden

Pair = tuple[tuple[int, ...], tuple[int, ...]]
"""Context ids and continuation ids."""
FALLBACK_LENGTH = 2048
"""lm-eval's longest sequence for a model that does not say."""


@dataclass(frozen=True)
class LikelihoodSettings:
    """How log-likelihoods are computed. None of it changes a result, except what is cut by ``truncate``."""

    token_budget: int = setting(1024, "tokens of one forward pass", at_least=1)
    max_length: int | None = setting(None, "longest sequence in tokens; None: the model's", "lm-eval", at_least=1)
    truncate: bool = setting(False, "cut what is too long from the left, as lm-eval does, in place of an error")


@dataclass(frozen=True)
class Question:
    """A context (few-shot examples and the question) and the choices that may continue it, as ids."""

    context: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]


def choice_scores(
    policy: Policy,
    questions: Sequence[Question],
    settings: LikelihoodSettings = LikelihoodSettings(),
    progress: Progress = ignore,
) -> list[list[Likelihood]]:
    """The log-likelihood of every choice of every question.

    A context that questions share (few-shot examples) runs once for all of them, a question's own text once for its
    choices; what is shared is found, whatever the order of the questions. ``progress`` hears of choices.

    Raises:
        UsageError: a question without choices, an empty context or choice, or one too long (see LikelihoodSettings).
    Edge cases: no questions: an empty list.
    Source: equals lm-eval 0.4.13's ``loglikelihood`` of (context, choice).
    """
    for number, question in enumerate(questions):
        if not question.choices:
            raise UsageError(f"question {number}", "has no choices", "Give at least one.")
    names = [f"question {n}, choice {c}" for n, question in enumerate(questions) for c in range(len(question.choices))]
    pairs = [(question.context, choice) for question in questions for choice in question.choices]
    found = iter(_likelihoods(policy, pairs, names, settings, progress))
    return [[next(found) for _ in question.choices] for question in questions]


def most_likely(scores: Sequence[Likelihood], lengths: Sequence[float] | None = None) -> int:
    """argmaxᵢ logprobᵢ / lengthᵢ: the choice that a model is said to give; the first of equals.

    Args:
        lengths: None (lm-eval's ``acc``); the characters of the choices' texts (``acc_norm``); their UTF-8 bytes
            (``acc_bytes``).
    """
    divisors = lengths or [1.0] * len(scores)
    values = [score.logprob / divisor for score, divisor in zip(scores, divisors, strict=True)]
    return values.index(max(values))


def log_likelihoods(
    policy: Policy,
    pairs: Sequence[Pair],
    settings: LikelihoodSettings = LikelihoodSettings(),
    progress: Progress = ignore,
) -> list[Likelihood]:
    """The log-likelihood of every continuation after its context; what pairs share is computed once.

    Raises:
        UsageError: an empty context or continuation, or one too long (see LikelihoodSettings).
    Edge cases: no pairs: an empty list.
    Source: equals lm-eval 0.4.13's ``loglikelihood``.
    """
    return _likelihoods(policy, pairs, [f"pair {number}" for number in range(len(pairs))], settings, progress)


def rolling_log_likelihoods(
    policy: Policy,
    texts: Sequence[tuple[int, ...]],
    settings: LikelihoodSettings = LikelihoodSettings(),
    progress: Progress = ignore,
) -> list[Likelihood]:
    """The log-likelihood of whole texts, each token predicted once, in windows of ``max_length``.

    The first window follows the tokenizer's first token (see ``first_token``), every other one the token before it; the
    last reaches back to be full. ``progress`` hears of windows.

    Edge cases: no texts: an empty list; a text without tokens: logprob 0.0 of 0 tokens, perplexity None.
    Source: equals lm-eval 0.4.13's ``loglikelihood_rolling``.
    """
    limit = _limit(policy, settings)
    windows = [rolling_windows(ids, first_token(policy.tokenizer), limit) for ids in texts]
    names = [f"text {number}, window {w}" for number, some in enumerate(windows) for w in range(len(some))]
    found = iter(_likelihoods(policy, [pair for some in windows for pair in some], names, settings, progress))
    return [_joined([next(found) for _ in some]) for some in windows]


def _joined(parts: Sequence[Likelihood]) -> Likelihood:
    return Likelihood(
        math.fsum(part.logprob for part in parts),
        all(part.greedy for part in parts),
        sum(part.tokens for part in parts),
    )


def rolling_windows(ids: tuple[int, ...], first: int, length: int) -> list[Pair]:
    """A text as pairs whose continuations are the text, none longer than ``length`` tokens without its last one."""
    pairs = []
    for start in range(0, len(ids), length):
        stop = min(start + length, len(ids))
        context = ids[max(stop - length - 1, 0) : start] if start else (first,)
        pairs.append((context, ids[start:stop]))
    return pairs


def _likelihoods(
    policy: Policy, pairs: Sequence[Pair], names: Sequence[str], settings: LikelihoodSettings, progress: Progress
) -> list[Likelihood]:
    check_settings(settings, "likelihood")
    limit = _limit(policy, settings)
    for pair, name in zip(pairs, names, strict=True):
        _refuse_unusable(pair, name, limit, settings.truncate)
    # The last token is predicted, not read.
    rows = [policy.virtual_ids + (context + continuation)[-limit - 1 : -1] for context, continuation in pairs]
    counts = [len(continuation) for _, continuation in pairs]
    weight, bias = policy.head()
    found: dict[int, Likelihood] = {}
    for ended, hidden_NH in last_hidden(policy, rows, counts, settings.token_budget):
        targets = torch.tensor([token for row in ended for token in pairs[row][1]], device=hidden_NH.device)
        with torch.no_grad():
            logprob_N, _, correct_N = target_scores(hidden_NH, weight, bias, targets)
        lengths = [counts[row] for row in ended]
        for row, logprobs, correct in zip(ended, logprob_N.split(lengths), correct_N.split(lengths), strict=True):
            found[row] = Likelihood(float(logprobs.double().sum()), bool(correct.all()), counts[row])
        progress(len(found), len(pairs))
    return [found[row] for row in range(len(pairs))]


def _refuse_unusable(pair: Pair, name: str, limit: int, truncate: bool) -> None:
    context, continuation = pair
    if not context:
        raise UsageError(name, "has an empty context", "Begin with the tokenizer's first token, as encode_pair does.")
    if not continuation:
        raise UsageError(name, "has no tokens to score", "Give a continuation of at least one token.")
    if len(continuation) > limit:
        problem = f"{len(continuation)} tokens to score, and the model reads {limit}"
        raise UsageError(name, problem, "Score it with rolling_log_likelihoods.")
    length = len(context) + len(continuation) - 1
    if length > limit and not truncate:
        mend = "Use fewer examples, or truncate=True to cut from the left, as lm-eval does."
        raise UsageError(name, f"has {length} tokens to read, and the model reads {limit}", mend)


def _limit(policy: Policy, settings: LikelihoodSettings) -> int:
    """Tokens that a row may have beside the virtual ones."""
    return (settings.max_length or _model_length(policy)) - len(policy.virtual_ids)


def _model_length(policy: Policy) -> int:
    """The longest sequence of a model, from the fields that lm-eval reads, in its order."""
    config = policy.model.config
    stated = [getattr(config, name, None) for name in ("n_positions", "max_position_embeddings", "n_ctx")]
    # transformers writes 10³⁰ for a tokenizer that does not say.
    told = policy.tokenizer.model_max_length
    stated.append(told if told < 10**9 else None)
    return next((int(length) for length in stated if length is not None), FALLBACK_LENGTH)


def first_token(tokenizer: Any) -> int:
    """What stands before a text without context: the beginning-of-sequence token, else the end-of-sequence token."""
    begin = tokenizer.bos_token_id
    return int(tokenizer.eos_token_id if begin is None else begin)


def encode_text(tokenizer: Any, text: str) -> tuple[int, ...]:
    """The ids of a text as lm-eval makes them: with the tokenizer's special tokens, unless it opens with its first."""
    opens = text.startswith(tokenizer.decode([first_token(tokenizer)]))
    return tuple(tokenizer.encode(text, **({"add_special_tokens": False} if opens else {})))


def encode_pair(tokenizer: Any, context: str, continuation: str) -> Pair:
    """Context and continuation as lm-eval tokenises them.

    Spaces that end the context move to the continuation; the continuation's ids are those of the whole text past the
    context's number of ids.

    Edge cases: an empty context becomes the tokenizer's first token (see ``first_token``), or the continuation's own
        first token if it is that.
    """
    if not context:
        first, ids = first_token(tokenizer), tuple(tokenizer.encode(continuation, add_special_tokens=False))
        return (first,), ids[1:] if ids[:1] == (first,) else ids
    stripped = context.rstrip()
    ids = encode_text(tokenizer, stripped)
    return ids, encode_text(tokenizer, context + continuation)[len(ids) :]


def encode_question(tokenizer: Any, context: str, choices: Sequence[str]) -> Question:
    """A question from texts (see encode_pair); a choice brings the space that parts it from the context."""
    pairs = [encode_pair(tokenizer, context, choice) for choice in choices]
    return Question(encode_pair(tokenizer, context, "")[0], tuple(continuation for _, continuation in pairs))
