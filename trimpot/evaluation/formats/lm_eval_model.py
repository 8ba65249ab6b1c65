"""lm-eval both ways: a trimpot model inside lm-eval, and any lm-eval model inside trimpot. lm-eval is imported late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.core.hashing import bytes_hash, content_hash
from trimpot.core.progress import Progress, ignore
from trimpot.core.rows import Message
from trimpot.evaluation.language_model import Generation, Identity, LanguageModel, Likelihood, Prompt, Request
from trimpot.evaluation.task import prompt_value

MOST_TOKENS = 256
"""lm-eval's longest completion where a task does not say."""
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names of the longest completion, in lm-eval's order of precedence."""
SAMPLING = ("top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "num_beams")
NEUTRAL = (None, 0, 1, False)
"""Values of those that change nothing."""


def lm_eval_import(module: str) -> Any:
    """A module of lm-eval.

    Raises:
        UsageError: it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError("lm-eval", f"cannot be imported ({error})", "Install it: pip install lm-eval.") from error


def as_lm(model: LanguageModel) -> Any:
    """A trimpot model as an ``LM`` of lm-eval, for ``lm_eval.simple_evaluate(model=as_lm(model), tasks=…)``.

    A conversation that lm-eval renders by this model's template reaches the model as a conversation again.

    Raises:
        UsageError: lm-eval is not installed. Its methods raise it for what a Request cannot say: sampling with top_p,
            a started answer (gen_prefix) in a chat.
    """
    from lm_eval.api.model import LM

    class TrimpotLM(LM):
        """Final; lm-eval asks for a subclass."""

        def __init__(self) -> None:
            super().__init__()
            self.trimpot, self._conversations = model, dict[str, tuple[Message, ...]]()

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            pairs = [(self._prompt(request.args[0]), request.args[1]) for request in requests]
            return [(one.logprob, one.greedy) for one in model.loglikelihood(pairs)]

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
            return [one.logprob for one in model.loglikelihood_rolling([request.args[0] for request in requests])]

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            # A repeated request is the same object again: its next draw.
            seen: dict[int, int] = {}
            asked = []
            for request in requests:
                sample = seen[id(request)] = seen.get(id(request), -1) + 1
                asked.append(request_of(self._prompt(request.args[0]), request.args[1], sample))
            return [one.text for one in model.generate_until(asked)]

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            if not add_generation_prompt:
                raise UsageError("lm-eval", "the task begins the answer (gen_prefix)", "Run it without chat template.")
            turns = tuple(Message(turn["role"], turn["content"]) for turn in chat_history)
            text = model.rendered(turns)
            self._conversations[text] = turns
            return text

        def chat_template(self, chat_template: bool | str = False) -> str | None:
            return model.identity.template

        @property
        def tokenizer_name(self) -> str:
            return model.identity.tokenizer

        def get_model_info(self) -> dict[str, Any]:
            """Stands in lm-eval's results, and from there in the outcomes of its sample logs."""
            return {"model": model.identity.name, "model_sha": model.identity.weights}

        def _prompt(self, text: str) -> Prompt:
            return self._conversations.get(text, text)

    return TrimpotLM()


def request_of(prompt: Prompt, options: Mapping[str, Any], sample: int = 0) -> Request:
    """What lm-eval's ``generation_kwargs`` ask for.

    Raises:
        UsageError: sampling by more than a temperature.
    Edge cases: ``do_sample: false`` is temperature 0 whatever else stands there, as in lm-eval; without a length 256.
    """
    until = options.get("until") or ()
    stop = (until,) if isinstance(until, str) else tuple(str(one) for one in until)
    length = next((options[name] for name in LENGTHS if options.get(name) is not None), MOST_TOKENS)
    temperature = float(options.get("temperature") or 0.0)
    if options.get("do_sample") is False:
        temperature = 0.0
    names = SAMPLING if temperature > 0 else ("repetition_penalty", "num_beams")
    unknown = [name for name in names if options.get(name) not in NEUTRAL]
    if unknown:
        problem = f"generation_kwargs hold {', '.join(unknown)}, which trimpot's models do not take"
        raise UsageError("lm-eval task", problem, "Take them out, or run the task on lm-eval's own model.")
    return Request(prompt, int(length), stop, temperature, sample)


class LmEvalModel:
    """An lm-eval ``LM`` as a LanguageModel.

    Tokens are counted by its ``tok_encode``; an LM without one leaves them 0 (perplexity None). lm-eval does not tell
    whether a completion ended by itself: one with fewer tokens than ``max_tokens`` did, and every one of an LM without
    ``tok_encode`` passes for finished.

    Args:
        lm: any ``lm_eval.api.model.LM``.
        identity: what decides its answers; see ``identity_of``.
    """

    def __init__(self, lm: Any, identity: Identity) -> None:
        self.lm, self._identity = lm, identity

    @property
    def identity(self) -> Identity:
        """As given."""
        return self._identity

    @property
    def flops_per_token(self) -> float | None:
        """None: not known of an lm-eval model."""
        return None

    def rendered(self, prompt: Prompt) -> str:
        """The text itself, or the conversation by the LM's ``apply_chat_template``.

        Raises:
            UsageError: the LM has no chat template.
        """
        if isinstance(prompt, str):
            return prompt
        try:
            return str(self.lm.apply_chat_template(prompt_value(prompt)))
        except NotImplementedError as error:
            mend = "Give texts, or another model."
            raise UsageError(f"model {self._identity.name}", "has no chat template in lm-eval", mend) from error

    def prompt_ids(self, prompt: Prompt) -> tuple[int, ...]:
        """By the LM's ``tok_encode``; empty where it has none."""
        encode = getattr(self.lm, "tok_encode", None)
        return () if encode is None else tuple(int(token) for token in encode(self.rendered(prompt)))

    def loglikelihood(self, pairs: Sequence[tuple[Prompt, str]], progress: Progress = ignore) -> list[Likelihood]:
        """See LanguageModel; what lm-eval's model would cut, it cuts."""
        texts = [(self.rendered(context), continuation) for context, continuation in pairs]
        for number, (_, continuation) in enumerate(texts):
            if not continuation:
                raise UsageError(f"pair {number}", "has no continuation to score", "Give at least one character.")
        found = self._ask("loglikelihood", texts, progress)
        counts = [self._continuation_tokens(*pair) for pair in texts]
        return [
            Likelihood(float(logprob), bool(greedy), count)
            for (logprob, greedy), count in zip(found, counts, strict=True)
        ]

    def loglikelihood_rolling(self, texts: Sequence[str], progress: Progress = ignore) -> list[Likelihood]:
        """See LanguageModel; ``greedy`` is False: lm-eval does not tell."""
        found = self._ask("loglikelihood_rolling", [(text,) for text in texts], progress)
        return [
            # Older models give (log-probability,), as the interface says; HFLM gives the number.
            Likelihood(float(one[0] if isinstance(one, tuple) else one), False, len(self._tokens(text) or ()))
            for one, text in zip(found, texts, strict=True)
        ]

    def generate_until(self, requests: Sequence[Request], progress: Progress = ignore) -> list[Generation]:
        """See LanguageModel; draws at a temperature follow lm-eval's own seeds, ``sample`` only keeps them apart."""
        asked = [(self.rendered(request.prompt), _options(request)) for request in requests]
        texts = self._ask("generate_until", asked, progress)
        return [self._generation(str(text), request) for text, request in zip(texts, requests, strict=True)]

    def _ask(self, method: str, arguments: Sequence[tuple[Any, ...]], progress: Progress) -> list[Any]:
        if not arguments:
            return []
        instance = lm_eval_import("lm_eval.api.instance").Instance
        requests = [instance(method, {}, one, 0, ("trimpot", number, 1)) for number, one in enumerate(arguments)]
        found = list(getattr(self.lm, method)(requests))
        if len(found) != len(requests):
            problem = f"gave {len(found)} answers to {len(requests)} requests"
            raise UsageError(f"model {self._identity.name}", problem, "Use another lm-eval model.")
        progress(len(found), len(found))
        return found

    def _continuation_tokens(self, context: str, continuation: str) -> int:
        encode_pair = getattr(self.lm, "_encode_pair", None)
        return (
            len(encode_pair(context, continuation)[1]) if encode_pair and context else len(self._tokens(continuation))
        )

    def _tokens(self, text: str) -> Sequence[int]:
        encode = getattr(self.lm, "tok_encode", None)
        return () if encode is None else list(encode(text, add_special_tokens=False))

    def _generation(self, text: str, request: Request) -> Generation:
        tokens = len(self._tokens(text))
        return Generation(text, tokens < request.max_tokens, min(tokens, request.max_tokens))


def _options(request: Request) -> dict[str, Any]:
    options: dict[str, Any] = {"until": list(request.stop), "max_gen_toks": request.max_tokens}
    sampled = request.temperature > 0
    return {**options, "do_sample": sampled, "temperature": request.temperature if sampled else 0.0}


def identity_of(lm: Any, name: str, weights: str = "") -> Identity:
    """The identity of an lm-eval model.

    Args:
        weights: states what its weights are; empty: the hash of ``lm.model``'s bytes, as in ``Policy.weights_hash``.

    Raises:
        UsageError: neither is there.
    """
    model, tokenizer = getattr(lm, "model", None), getattr(lm, "tokenizer", None)
    state = getattr(model, "state_dict", None)
    if not weights and state is None:
        problem = "shows no weights, so that nothing tells two checkpoints apart"
        raise UsageError(f"model {name}", problem, "State what they are: identity_of(lm, name, weights=…).")
    if not weights:
        weights = _weights_hash(state())  # type: ignore[misc]
    template = str(getattr(tokenizer, "chat_template", None))
    vocabulary = getattr(tokenizer, "get_vocab", None)
    words: Any = type(lm).__name__ if vocabulary is None else sorted(vocabulary().items())
    settings = [str(getattr(lm, field, None)) for field in ("add_bos_token", "_max_length", "truncation")]
    return Identity(name, weights, content_hash([words, settings]), content_hash(template))


def _weights_hash(state: Mapping[str, Any]) -> str:
    import torch

    return bytes_hash(
        chunk
        for name in sorted(state)
        for chunk in (
            name.encode(),
            state[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data,
        )
    )
