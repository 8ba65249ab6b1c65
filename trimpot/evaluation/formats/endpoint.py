"""A server with OpenAI's completions as a language model: texts by /completions, conversations by /chat/completions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from trimpot.core.errors import UsageError, nearest
from trimpot.core.hashing import content_hash
from trimpot.core.progress import Progress, ignore
from trimpot.core.seeds import seed_for
from trimpot.evaluation.formats.echo import echoed
from trimpot.evaluation.formats.http_client import DEFAULT_SETTINGS, REAL_TIME, Clock, HttpClient, HttpSettings
from trimpot.evaluation.language_model import Generation, Identity, Likelihood, Prompt, Request
from trimpot.evaluation.task import prompt_value

SCHEME = "endpoint:"
KINDS: Mapping[str, Callable[[str], Any]] = {
    "at_once": int, "per_minute": float, "seconds": float, "attempts": int, "key_variable": str
}  # fmt: skip
"""Settings that may stand after a model's name, and how their text is read."""
MOST_STOPS = 4
"""OpenAI's API takes no more stop strings; the answer is cut here at all of them."""
CUT = ("length", "max_tokens", "content_filter")
"""finish_reason of an answer that did not end by itself."""

Asked = Request | tuple[Prompt, str] | str
Answered = Callable[[Asked, Generation | Likelihood], None]
"""Called in the caller's thread with every request as soon as it is answered: what a later failure cannot lose."""


def no_one(_asked: Asked, _answer: Generation | Likelihood) -> None:
    """Nobody keeps what is answered."""


class Endpoint:
    """A LanguageModel behind an address.

    Nobody sees its weights, so that its identity is what is stated: address, model and version. Which chat template it
    uses is not known either: ``rendered`` shows a conversation as JSON, ``prompt_ids`` is empty.

    Args:
        address: up to /v1, as in ``http://127.0.0.1:8000/v1``.
        model: what the server calls it.
        version: stated by the user, where the server may change the weights under a name.
        answered: hears of every answer at once, also of those before a failure.
    """

    def __init__(
        self,
        address: str,
        model: str,
        version: str = "",
        settings: HttpSettings = DEFAULT_SETTINGS,
        answered: Answered = no_one,
        clock: Clock = REAL_TIME,
    ) -> None:
        if not model:
            raise UsageError(f"endpoint {address}", "names no model", "Write endpoint:ADDRESS#MODEL.")
        self._client = HttpClient(address, settings, clock)
        self.address, self.model, self.version, self.answered = self._client.address, model, version, answered

    @property
    def identity(self) -> Identity:
        """Address, model and version as stated."""
        weights = " ".join(part for part in (f"{self.address}#{self.model}", self.version) if part)
        return Identity(self.model, weights, "the endpoint's", "the endpoint's")

    @property
    def flops_per_token(self) -> float | None:
        """None: not known of an endpoint."""
        return None

    def rendered(self, prompt: Prompt) -> str:
        """The text itself, or the turns as JSON: the server applies a template that it does not show."""
        return prompt if isinstance(prompt, str) else json.dumps(prompt_value(prompt), ensure_ascii=False)

    def prompt_ids(self, prompt: Prompt) -> tuple[int, ...]:
        """Empty: the server does not show them."""
        return ()

    def loglikelihood(self, pairs: Sequence[tuple[Prompt, str]], progress: Progress = ignore) -> list[Likelihood]:
        """See LanguageModel; by ``logprobs`` and ``echo`` of /completions, one request a pair.

        The continuation's tokens are those past the context's last letter, as in lm-eval.

        Raises:
            UsageError: one line: a conversation (chat completions tell nothing of what they were given), an empty
                continuation, a server without ``logprobs`` or ``echo``, a first token without a context, or a token
                that is part context and part continuation.
        """
        texts = []
        for number, (context, continuation) in enumerate(pairs, start=1):
            where = f"{self.address}, pair {number}"
            if not isinstance(context, str):
                problem = "no endpoint tells log-probabilities after a conversation"
                raise UsageError(where, problem, "Give a text, or a task of kind generate.")
            if not continuation:
                raise UsageError(where, "has no continuation to score", "Give at least one character.")
            texts.append((context, continuation))
        return self._likelihoods(texts, list(pairs), "pair", progress)

    def loglikelihood_rolling(self, texts: Sequence[str], progress: Progress = ignore) -> list[Likelihood]:
        """See LanguageModel; a text is one request, so that one longer than the server reads is the server's error.

        Raises:
            UsageError: as ``loglikelihood``: a server that puts no token before a text tells nothing of its first one.
        Edge cases: an empty text: 0 of no tokens, without a request.
        """
        asked = [number for number, text in enumerate(texts) if text]
        found = self._likelihoods([("", texts[n]) for n in asked], [texts[n] for n in asked], "text", progress)
        by_place = dict(zip(asked, found, strict=True))
        return [by_place.get(number, Likelihood(0.0, True, 0)) for number in range(len(texts))]

    def _likelihoods(
        self, texts: Sequence[tuple[str, str]], asked: Sequence[Asked], kind: str, progress: Progress
    ) -> list[Likelihood]:
        bodies = [
            {
                "model": self.model,
                "prompt": context + continuation,
                # Servers that refuse 0 are many; the one token is left out again.
                "max_tokens": 1,
                "temperature": 0.0,
                "logprobs": 1,
                "echo": True,
            }
            for context, continuation in texts
        ]
        names = [f"{kind} {number}" for number in range(1, len(texts) + 1)]
        found: dict[int, Likelihood] = {}
        for number, answer in self._client.post_all("/completions", bodies, names):
            context, continuation = texts[number]
            found[number] = echoed(answer, context, continuation, f"{self.address}, {names[number]}")
            self.answered(asked[number], found[number])
            progress(len(found), len(texts))
        return [found[number] for number in range(len(texts))]

    def generate_until(self, requests: Sequence[Request], progress: Progress = ignore) -> list[Generation]:
        """See LanguageModel. A draw at a temperature above 0 gets its own ``seed``, where the server heeds it.

        Raises:
            UsageError: the server is down or refuses a request, or an answer has no text or no token count.
        """
        found: dict[int, Generation] = {}
        for path, chat in (("/completions", False), ("/chat/completions", True)):
            some = [n for n, request in enumerate(requests) if isinstance(request.prompt, str) is not chat]
            if not some:
                continue
            names = [f"request {number + 1}" for number in some]
            bodies = [self._body(requests[number]) for number in some]
            for place, answer in self._client.post_all(path, bodies, names):
                number = some[place]
                found[number] = _generation(answer, requests[number], f"{self.address}, {names[place]}")
                self.answered(requests[number], found[number])
                progress(len(found), len(requests))
        return [found[number] for number in range(len(requests))]

    def _body(self, request: Request) -> dict[str, Any]:
        shown = prompt_value(request.prompt)
        body: dict[str, Any] = {
            "model": self.model,
            "prompt" if isinstance(request.prompt, str) else "messages": shown,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
        }
        if request.stop:
            body["stop"] = list(request.stop[:MOST_STOPS])
        if request.temperature > 0:
            body["seed"] = seed_for(0, "endpoint", content_hash(shown), request.sample) % (1 << 31)
        return body


def endpoint(name: str, **more: Any) -> Endpoint:
    """The model that ``endpoint:http://127.0.0.1:8000/v1#model-name`` names, with settings after it.

    ``#model-name?at_once=4&per_minute=60&key_variable=MY_KEY``: fields of HttpSettings, and ``version`` of Endpoint.

    Args:
        more: ``answered``, ``clock`` of Endpoint.

    Raises:
        UsageError: no such form, an unknown setting, or a value out of its range.
    """
    address, hash_mark, rest = name.removeprefix(SCHEME).partition("#")
    if not name.startswith(SCHEME) or not hash_mark:
        raise UsageError(f"model {name!r}", "is no endpoint", "Write endpoint:http://127.0.0.1:8000/v1#MODEL.")
    model, _, query = rest.partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    version = given.pop("version", "")
    values: dict[str, Any] = {}
    for key, text in given.items():
        where, kind = f"endpoint setting {key}", KINDS.get(key)
        if kind is None:
            raise UsageError(where, "is unknown", nearest(key, [*KINDS, "version"]))
        try:
            values[key] = kind(text)
        except ValueError as error:
            raise UsageError(where, f"{text!r} is no number", f"Write {key}=NUMBER.") from error
    return Endpoint(address, model, version, HttpSettings(**values), **more)


def _generation(answer: Mapping[str, Any], request: Request, where: str) -> Generation:
    mend = "Check that the server speaks OpenAI's API, and the address up to /v1."
    try:
        choice = answer["choices"][0]
        text = choice["text"] if isinstance(request.prompt, str) else choice["message"].get("content")
        reason = choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise UsageError(where, "answered without choices[0]", mend) from error
    if text is None:
        text = ""
    if not isinstance(text, str):
        raise UsageError(where, f"answered with {type(text).__name__} in place of a text", mend)
    usage = answer.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if not isinstance(tokens, int):
        raise UsageError(where, "answered without usage.completion_tokens", "Use a server that counts its tokens.")
    places = [place for stop in request.stop if stop and (place := text.find(stop)) >= 0]
    return Generation(text[: min(places)] if places else text, bool(places) or reason not in CUT, tokens)
