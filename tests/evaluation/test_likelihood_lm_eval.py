"""Log-likelihoods against lm-eval's own, on the same model in memory and from the same texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers.processors import TemplateProcessing

from trimpot.evaluation.likelihood import (
    LikelihoodSettings,
    choice_scores,
    encode_pair,
    encode_question,
    encode_text,
    log_likelihoods,
    rolling_log_likelihoods,
)
from trimpot.models import attention
from trimpot.models.load import load
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny

TEXTS = [
    ("Question: what is 2 + 2?\nAnswer:", " 4"),
    ("Question: what is 2 + 2?\nAnswer: ", "four"),
    ("Question: what is 2 + 2?\nAnswer:\n\n ", " five or six"),
    ("Straße, 東京, ", "naïve — yes"),
    ("", "without a context"),
    ("", "<|im_end|>opens with the first token"),
    ("<|im_start|>user\nhello<|im_end|>", "\n"),
    ("<|im_end|>opens with the first token", " and goes on"),
    ("x", " y"),
]
LONG = ["", "a", "ab", "abcdefg", "abcdefgh", "The quick brown fox jumps over the lazy dog." * 3, "Ünïcode " * 9]


def with_first_token(policy: Policy) -> Policy:
    """Its tokenizer opens every text with <|im_start|>, as Llama's does with its own."""
    policy.tokenizer.bos_token = "<|im_start|>"
    begin = policy.tokenizer.bos_token_id
    policy.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", begin)]
    )
    return policy


class Peer:
    """lm-eval on a policy's weights, through transformers' stock attention."""

    def __init__(self, policy: Policy, **settings: Any) -> None:
        self.policy = policy
        self.model = HFLM(pretrained=policy.model, tokenizer=policy.tokenizer, **settings)

    def ask(self, method: str, arguments: Sequence[tuple[str, ...]]) -> list[Any]:
        self.policy.model.set_attn_implementation("sdpa")
        requests = [Instance(method, {}, texts, index) for index, texts in enumerate(arguments)]
        found = getattr(self.model, method)(requests, disable_tqdm=True)
        self.policy.model.set_attn_implementation(attention.IMPLEMENTATION)
        return list(found)


@pytest.fixture(params=["plain", "first token"])
def policy(request: pytest.FixtureRequest) -> Policy:
    """In float64, with a tokenizer that has a beginning-of-sequence token or none."""
    found = tiny("0.1m")
    found.model.double()
    return with_first_token(found) if request.param == "first token" else found


def test_pairs_equal_lm_eval(policy: Policy) -> None:
    expected = Peer(policy, batch_size=4).ask("loglikelihood", TEXTS)
    found = log_likelihoods(policy, [encode_pair(policy.tokenizer, *texts) for texts in TEXTS])
    for ours, (logprob, greedy) in zip(found, expected, strict=True):
        assert abs(ours.logprob - logprob) <= 1e-10
        assert ours.greedy == greedy


def test_tokens_of_texts_are_lm_evals(policy: Policy) -> None:
    peer = Peer(policy).model
    for context, continuation in TEXTS:
        assert list(encode_text(policy.tokenizer, continuation)) == peer.tok_encode(continuation)
        if context:
            ours, theirs = (
                encode_pair(policy.tokenizer, context, continuation),
                peer._encode_pair(context, continuation),
            )
            assert [list(part) for part in ours] == list(theirs)


def test_questions_equal_lm_eval(policy: Policy) -> None:
    examples = "Question: 1 + 1? Answer: 2\n\nQuestion: 3 + 1? Answer: 4\n\n"
    texts = [(f"{examples}Question: {n} + 1? Answer:", [f" {n + 1}", f" {n}", " none of these"]) for n in range(5)]
    expected = iter(Peer(policy, batch_size=3).ask("loglikelihood", [(c, one) for c, some in texts for one in some]))
    scores = choice_scores(policy, [encode_question(policy.tokenizer, *one) for one in texts])
    for some in scores:
        for ours in some:
            logprob, greedy = next(expected)
            assert abs(ours.logprob - logprob) <= 1e-10
            assert ours.greedy == greedy


def test_truncation_is_lm_evals(policy: Policy) -> None:
    texts = [one for one in TEXTS if one[0]]
    pairs = [encode_pair(policy.tokenizer, *one) for one in texts]
    length = max(len(continuation) for _, continuation in pairs)
    expected = Peer(policy, max_length=length, batch_size=2).ask("loglikelihood", texts)
    found = log_likelihoods(policy, pairs, LikelihoodSettings(max_length=length, truncate=True))
    whole = log_likelihoods(policy, pairs)
    assert max(abs(ours.logprob - logprob) for ours, (logprob, _) in zip(found, expected, strict=True)) <= 1e-10
    assert any(abs(ours.logprob - other.logprob) > 1e-6 for ours, other in zip(found, whole, strict=True))


@pytest.mark.parametrize("length", [1, 7, 8, 50, 2048])
def test_rolling_equals_lm_eval(policy: Policy, length: int) -> None:
    expected = Peer(policy, max_length=length, batch_size=2).ask("loglikelihood_rolling", [(text,) for text in LONG])
    ids = [encode_text(policy.tokenizer, text) for text in LONG]
    found = rolling_log_likelihoods(policy, ids, LikelihoodSettings(max_length=length, token_budget=64))
    assert max(abs(ours.logprob - theirs) for ours, theirs in zip(found, expected, strict=True)) <= 1e-9


def test_longest_sequence_is_lm_evals(policy: Policy) -> None:
    from trimpot.evaluation import likelihood

    assert likelihood._model_length(policy) == Peer(policy).model.max_length


@pytest.mark.slow
def test_smollm2_equals_lm_eval() -> None:
    policy = load("smollm2-135m", device="cpu")
    texts = [
        *((f"The capital of {name} is", f" {city}") for name in ("France", "Japan") for city in ("Paris", "Tokyo")),
        ("def add(a, b):\n    return ", "a + b"),
        ("", "The quick brown fox"),
    ]  # fmt: skip
    expected = Peer(policy, batch_size=3).ask("loglikelihood", texts)
    found = log_likelihoods(policy, [encode_pair(policy.tokenizer, *one) for one in texts])
    for ours, (logprob, greedy) in zip(found, expected, strict=True):
        assert abs(ours.logprob - logprob) <= 1e-4
        assert ours.greedy == greedy
    assert found[0].logprob > found[1].logprob
    assert found[3].logprob > found[2].logprob
