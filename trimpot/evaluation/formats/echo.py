"""Log-likelihoods out of a completion that echoes its prompt (OpenAI's ``logprobs`` with ``echo``)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.evaluation.language_model import Likelihood

GENERATE = "Use a server that gives them, such as vLLM, or a task of kind generate."


def echoed(answer: Mapping[str, Any], context: str, continuation: str, where: str) -> Likelihood:
    """Σ log p of the continuation's tokens in an answer to the prompt ``context + continuation`` with one token more.

    A token is the continuation's if it begins at or after the end of the context without its final white space (which
    moves to the continuation, as in lm-eval). Places are counted in characters from the prompt's start: what a server
    puts before it (a beginning-of-sequence token) is left out.

    Raises:
        UsageError: one line: no log-probabilities, no echo, a token across the border, or a first token that none has.
    Example: context ``2+2 =`` (5 characters), continuation `` 4``; tokens ``2 + 2 " =" " 4" .`` begin at
        0 1 2 3 5 7 and the last one is the generated one: the continuation is the token at 5, its log-probability.
    """
    tokens, logprobs, offsets, tops, count = _lists(answer, where)
    whole = context + continuation
    # The generated token begins where the prompt ends, whatever stands before the prompt.
    ends = offsets[count] if count < len(tokens) else offsets[count - 1] + len(tokens[count - 1])
    before = ends - len(whole)
    text = str(answer["choices"][0].get("text", ""))
    if before < 0 or whole not in text:
        raise UsageError(where, "the endpoint does not echo the prompt's log-probabilities", GENERATE)
    border = len(context.rstrip())
    first = next((n for n in range(count) if offsets[n] - before >= border), count)
    if first == count or offsets[first] - before > len(context):
        token = tokens[first - 1]
        problem = f"the token {token!r} is part context and part continuation"
        raise UsageError(where, problem, "Begin the continuation where a token begins, with its space.")
    values = [value for value in logprobs[first:count] if value is not None]
    if len(values) < count - first:
        problem = "the endpoint gives no log-probability of a text's first token"
        raise UsageError(where, problem, "Give a context before it.")
    most = tops[first:count]
    if any(not top for top in most):
        raise UsageError(where, "the endpoint gives no top_logprobs", GENERATE)
    greedy = all(value >= max(top.values()) for value, top in zip(values, most, strict=True))
    return Likelihood(math.fsum(values), greedy, len(values))


def _lists(
    answer: Mapping[str, Any], where: str
) -> tuple[Sequence[str], Sequence[float | None], Sequence[int], Sequence[Any], int]:
    """Tokens, their log-probabilities, places and alternatives, and how many of them are the prompt's."""
    try:
        found = answer["choices"][0].get("logprobs")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise UsageError(where, "answered without choices[0]", GENERATE) from error
    if found is None:
        raise UsageError(where, "the endpoint gives no log-probabilities", GENERATE)
    try:
        tokens, logprobs, offsets = found["tokens"], found["token_logprobs"], found["text_offset"]
        tops = found.get("top_logprobs") or [None] * len(tokens)
        usage = answer.get("usage") or {}
        count = int(usage.get("prompt_tokens", len(tokens) - 1))
        lengths = {len(tokens), len(logprobs), len(offsets), len(tops)}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(where, "answered with log-probabilities of another form", GENERATE) from error
    if len(lengths) != 1 or not 0 < count <= len(tokens) <= count + 1:
        raise UsageError(where, "the endpoint does not echo the prompt's log-probabilities", GENERATE)
    return tokens, logprobs, offsets, tops, count
