"""A policy as a language model: identity, one beginning, stop strings, draws that depend on nothing else."""

from __future__ import annotations

import math

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.rows import Message
from trimpot.evaluation.cache import CachedModel, ResponseCache
from trimpot.evaluation.language_model import Request
from trimpot.evaluation.likelihood import encode_pair, log_likelihoods
from trimpot.evaluation.local import LocalModel, check_beginning
from trimpot.models.tiny import tiny
from trimpot.rollout.engine import generate
from trimpot.rollout.sampling import SamplingSettings

CHAT = (Message("user", "say a"),)


@pytest.fixture(scope="module")
def model() -> LocalModel:
    return LocalModel(tiny())


def test_two_checkpoints_of_one_shape_never_share_an_answer(tmp_path, model):
    other = LocalModel(tiny(seed=1))
    assert model.identity.tokenizer == other.identity.tokenizer
    assert model.identity.template == other.identity.template
    assert model.identity.weights != other.identity.weights
    with ResponseCache(tmp_path / "c.sqlite") as cache:
        answers = []
        for one in (model, other):
            cached = CachedModel(one, cache)
            answers.append(cached.generate_until([Request("abc", 6)]) + cached.loglikelihood([("abc", " d")]))
            assert (cached.hits, cached.asked) == (0, 2)
        assert len(cache) == 4
    assert answers[0] != answers[1]
    assert answers[0] == model.generate_until([Request("abc", 6)]) + model.loglikelihood([("abc", " d")])


def test_one_changed_weight_changes_the_identity():
    policy = tiny()
    before = LocalModel(policy).identity
    with torch.no_grad():
        next(policy.model.parameters()).view(-1)[0] += 1e-3
    assert LocalModel(policy).identity.key != before.key


def test_a_configuration_or_an_ending_that_changes_answers_changes_the_identity():
    policy = tiny()
    before = LocalModel(policy).identity.key
    policy.model.config.rms_norm_eps = 1e-2
    assert LocalModel(policy).identity.key != before
    policy = tiny()
    policy.model.generation_config.eos_token_id = [0, 1]
    assert LocalModel(policy).identity.key != before
    policy = tiny()
    policy.tokenizer.chat_template = "x" + policy.tokenizer.chat_template
    assert LocalModel(policy).identity.key != before


def test_a_conversation_is_read_as_its_template_renders_it(model):
    assert model.rendered(CHAT) == "<|im_start|>user\nsay a<|im_end|>\n<|im_start|>assistant\n"
    assert model.prompt_ids(CHAT) == model.template.prompt_ids(CHAT)
    assert model.rendered("text") == "text"


def test_likelihoods_equal_those_of_the_pairs(model):
    pairs = [("ab", " c"), ("ab ", "c"), ("x", "yz")]
    encoded = [encode_pair(model.policy.tokenizer, *pair) for pair in pairs]
    assert model.loglikelihood(pairs) == log_likelihoods(model.policy, encoded)
    (chat,) = model.loglikelihood([(CHAT, "a")])
    (same,) = log_likelihoods(model.policy, [(model.prompt_ids(CHAT), (model.policy.tokenizer.encode("a")[0],))])
    assert chat == same


def test_a_text_of_its_own_is_read_after_the_first_token(model):
    (whole,) = model.loglikelihood_rolling(["abc"])
    end = model.policy.tokenizer.eos_token_id
    (same,) = log_likelihoods(model.policy, [((end,), tuple(model.policy.tokenizer.encode("abc")))])
    assert whole.logprob == pytest.approx(same.logprob, abs=1e-5)
    assert whole.tokens == 3


def test_answers_do_not_depend_on_the_other_requests_or_their_order(model):
    requests = [Request(f"say {n}", 6, temperature=1.0, sample=s) for n in range(3) for s in range(3)]
    requests += [Request(CHAT, 5), Request("say 1", 4, stop=("e",))]
    together = model.generate_until(requests)
    for request, answer in zip(requests, together, strict=True):
        (alone,) = model.generate_until([request])
        assert (alone.text, alone.finished, alone.tokens) == (answer.text, answer.finished, answer.tokens)
        assert alone.logprob == pytest.approx(answer.logprob, abs=1e-3)
    backwards = model.generate_until(requests[::-1])[::-1]
    assert [one.text for one in backwards] == [one.text for one in together]


def test_draws_differ_by_number_and_repeat_by_number(model):
    requests = [Request("say", 8, temperature=1.0, sample=sample) for sample in range(8)]
    texts = [one.text for one in model.generate_until(requests)]
    assert len(set(texts)) > 4
    assert texts == [one.text for one in model.generate_until(requests)]


def test_an_answer_ends_before_its_stop_string_and_greedy_answers_are_the_engines(model):
    prompt = model.prompt_ids("say")
    ((whole,),) = generate(model.policy, [prompt], 1, SamplingSettings(temperature=0.0, max_tokens=12), 0)
    text = model.policy.tokenizer.decode(whole.ids, skip_special_tokens=True)
    (answer,) = model.generate_until([Request("say", 12)])
    assert (answer.text, answer.tokens, answer.finished) == (text, 12, False)
    assert answer.logprob == pytest.approx(math.fsum(whole.logprobs))
    stop = next(letter for letter in text[1:] if letter.isascii())
    (cut,) = model.generate_until([Request("say", 12, stop=(stop, "never there"))])
    assert cut.finished
    assert cut.text == text[: text.index(stop)]
    assert cut.tokens <= 12


def test_progress_counts_all_requests(model):
    calls = []
    requests = [Request("a", 3), Request("b", 2), Request("c", 3)]
    model.generate_until(requests, lambda done, total: calls.append((done, total)))
    assert calls[-1] == (3, 3)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_lengths_and_operations(model):
    assert model.max_length == 2048
    assert model.tokens_of("abc") == 3
    assert model.tokens_of("abc", " d") == 5
    # All matrices count, the tied embedding once, as it is the head; the norms' vectors do not.
    parameters = model.policy.model.named_parameters()
    assert model.flops_per_token == 2 * sum(value.numel() for name, value in parameters if "norm" not in name)


class Tokenizer:
    """One that opens texts with its beginning token, 1, or does not."""

    def __init__(self, begins: bool) -> None:
        self.bos_token_id, self.begins = 1, begins

    def __call__(self, text):
        return {"input_ids": [1, 5] if self.begins else [5]}


def test_exactly_one_beginning():
    check_beginning(Tokenizer(True), (1, 5, 6), "prompt")
    check_beginning(Tokenizer(False), (5, 6), "prompt")
    # A template that opens every turn with the token (SmolLM2).
    check_beginning(Tokenizer(False), (1, 5, 1, 6), "chat template")
    with pytest.raises(UsageError, match="begins with two beginning-of-sequence tokens"):
        check_beginning(Tokenizer(True), (1, 1, 5), "prompt")
    with pytest.raises(UsageError, match="has no beginning-of-sequence token"):
        check_beginning(Tokenizer(True), (5, 6), "chat template")


def test_two_beginnings_in_a_prompt_are_refused_before_anything_runs():
    policy = tiny()
    policy.tokenizer.bos_token = "<|im_start|>"
    with pytest.raises(UsageError, match="two beginning-of-sequence tokens"):
        LocalModel(policy).generate_until([Request("<|im_start|><|im_start|>a", 3)])
