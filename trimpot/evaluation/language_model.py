"""What an evaluation asks of a model: lm-eval's three methods, on texts or conversations. No torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from trimpot.core.hashing import content_hash
from trimpot.core.progress import Progress, ignore
from trimpot.core.rows import Message

Prompt = str | tuple[Message, ...]
"""A text, which the model reads as it is, or a conversation, which the model's chat template renders."""


@dataclass(frozen=True)
class Likelihood:
    """Σ log p(token | all before it) over a continuation's tokens.

    ``greedy``: each of its tokens was the most likely one. Units: ``logprob`` in nats.
    """

    logprob: float
    greedy: bool
    tokens: int

    @property
    def perplexity(self) -> float | None:
        """exp(−logprob / tokens); None without tokens."""
        return math.exp(-self.logprob / self.tokens) if self.tokens else None


@dataclass(frozen=True)
class Request:
    """A prompt to go on from.

    Args:
        prompt: a text or a conversation.
        max_tokens: the longest completion.
        stop: strings at whose first occurrence the completion ends; neither they nor what follows is part of it.
        temperature: 0 is greedy.
        sample: which draw at a temperature above 0 this is; the same number gives the same draw.
    """

    prompt: Prompt
    max_tokens: int
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    sample: int = 0


@dataclass(frozen=True)
class Generation:
    """A completion. ``finished``: it ended by itself or at a stop string, and was not cut at ``max_tokens``.

    ``tokens`` are those generated, the end token included. ``logprob``: Σ log p of them, in nats; None where the model
    does not tell.
    """

    text: str
    finished: bool
    tokens: int
    logprob: float | None = None


@dataclass(frozen=True)
class Identity:
    """What decides a model's answers: hashes of weights, tokenizer and chat template. ``name`` is for people only.

    ``weights`` of an endpoint, whose weights nobody sees, are its address, model name and stated version.
    """

    name: str
    weights: str
    tokenizer: str
    template: str

    @property
    def key(self) -> str:
        """One hash of all but the name: two models with the same key answer alike."""
        return content_hash([value for field, value in asdict(self).items() if field != "name"])


class LanguageModel(Protocol):
    """A model that can be evaluated: a policy, an endpoint, an lm-eval model, or a script in a test."""

    @property
    def identity(self) -> Identity: ...

    @property
    def flops_per_token(self) -> float | None:
        """Floating-point operations of a forward pass per token (2 × weights in matrices); None where unknown."""

    def rendered(self, prompt: Prompt) -> str:
        """The text that the model reads for a prompt: itself, or the conversation in the chat template."""

    def prompt_ids(self, prompt: Prompt) -> tuple[int, ...]:
        """The ids that the model reads for a prompt, with exactly one beginning token; empty where unknown."""

    def loglikelihood(self, pairs: Sequence[tuple[Prompt, str]], progress: Progress = ignore) -> list[Likelihood]:
        """The log-likelihood of every continuation after its context.

        Raises:
            UsageError: one line that names the pair: an empty continuation, or one too long for the model.
        """

    def loglikelihood_rolling(self, texts: Sequence[str], progress: Progress = ignore) -> list[Likelihood]:
        """The log-likelihood of whole texts, in windows where they are longer than the model reads."""

    def generate_until(self, requests: Sequence[Request], progress: Progress = ignore) -> list[Generation]:
        """A completion of every request, in their order.

        Raises:
            UsageError: one line that names the request: a prompt that leaves no room for ``max_tokens``.
        """
