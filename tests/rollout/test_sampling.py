"""Draws against the written-out distribution, against transformers' truncation, and under rounding noise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.generation.logits_process import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from trimpot.core.errors import UsageError
from trimpot.models.tiny import tiny
from trimpot.recipe.schema import build_stage
from trimpot.rollout.engine import generate
from trimpot.rollout.sampling import SamplingSettings, choose

LAST = 1 - 2**-53
"""The largest number that random.random() gives."""
TRUNCATIONS: list[dict[str, Any]] = [
    {"top_k": 5},
    {"top_p": 0.7},
    {"min_p": 0.2},
    {"top_k": 50, "top_p": 0.6},
    {"top_k": 40, "top_p": 0.95, "min_p": 0.1, "temperature": 0.7},
    {"top_p": 0.98, "temperature": 3.0},
    {"top_k": 10**6},
]


def random_logits(rows: int, words: int, seed: int = 0, spread: float = 2.0) -> Tensor:
    return torch.randn(rows, words, generator=torch.Generator().manual_seed(seed)) * spread


def uniforms(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def truncated_by_transformers(logits: Tensor, settings: SamplingSettings) -> Tensor:
    """log q [R, V] by transformers' own warpers, in their order."""
    scores = logits.double() / settings.temperature
    if settings.top_k:
        scores = TopKLogitsWarper(settings.top_k)(None, scores)
    if settings.top_p < 1:
        scores = TopPLogitsWarper(settings.top_p)(None, scores)
    if settings.min_p > 0:
        scores = MinPLogitsWarper(settings.min_p)(None, scores)
    return scores.log_softmax(1)


def test_sampling_follows_the_distribution() -> None:
    share = torch.tensor([0.5, 0.3, 0.2, 0.0])
    tokens, logprobs, entropies = choose(share.log().repeat(4000, 1), uniforms(4000), SamplingSettings())
    counted = torch.bincount(tokens, minlength=4) / 4000
    assert torch.allclose(counted, share, atol=0.03)
    assert counted[3] == 0
    expected = torch.distributions.Categorical(probs=share).entropy()
    assert torch.allclose(entropies, expected, atol=1e-5)
    assert torch.allclose(logprobs.exp(), share[tokens])


def test_sampling_over_many_blocks_follows_the_distribution() -> None:
    logits = random_logits(1, 1000, spread=1.0)
    tokens, _, _ = choose(logits.repeat(60_000, 1), uniforms(60_000), SamplingSettings())
    expected = logits[0].softmax(0) * 60_000
    counted = torch.bincount(tokens, minlength=1000)
    # Chi squared with 999 degrees of freedom: mean 999, standard deviation 45.
    assert ((counted - expected) ** 2 / expected).sum() < 999 + 4 * 45


@pytest.mark.parametrize("words", [128, 300, 1280])
@pytest.mark.parametrize("temperature", [0.0, 0.6, 1.0])
def test_logprob_and_entropy_are_those_of_the_distribution(words: int, temperature: float) -> None:
    logits = random_logits(200, words)
    tokens, logprobs, entropies = choose(logits, uniforms(200), SamplingSettings(temperature))
    exact = (logits.double() / (temperature or 1.0)).log_softmax(1)
    assert (logprobs - exact.gather(1, tokens[:, None])[:, 0]).abs().max() <= 2e-6
    assert (entropies + (exact.exp() * exact).sum(1)).abs().max() <= 1e-5


@pytest.mark.parametrize("given", TRUNCATIONS, ids=str)
def test_truncated_draws_are_those_of_the_renormalised_rest(given: dict[str, Any]) -> None:
    settings, logits = SamplingSettings(**given), random_logits(5, 700, spread=1.5)
    exact = truncated_by_transformers(logits, settings)
    rounds = 800
    tokens, logprobs, entropies = choose(logits.repeat(rounds, 1), uniforms(5 * rounds), settings)
    expected = exact.repeat(rounds, 1).gather(1, tokens[:, None])[:, 0]
    assert (logprobs - expected).abs().max() <= 5e-6
    assert (entropies[:5] + (exact.exp() * exact.clamp_min(-1e9)).sum(1)).abs().max() <= 1e-5
    for row in range(5):
        kept = int(exact[row].isfinite().sum())
        drawn = torch.bincount(tokens[row::5], minlength=700) / rounds
        assert (drawn - exact[row].exp()).abs().max() <= 0.08
        assert kept == 700 or len(tokens[row::5].unique()) <= kept


def test_top_p_holds_more_words_than_it_sorts_at_first() -> None:
    logits = random_logits(3, 5000, spread=0.1)
    settings = SamplingSettings(top_p=0.9)
    tokens, logprobs, _ = choose(logits, uniforms(3), settings)
    exact = truncated_by_transformers(logits, settings)
    assert (logprobs - exact.gather(1, tokens[:, None])[:, 0]).abs().max() <= 5e-6


def test_top_k_of_one_is_the_likeliest_with_certainty() -> None:
    logits = random_logits(20, 300)
    tokens, logprobs, entropies = choose(logits, uniforms(20), SamplingSettings(top_k=1))
    assert torch.equal(tokens, logits.argmax(1))
    assert logprobs.abs().max() <= 1e-6
    assert entropies.abs().max() <= 1e-5


def test_words_as_likely_as_the_last_that_stays_stay() -> None:
    logits = torch.tensor([[2.0, 1.0, 1.0, 0.0]]).repeat(400, 1)
    tokens, logprobs, _ = choose(logits, uniforms(400), SamplingSettings(top_k=2))
    assert set(tokens.tolist()) == {0, 1, 2}
    q = torch.tensor([2.0, 1.0, 1.0]).log_softmax(0)
    assert torch.allclose(logprobs, q[tokens], atol=1e-6)


@pytest.mark.parametrize("words", [4, 128, 259, 1000])
def test_the_ends_of_the_unit_interval_give_words_of_some_probability(words: int) -> None:
    logits = torch.full((2, words), -torch.inf)
    logits[:, 1], logits[:, words - 2] = 0.0, 1.0
    tokens, _, entropies = choose(logits, torch.tensor([0.0, LAST], dtype=torch.float64), SamplingSettings())
    assert tokens.tolist() == [1, words - 2]
    assert entropies.isfinite().all()


def test_no_uniform_number_draws_outside_the_vocabulary() -> None:
    numbers = torch.cat([uniforms(5000), torch.linspace(0, LAST, 5000, dtype=torch.float64)])
    tokens, _, _ = choose(torch.zeros(10_000, 130), numbers, SamplingSettings())
    assert tokens.min() == 0
    assert tokens.max() == 129


def test_greedy_takes_the_first_of_the_likeliest() -> None:
    logits = random_logits(50, 1000)
    logits[0, 130] = logits[0, 700] = logits[0, 701] = 99.0
    tokens, _, _ = choose(logits, uniforms(50), SamplingSettings(0.0, top_k=3))
    assert torch.equal(tokens, logits.argmax(1))
    assert tokens[0] == 130


def test_rounding_noise_hardly_ever_changes_a_draw() -> None:
    """Logits of another batch differ by about 1e-5; draws must be the same in 99.9% of tokens."""
    changed = drawn = 0
    for round_ in range(30):
        logits = random_logits(64, 20_000, round_)
        noise = random_logits(64, 20_000, 1000 + round_, spread=1e-5)
        numbers = uniforms(64, round_)
        first, second = (choose(some, numbers, SamplingSettings())[0] for some in (logits, logits + noise))
        changed, drawn = changed + int((first != second).sum()), drawn + 64
    assert changed <= 0.001 * drawn


def test_logits_are_left_as_they_were() -> None:
    logits = random_logits(3, 300)
    before = logits.clone()
    choose(logits, uniforms(3), SamplingSettings(0.7, top_k=4, top_p=0.9, min_p=0.1))
    assert torch.equal(logits, before)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_p": float("nan")}, "top_p"),
        ({"min_p": -0.1}, "min_p"),
        ({"min_p": 2.0}, "min_p"),
        ({"stop": ["END", ""]}, "stop"),
        ({"stop": "END"}, "stop"),
    ],
)
def test_bad_values_are_named(given: dict[str, Any], field: str) -> None:
    with pytest.raises(UsageError, match=field):
        generate(tiny("0.1m"), [(1, 2)], 1, SamplingSettings(**given), seed=0)
    with pytest.raises(UsageError, match=field):
        build_stage("policy_gradient", "pg", {"data": "rows.jsonl", **given})


def test_a_recipe_may_say_them_all() -> None:
    given = {"top_k": 50, "top_p": 0.9, "min_p": 0.05, "stop": ["\n\n", "Answer:"]}
    settings = build_stage("policy_gradient", "pg", {"data": "rows.jsonl", **given}).get(SamplingSettings)
    assert settings == SamplingSettings(top_k=50, top_p=0.9, min_p=0.05, stop=("\n\n", "Answer:"))


@pytest.mark.parametrize("words", [200, 256])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_diverged_model_gives_nan_and_no_word_outside(words: int, temperature: float) -> None:
    logits = random_logits(2, words)
    logits[1, 3] = float("nan")
    tokens, logprobs, entropies = choose(logits, uniforms(2), SamplingSettings(temperature))
    assert 0 <= int(tokens.min()) <= int(tokens.max()) < words
    assert bool(logprobs[0].isfinite())
    assert bool(logprobs[1].isnan())
    assert bool(entropies[1].isnan())
