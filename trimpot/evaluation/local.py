"""A policy as a language model that can be evaluated: exact log-likelihoods, and generation by the rollout engine."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.core.hashing import content_hash
from trimpot.core.progress import Progress, ignore
from trimpot.data.template import ChatTemplate
from trimpot.evaluation.language_model import Generation, Identity, Likelihood, Prompt, Request
from trimpot.evaluation.likelihood import (
    LikelihoodSettings,
    Pair,
    encode_pair,
    encode_text,
    first_token,
    log_likelihoods,
    rolling_log_likelihoods,
)
from trimpot.evaluation.progress import part_of
from trimpot.evaluation.task import prompt_value
from trimpot.models.policy import Policy
from trimpot.rollout.engine import Completion, context_limit, end_tokens, generate
from trimpot.rollout.sampling import SamplingSettings

DRAWS = 0
"""The seed of sampled answers: a draw follows from the weights, the prompt and ``Request.sample`` alone."""
UNNAMED = ("_name_or_path", "name_or_path", "transformers_version", "dtype", "torch_dtype")
"""Fields of a configuration that say where a model came from and what it is kept in, not what it computes."""


class LocalModel:
    """A policy as it is now, as a LanguageModel.

    Texts are tokenised as lm-eval does (``encode_pair``), conversations by the chat template; either way at most one
    beginning-of-sequence token stands in front, and exactly one where the tokenizer opens texts with it. Answers depend
    on no other request of the same call, and on no seed: see ``DRAWS``.

    Identity and what is tokenised are kept: change the policy's weights, and make a new one.
    """

    def __init__(self, policy: Policy, settings: LikelihoodSettings | None = None) -> None:
        self.policy, self.settings = policy, settings or LikelihoodSettings()
        self.template = ChatTemplate(policy.tokenizer)
        self._ids: dict[str, tuple[int, ...]] = {}
        self._texts: dict[str, str] = {}

    @cached_property
    def identity(self) -> Identity:
        """Hashes of the weights' bytes; of the tokenizer and what ends an answer; of template and configuration."""
        policy = self.policy
        config = {name: value for name, value in policy.model.config.to_dict().items() if name not in UNNAMED}
        return Identity(
            policy.name,
            policy.weights_hash(),
            content_hash([_tokenizer_text(policy.tokenizer), sorted(end_tokens(policy))]),
            content_hash([self.template.hash, json.dumps(config, sort_keys=True, default=str)]),
        )

    @cached_property
    def flops_per_token(self) -> float | None:
        """2 × the weights in matrices; an embedding that is only looked up, as the head has its own, costs nothing."""
        model = self.policy.model
        matrices = {id(value): value.numel() for value in model.parameters() if value.dim() > 1}
        looked_up, head = model.get_input_embeddings().weight, self.policy.head()[0]
        if looked_up is not head:
            matrices.pop(id(looked_up), None)
        return 2.0 * sum(matrices.values())

    @property
    def max_length(self) -> int | None:
        """The longest sequence in tokens; None: the configuration does not say."""
        return self.settings.max_length or context_limit(self.policy)

    def tokens_of(self, prompt: Prompt, continuation: str = "") -> int:
        """How many tokens a prompt and its continuation are together, virtual ones included."""
        if not continuation:
            return len(self.prompt_ids(prompt))
        context, following = self._pair(prompt, continuation)
        return len(self.policy.virtual_ids) + len(context) + len(following)

    def rendered(self, prompt: Prompt) -> str:
        """See LanguageModel."""
        if isinstance(prompt, str):
            return prompt
        key = _key(prompt)
        if key not in self._texts:
            text = self.policy.tokenizer.decode(self._context(prompt), clean_up_tokenization_spaces=False)
            self._texts[key] = str(text)
        return self._texts[key]

    def prompt_ids(self, prompt: Prompt) -> tuple[int, ...]:
        """See LanguageModel; virtual tokens come first.

        Raises:
            UsageError: two beginning-of-sequence tokens in front, or none where the tokenizer opens texts with one.
        """
        return self.policy.virtual_ids + self._context(prompt)

    def loglikelihood(self, pairs: Sequence[tuple[Prompt, str]], progress: Progress = ignore) -> list[Likelihood]:
        """See LanguageModel; what pairs share (few-shot examples, a question) runs once.

        Source: equals lm-eval 0.4.13's ``loglikelihood``.
        """
        encoded = [self._pair(prompt, continuation) for prompt, continuation in pairs]
        return log_likelihoods(self.policy, encoded, self.settings, progress)

    def loglikelihood_rolling(self, texts: Sequence[str], progress: Progress = ignore) -> list[Likelihood]:
        """See LanguageModel.

        Source: equals lm-eval 0.4.13's ``loglikelihood_rolling`` where the tokenizer adds no beginning token to texts;
        where it adds one, that is the first token, and no second one is put before it.
        """
        tokenizer = self.policy.tokenizer
        first, found = first_token(tokenizer), [encode_text(tokenizer, text) for text in texts]
        single = [ids[1:] if ids[:1] == (first,) else ids for ids in found]
        return rolling_log_likelihoods(self.policy, single, self.settings, progress)

    def generate_until(self, requests: Sequence[Request], progress: Progress = ignore) -> list[Generation]:
        """See LanguageModel. Requests of one decoding run together; a prompt that several have is read once."""
        ways: dict[tuple[int, tuple[str, ...], float], list[int]] = {}
        for number, request in enumerate(requests):
            ways.setdefault((request.max_tokens, request.stop, request.temperature), []).append(number)
        found: dict[int, Generation] = {}
        for (max_tokens, stop, temperature), numbers in ways.items():
            prompts = [self.prompt_ids(requests[number].prompt) for number in numbers]
            names = [_draw(prompt, requests[number].sample) for prompt, number in zip(prompts, numbers, strict=True)]
            settings = SamplingSettings(temperature=temperature, max_tokens=max_tokens, stop=stop or None)
            heard = part_of(progress, len(found), len(requests))
            groups = generate(self.policy, prompts, 1, settings, DRAWS, heard, names)
            for number, (completion,) in zip(numbers, groups, strict=True):
                found[number] = self._generation(completion, stop)
        return [found[number] for number in range(len(requests))]

    def _generation(self, completion: Completion, stop: Sequence[str]) -> Generation:
        text = str(self.policy.tokenizer.decode(completion.ids, skip_special_tokens=True))
        places = [place for one in stop if (place := text.find(one)) >= 0]
        text = text[: min(places)] if places else text
        return Generation(text, completion.finished, len(completion.ids), math.fsum(completion.logprobs))

    def _pair(self, prompt: Prompt, continuation: str) -> Pair:
        """Context and continuation as ids, without virtual ones; likelihoods add those themselves."""
        tokenizer = self.policy.tokenizer
        if isinstance(prompt, str):
            context, following = encode_pair(tokenizer, prompt, continuation)
            check_beginning(tokenizer, context, "prompt")
            return context, following
        return self._context(prompt), tuple(tokenizer.encode(continuation, add_special_tokens=False))

    def _context(self, prompt: Prompt) -> tuple[int, ...]:
        key = _key(prompt)
        if key not in self._ids:
            tokenizer = self.policy.tokenizer
            if isinstance(prompt, str):
                ids = encode_text(tokenizer, prompt) if prompt else (first_token(tokenizer),)
            else:
                ids = self.template.prompt_ids(prompt)
            check_beginning(tokenizer, ids, "prompt" if isinstance(prompt, str) else "chat template")
            self._ids[key] = ids
        return self._ids[key]


def check_beginning(tokenizer: Any, ids: Sequence[int], where: str) -> None:
    """Refuses what a model reads unless one beginning-of-sequence token opens it, where the tokenizer uses one.

    Raises:
        UsageError: two of them in front; or none, though the tokenizer opens texts with one.
    Edge cases: a tokenizer without the token, or that puts none before texts (SmolLM2, Qwen): none is needed. Later
        ones are the template's affair, as SmolLM2's opens every turn with its own.
    """
    begin = tokenizer.bos_token_id
    if begin is None:
        return
    if list(ids[:2]) == [begin, begin]:
        mend = "Take the one out that the prompt or the chat template writes."
        raise UsageError(where, "begins with two beginning-of-sequence tokens", mend)
    if list(ids[:1]) != [begin] and list(tokenizer("a")["input_ids"][:1]) == [begin]:
        mend = "Let the chat template begin with bos_token."
        raise UsageError(where, "has no beginning-of-sequence token, with which the tokenizer opens texts", mend)


def _draw(prompt: tuple[int, ...], sample: int) -> int:
    """The name of a draw's random stream: its prompt and its number."""
    return int(content_hash([list(prompt), sample]), 16)


def _key(prompt: Prompt) -> str:
    return content_hash(prompt_value(prompt))


def _tokenizer_text(tokenizer: Any) -> object:
    """What decides the ids of a text, and the special tokens; padding and truncation are set by every call."""
    special = {name: str(value) for name, value in tokenizer.special_tokens_map.items()}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return [sorted(tokenizer.get_vocab().items()), special]
    tree = json.loads(backend.to_str())
    return [{name: value for name, value in tree.items() if name not in ("padding", "truncation")}, special]
