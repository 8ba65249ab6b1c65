"""A language model that is a Python function: for tests that need no weights. Constructed, as its name says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trimpot.core.progress import ignore
from trimpot.evaluation.language_model import Generation, Identity, Likelihood, Prompt, Request


def text_of(prompt: Prompt) -> str:
    """A conversation as lines of ``role: content``, the assistant's turn opened."""
    if isinstance(prompt, str):
        return prompt
    return "".join(f"{message.role}: {message.content}\n" for message in prompt) + "assistant:"


class ScriptedModel:
    """Answers by ``say(text of the prompt, sample)``; scores continuations by ``score(context, continuation)``."""

    def __init__(
        self,
        say: Callable[[str, int], str] = lambda prompt, sample: "",
        score: Callable[[str, str], float] = lambda context, continuation: -float(len(continuation)),
        name: str = "scripted",
    ) -> None:
        self.say, self.score, self.name = say, score, name
        self.requests: list[Request] = []
        self.pairs: list[tuple[Prompt, str]] = []

    @property
    def identity(self) -> Identity:
        return Identity(self.name, f"weights of {self.name}", "bytes", "lines")

    @property
    def flops_per_token(self) -> float | None:
        return 100.0

    def rendered(self, prompt: Prompt) -> str:
        return text_of(prompt)

    def prompt_ids(self, prompt: Prompt) -> tuple[int, ...]:
        return tuple(text_of(prompt).encode())

    def loglikelihood(self, pairs: Sequence[tuple[Prompt, str]], progress=ignore) -> list[Likelihood]:
        self.pairs += pairs
        return [Likelihood(self.score(text_of(context), c), False, len(c.encode())) for context, c in pairs]

    def loglikelihood_rolling(self, texts: Sequence[str], progress=ignore) -> list[Likelihood]:
        return [Likelihood(self.score("", text), False, len(text.encode())) for text in texts]

    def generate_until(self, requests: Sequence[Request], progress=ignore) -> list[Generation]:
        self.requests += requests
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Generation:
        text = self.say(text_of(request.prompt), request.sample)
        for stop in request.stop:
            text = text.split(stop)[0]
        tokens = len(text.encode())
        return Generation(
            text.encode()[: request.max_tokens].decode(errors="ignore"),
            tokens < request.max_tokens,
            min(tokens + 1, request.max_tokens),
            -0.1 * tokens,
        )
