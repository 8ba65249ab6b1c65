"""Log-likelihoods against transformers' plain forward: exact, whatever the batches, the order and what is shared."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trimpot.core.errors import UsageError
from trimpot.core.samples import Branch, Sample
from trimpot.core.tensors import pack_one
from trimpot.evaluation.likelihood import (
    Likelihood,
    LikelihoodSettings,
    Pair,
    Question,
    choice_scores,
    log_likelihoods,
    most_likely,
    rolling_log_likelihoods,
    rolling_windows,
)
from trimpot.models import attention, prefix
from trimpot.models.adapters import TrainableSettings, choose_trainable
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny

ARCHITECTURES = ["llama", "qwen2", "qwen3", "gemma", "gpt2", "mistral"]
EXACT = tiny("0.1m")
EXACT.model.double()
WINDOWED = tiny("0.1m", "mistral", sliding_window=3)
WINDOWED.model.double()


def ids(source: random.Random, count: int) -> tuple[int, ...]:
    return tuple(source.randrange(250) for _ in range(count))


def some_questions(seed: int = 0) -> list[Question]:
    """Questions that share examples, questions that do not, one-token choices, equal choices, a question twice."""
    source = random.Random(seed)
    examples = ids(source, 150)
    questions = []
    for number in range(8):
        context = (examples if number % 2 else ()) + ids(source, source.randrange(1, 40))
        sizes = [1, 1, 1] if number % 3 == 0 else [source.randrange(1, 7) for _ in range(4)]
        questions.append(Question(context, tuple(ids(source, size) for size in sizes)))
    first = questions[1]
    return [*questions, first, Question(first.context + first.choices[0], (*first.choices, first.choices[0]))]


@torch.no_grad()
def plain(policy: Policy, pairs: Sequence[Pair]) -> list[tuple[float, bool]]:
    """All pairs right-padded into one batch, through transformers' stock implementation."""
    policy.model.set_attn_implementation("sdpa")
    rows = [context + continuation for context, continuation in pairs]
    width = max(map(len, rows))
    padded = torch.tensor([row + (0,) * (width - len(row)) for row in rows])
    mask = torch.tensor([(1,) * len(row) + (0,) * (width - len(row)) for row in rows])
    logprobs = policy.model(input_ids=padded, attention_mask=mask).logits.log_softmax(-1)
    policy.model.set_attn_implementation(attention.IMPLEMENTATION)
    found = []
    for row, logprob, (context, continuation) in zip(rows, logprobs, pairs, strict=True):
        part, targets = logprob[len(context) - 1 : len(row) - 1], torch.tensor(continuation)
        total = part.gather(1, targets[:, None]).sum().item()
        found.append((total, bool((part.argmax(1) == targets).all())))
    return found


def difference(found: Sequence[Likelihood], expected: Sequence[tuple[float, bool]]) -> float:
    assert [one.greedy for one in found] == [greedy for _, greedy in expected]
    return max(abs(one.logprob - logprob) for one, (logprob, _) in zip(found, expected, strict=True))


def flat(questions: Sequence[Question]) -> list[Pair]:
    return [(question.context, choice) for question in questions for choice in question.choices]


@pytest.mark.parametrize(
    ("architecture", "changes"), [*((name, {}) for name in ARCHITECTURES), ("mistral", {"sliding_window": 20})]
)
def test_choices_equal_the_padded_forward(architecture: str, changes: dict[str, int]) -> None:
    policy, questions = tiny("0.1m", architecture, **changes), some_questions()
    scores = choice_scores(policy, questions)
    assert [len(some) for some in scores] == [len(question.choices) for question in questions]
    found, pairs = [one for some in scores for one in some], flat(questions)
    assert difference(found, plain(policy, pairs)) <= 1e-5
    assert [one.tokens for one in found] == [len(choice) for _, choice in pairs]
    policy.model.double()
    found = [one for some in choice_scores(policy, questions) for one in some]
    assert difference(found, plain(policy, pairs)) <= 1e-10


@pytest.mark.parametrize("budget", [1, 60, 200, 10**6])
def test_results_do_not_depend_on_the_token_budget_nor_the_order(budget: int) -> None:
    policy, questions = tiny("0.1m"), some_questions()
    expected = choice_scores(policy, questions)
    turned = choice_scores(policy, questions[::-1], LikelihoodSettings(token_budget=budget))[::-1]
    for some, others in zip(expected, turned, strict=True):
        assert max(abs(one.logprob - other.logprob) for one, other in zip(some, others, strict=True)) <= 1e-5
    assert choice_scores(policy, questions[::-1])[::-1] == expected  # to the last bit


TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=9).map(tuple)  # few words, so that prefixes are shared


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pairs=st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=12),
    budget=st.integers(1, 40),
    block=st.integers(1, 8),
    policy=st.sampled_from([EXACT, WINDOWED]),
)
def test_any_pairs_equal_the_padded_forward(
    pairs: list[Pair], budget: int, block: int, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix, "BLOCK", block)
    found = log_likelihoods(policy, pairs, LikelihoodSettings(token_budget=budget))
    assert difference(found, plain(policy, pairs)) <= 1e-10


@pytest.mark.parametrize("budget", [30, 1024])
def test_nothing_that_is_shared_runs_twice(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, questions, runs = tiny("0.1m"), some_questions(), []
    hidden = Policy.hidden

    def counted(self: Policy, ids_T: torch.Tensor, *rest: Any) -> torch.Tensor:
        runs.append(len(ids_T))
        return hidden(self, ids_T, *rest)

    monkeypatch.setattr(Policy, "hidden", counted)
    choice_scores(policy, questions, LikelihoodSettings(token_budget=budget))
    rows = [context + choice[:-1] for context, choice in flat(questions)]
    assert sum(runs) == len({row[:length] for row in rows for length in range(1, len(row) + 1)})
    largest = max(len(part.new) for part in prefix.additions(rows))
    assert max(runs) <= max(budget, largest)
    assert len(runs) > 1 or budget == 1024


def test_greedy_says_whether_the_model_would_have_written_it() -> None:
    context: tuple[int, ...] = (5, 6, 7)
    written: tuple[int, ...] = ()
    for _ in range(4):
        scores = log_likelihoods(EXACT, [(context + written, (token,)) for token in range(258)])
        assert sum(math.exp(one.logprob) for one in scores) <= 1 + 1e-9
        (best,) = [token for token, one in enumerate(scores) if one.greedy]
        assert best == most_likely(scores)
        written += (best,)
    other = (*written[:3], (written[3] + 1) % 250)
    found = log_likelihoods(EXACT, [(context, written), (context, other)])
    assert [one.greedy for one in found] == [True, False]


@pytest.mark.parametrize("mode", ["lora", "prompt", "prefix"])
def test_adapters_and_virtual_tokens_take_part(mode: str) -> None:
    policy, questions = tiny("0.1m"), some_questions()
    before = choice_scores(policy, questions)
    choose_trainable(policy, TrainableSettings(mode))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in policy.trainable().values():
            value.add_(torch.randn(value.shape, generator=generator) * 0.1)
    policy.model.double()
    branches = [tuple(Branch(choice, (True,) * len(choice)) for choice in question.choices) for question in questions]
    batch = pack_one(
        [
            Sample("a", policy.virtual_ids + question.context, some)
            for question, some in zip(questions, branches, strict=True)
        ]
    )
    with torch.no_grad():
        logprob_N = policy.scores(batch).logprob_N
    expected_S = logprob_N.new_zeros(batch.sequences).index_add(0, batch.sequence_N, logprob_N)
    scores = choice_scores(policy, questions, LikelihoodSettings(token_budget=100))
    found = [one.logprob for some in scores for one in some]
    assert (torch.tensor(found, dtype=torch.float64) - expected_S).abs().max() <= 1e-10
    assert abs(found[0] - before[0][0].logprob) > 1e-3


def test_a_text_is_predicted_once_token_by_token_in_windows() -> None:
    source = random.Random(0)
    for length in range(1, 6):
        for count in range(14):
            text = ids(source, count)
            windows = rolling_windows(text, 999, length)
            assert tuple(token for _, continuation in windows for token in continuation) == text
            assert all(len(context) >= 1 for context, _ in windows)
            assert all(len(context) + len(continuation) - 1 == min(length, count) for context, continuation in windows)


def test_rolling_equals_the_sum_of_its_windows() -> None:
    first = EXACT.tokenizer.eos_token_id
    text = ids(random.Random(3), 23)
    whole, cut, empty = rolling_log_likelihoods(EXACT, [text, text[:7], ()], LikelihoodSettings(max_length=10))
    pairs = [((first,), text[:10]), (text[9:10], text[10:20]), (text[12:20], text[20:])]
    expected = plain(EXACT, pairs)
    assert abs(whole.logprob - sum(logprob for logprob, _ in expected)) <= 1e-10
    assert whole.tokens == 23
    assert whole.perplexity == pytest.approx(math.exp(-whole.logprob / 23))
    assert abs(cut.logprob - plain(EXACT, [((first,), text[:7])])[0][0]) <= 1e-10
    assert (empty.logprob, empty.tokens, empty.perplexity) == (0.0, 0, None)


def test_most_likely_by_logprob_by_length_and_of_equals_the_first() -> None:
    scores = [Likelihood(logprob, False, 1) for logprob in (-4.0, -3.0, -3.0)]
    assert most_likely(scores) == 1
    assert most_likely(scores, [8, 3, 4]) == 0


def test_nothing_asked_nothing_answered() -> None:
    assert choice_scores(EXACT, []) == []
    assert log_likelihoods(EXACT, []) == []
    assert rolling_log_likelihoods(EXACT, []) == []


def test_progress_ends_at_the_number_of_pairs() -> None:
    heard: list[tuple[int, int]] = []
    log_likelihoods(EXACT, flat(some_questions()), LikelihoodSettings(token_budget=100), lambda *at: heard.append(at))
    counts = [done for done, _ in heard]
    assert counts == sorted(counts)
    assert len(counts) > 1
    assert heard[-1] == (len(flat(some_questions())),) * 2


@pytest.mark.parametrize(
    ("question", "chosen", "problem"),
    [
        (Question((), ((1,),)), LikelihoodSettings(), "question 0, choice 0: has an empty context"),
        (Question((1,), ((1,), ())), LikelihoodSettings(), "question 0, choice 1: has no tokens to score"),
        (Question((1,), ()), LikelihoodSettings(), "question 0: has no choices"),
        (Question((1,) * 9, ((1, 2),)), LikelihoodSettings(max_length=9), "10 tokens to read, and the model reads 9"),
        (Question((1,) * 3000, ((1, 2),)), LikelihoodSettings(), "3001 tokens to read, and the model reads 2048"),
        (Question((1,), ((1,) * 9,)), LikelihoodSettings(max_length=8, truncate=True), "9 tokens to score"),
        (Question((1,), ((1,),)), LikelihoodSettings(token_budget=0), "token_budget: 0 is out of range"),
    ],
)  # fmt: skip
def test_unusable_questions_are_named(question: Question, chosen: LikelihoodSettings, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        choice_scores(EXACT, [question], chosen)


def test_the_longest_sequence_that_fits_is_scored() -> None:
    pairs = [((1,) * 8, (1, 2))]
    assert log_likelihoods(EXACT, pairs, LikelihoodSettings(max_length=9)) == log_likelihoods(EXACT, pairs)


def test_virtual_tokens_take_room_of_the_longest_sequence() -> None:
    policy = tiny("0.1m")
    choose_trainable(policy, TrainableSettings("prompt", virtual_tokens=4))
    log_likelihoods(policy, [((1,) * 5, (1, 2))], LikelihoodSettings(max_length=10))
    with pytest.raises(UsageError, match="7 tokens to read, and the model reads 6"):
        log_likelihoods(policy, [((1,) * 6, (1, 2))], LikelihoodSettings(max_length=10))
