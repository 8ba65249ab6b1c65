"""Generation against transformers, sampler log-probs against the trainer, draws independent of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from trimpot.core.errors import UsageError
from trimpot.core.samples import Branch, Sample
from trimpot.core.tensors import pack_one
from trimpot.models.adapters import TrainableSettings, choose_trainable
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny
from trimpot.rollout import engine
from trimpot.rollout.cache import DecodeCache
from trimpot.rollout.engine import Completion, generate
from trimpot.rollout.packed import packed_weights
from trimpot.rollout.sampling import SamplingSettings

PROMPTS = [(5, 6, 7), (9,), (11, 12, 13, 14, 15, 16, 17), (20, 21)]


LONG = [tuple(5 + (7 * i + 3 * n) % 200 for i in range(n)) for n in (1, 60, 3, 21, 40, 2, 9)]
"""Prompts of very different lengths."""


def sampled_and_scored(policy: Policy, prompts: Sequence[tuple[int, ...]], groups: list[list[Completion]]) -> Tensor:
    """|sampler's log-prob − trainer's| of every sampled token."""
    samples = [
        Sample(str(i), prompts[i], tuple(Branch(tuple(one.ids), (True,) * len(one.ids)) for one in group))
        for i, group in enumerate(groups)
    ]
    expected = policy.scores(pack_one(samples)).logprob_N.detach()
    return (torch.tensor([value for group in groups for one in group for value in one.logprobs]) - expected).abs()


def ids_of(groups: list[list[Completion]]) -> list[list[list[int]]]:
    return [[one.ids for one in group] for group in groups]


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few rows that prompts are admitted while others decode, and rows and prompts leave in between."""
    monkeypatch.setattr(engine, "ROWS_AT_ONCE", 5)
    monkeypatch.setattr(engine, "ADMIT_FROM", 2)
    monkeypatch.setattr(engine, "PREFILL_TOKENS", 64)


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are packed however little work there is."""
    monkeypatch.setattr(engine, "PACK_FROM", 0)


@pytest.fixture
def never_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "end_tokens", lambda _: set())


@pytest.fixture
def often_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    """About one token in ten ends a completion."""
    monkeypatch.setattr(engine, "end_tokens", lambda _: set(range(24)))


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "gemma", "gpt2", "mistral"])
def test_sampler_logprobs_equal_the_trainers(architecture: str) -> None:
    policy = tiny("0.1m", architecture)
    groups = generate(policy, PROMPTS, 3, SamplingSettings(1.0, 12), seed=1)
    assert sampled_and_scored(policy, PROMPTS, groups).max() <= 1e-5


@pytest.mark.usefixtures("packed", "few_at_once", "often_ending")
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2"])
def test_sampler_logprobs_equal_the_trainers_on_packed_weights(architecture: str) -> None:
    policy = tiny("0.1m", architecture)
    groups = generate(policy, LONG, 3, SamplingSettings(1.0, 30), seed=1)
    assert sampled_and_scored(policy, LONG, groups).max() <= 1e-5


@pytest.mark.usefixtures("few_at_once", "often_ending")
@pytest.mark.parametrize("window", [1, 4, 16, 100])
def test_sliding_window_in_the_cache(window: int) -> None:
    policy = tiny("0.1m", "mistral", sliding_window=window)
    groups = generate(policy, LONG, 2, SamplingSettings(1.0, 20), seed=1)
    assert sampled_and_scored(policy, LONG, groups).max() <= 1e-5


def test_temperature_is_the_trainers() -> None:
    policy = tiny("0.1m")
    groups = generate(policy, PROMPTS, 1, SamplingSettings(0.8, 12), seed=1)
    samples = [
        Sample(str(i), PROMPTS[i], (Branch(tuple(one.ids), (True,) * len(one.ids)),)) for i, (one,) in enumerate(groups)
    ]
    scores = policy.scores(pack_one(samples), temperature=0.8)
    ours = [
        (logprob, entropy) for (one,) in groups for logprob, entropy in zip(one.logprobs, one.entropies, strict=True)
    ]
    theirs = torch.stack([scores.logprob_N, scores.entropy_N], dim=1)
    assert (torch.tensor(ours) - theirs).abs().max() <= 1e-5


@pytest.mark.usefixtures("packed", "few_at_once")
@pytest.mark.parametrize("dora", [False, True])
def test_adapters_are_sampled_with(dora: bool) -> None:
    policy = tiny("0.1m")
    choose_trainable(policy, TrainableSettings("lora", lora_rank=4, dora=dora))
    bare = generate(policy, LONG, 2, SamplingSettings(1.0, 12), seed=1)
    with torch.no_grad():
        for name, value in policy.trainable().items():
            if "lora_B" in name:
                value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(0)))
    groups = generate(policy, LONG, 2, SamplingSettings(1.0, 12), seed=1)
    assert ids_of(groups) != ids_of(bare)
    assert sampled_and_scored(policy, LONG, groups).max() <= 1e-5
    with policy.adapters_off():
        assert ids_of(generate(policy, LONG, 2, SamplingSettings(1.0, 12), seed=1)) == ids_of(bare)


@pytest.mark.usefixtures("packed", "few_at_once")
def test_weights_in_half_precision() -> None:
    policy = tiny("0.1m")
    policy.model.to(torch.bfloat16)
    groups = generate(policy, LONG, 2, SamplingSettings(1.0, 12), seed=1)
    # bfloat16 has 8 bits: the trainer's own log-probs are this far from those in fp32.
    assert sampled_and_scored(policy, LONG, groups).max() <= 0.05


@pytest.mark.usefixtures("packed")
def test_packed_weights_are_those_of_the_moment_and_leave_no_trace() -> None:
    policy = tiny("0.1m")
    before = generate(policy, PROMPTS, 2, SamplingSettings(1.0, 12), seed=1)
    with torch.no_grad():
        for value in policy.model.parameters():
            value.mul_(1.3)
    groups = generate(policy, PROMPTS, 2, SamplingSettings(1.0, 12), seed=1)
    assert ids_of(groups) != ids_of(before)
    assert sampled_and_scored(policy, PROMPTS, groups).max() <= 1e-5
    linear = [module for module in policy.model.modules() if isinstance(module, torch.nn.Linear)]
    assert linear
    assert all("forward" not in vars(module) for module in linear)


def test_other_forwards_of_linear_layers_are_not_packed() -> None:
    policy = tiny("0.1m")
    layer = next(module for module in policy.model.base_model.modules() if type(module) is torch.nn.Linear)
    calls = []
    layer.forward = lambda inputs: (calls.append(1), torch.nn.functional.linear(inputs, layer.weight))[1]
    with packed_weights(policy, True):
        policy.hidden(torch.tensor([1, 2]), torch.tensor([0, 1]), DecodeCache([2], [1], 1, policy.device))
    assert calls


def test_greedy_equals_transformers_generate() -> None:
    policy = tiny("0.5m")
    ours = [group[0].ids for group in generate(policy, PROMPTS, 1, SamplingSettings(0.0, 10), seed=0)]
    policy.model.set_attn_implementation("sdpa")
    for prompt, ids in zip(PROMPTS, ours, strict=True):
        stock = policy.model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=10)
        assert stock[0, len(prompt) :].tolist() == ids


@pytest.mark.usefixtures("packed", "often_ending")
@pytest.mark.parametrize("capacity", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("prefill", [1, 50, 10_000])
def test_draws_do_not_depend_on_the_batch(capacity: int, prefill: int, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, settings = tiny("0.1m"), SamplingSettings(1.0, 25)
    whole = generate(policy, LONG, 3, settings, seed=3)
    assert len({len(one.ids) for group in whole for one in group}) > 3
    monkeypatch.setattr(engine, "ROWS_AT_ONCE", capacity)
    monkeypatch.setattr(engine, "ADMIT_FROM", 2)
    monkeypatch.setattr(engine, "PREFILL_TOKENS", prefill)
    monkeypatch.setattr(engine, "PACK_FROM", 10**9)
    assert ids_of(generate(policy, LONG, 3, settings, seed=3)) == ids_of(whole)


def test_draws_do_not_depend_on_the_other_prompts_and_follow_the_seed() -> None:
    policy, settings = tiny("0.1m"), SamplingSettings(1.0, 8)
    whole = generate(policy, PROMPTS, 2, settings, seed=3)
    assert generate(policy, PROMPTS[:1], 2, settings, seed=3)[0][1].ids == whole[0][1].ids
    assert generate(policy, PROMPTS[2:], 2, settings, seed=3, names=[2, 3])[0][0].ids == whole[2][0].ids
    assert generate(policy, PROMPTS, 2, settings, seed=4)[0][0].ids != whole[0][0].ids


def passes(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Fills with the number of tokens of every forward pass from now on."""
    tokens: list[int] = []
    hidden = type(policy).hidden

    def counted(self: Policy, ids_T: Tensor, *others: Any) -> Tensor:
        tokens.append(len(ids_T))
        return hidden(self, ids_T, *others)

    monkeypatch.setattr(type(policy), "hidden", counted)
    return tokens


@pytest.mark.usefixtures("never_ending")
def test_a_prompt_is_prefilled_once_however_often_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tiny("0.1m")
    prompts = [LONG[1], LONG[3], LONG[1], LONG[1]]
    tokens = passes(policy, monkeypatch)
    groups = generate(policy, prompts, 2, SamplingSettings(1.0, 4), seed=0)
    assert tokens == [len(LONG[1]) + len(LONG[3]), 8, 8, 8]
    assert len({tuple(one.ids) for group in groups for one in group}) == 8
    assert ids_of(groups[2:3]) == ids_of(generate(policy, prompts[2:3], 2, SamplingSettings(1.0, 4), 0, names=[2]))


@pytest.mark.usefixtures("never_ending")
def test_prompts_are_admitted_while_others_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tiny("0.1m")
    monkeypatch.setattr(engine, "PREFILL_TOKENS", 65)
    tokens = passes(policy, monkeypatch)
    generate(policy, LONG, 1, SamplingSettings(1.0, 4), seed=0)
    # By length: 60 alone, 40 and 21 (beside the first's row), then 9, 3, 2 and 1.
    assert tokens == [60, 1 + 61, 3 + 15, 7, 6, 4]


@pytest.mark.usefixtures("never_ending")
def test_no_more_rows_than_the_capacity_except_for_a_large_group(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tiny("0.1m")
    monkeypatch.setattr(engine, "ROWS_AT_ONCE", 6)
    tokens = passes(policy, monkeypatch)
    generate(policy, PROMPTS, 2, SamplingSettings(1.0, 3), seed=0)
    assert max(tokens[1:3]) == 6
    tokens.clear()
    groups = generate(policy, PROMPTS[:2], 9, SamplingSettings(1.0, 3), seed=0)
    assert tokens == [3, 9, 9, 1, 9, 9]
    assert [len(one.ids) for group in groups for one in group] == [3] * 18


@pytest.mark.usefixtures("few_at_once")
def test_one_token_needs_the_prefill_only(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tiny("0.1m")
    tokens = passes(policy, monkeypatch)
    groups = generate(policy, PROMPTS, 2, SamplingSettings(1.0, 1), seed=0)
    assert sum(tokens) == sum(map(len, PROMPTS))
    assert all(len(one.ids) == 1 for group in groups for one in group)


def test_all_rows_may_end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tiny("0.1m")
    monkeypatch.setattr(engine, "end_tokens", lambda _: set(range(1000)))
    tokens = passes(policy, monkeypatch)
    groups = generate(policy, PROMPTS, 3, SamplingSettings(1.0, 9), seed=0)
    assert len(tokens) == 1
    assert all(one.finished and len(one.ids) == 1 for group in groups for one in group)


@pytest.mark.usefixtures("few_at_once", "often_ending")
def test_progress_hears_every_pass_up_to_the_end() -> None:
    heard: list[tuple[int, int]] = []
    generate(
        tiny("0.1m"),
        LONG,
        2,
        SamplingSettings(1.0, 12),
        0,
        lambda done, total: heard.append((done, total)),
    )
    done = [one for one, _ in heard]
    assert done == sorted(done)
    assert heard[-1] == (14, 14)
    assert {total for _, total in heard} == {14}


def test_nothing_to_do() -> None:
    policy = tiny("0.1m")
    assert generate(policy, [], 4, SamplingSettings(), seed=0) == []
    assert generate(policy, PROMPTS, 0, SamplingSettings(), seed=0) == [[], [], [], []]


def test_a_completion_ends_with_its_end_token_and_only_there() -> None:
    policy = tiny("0.1m")
    weight = policy.model.get_output_embeddings().weight
    end = policy.tokenizer.eos_token_id
    with torch.no_grad():
        weight[end] = weight[:200].mean(0) * 3
    done = [one for group in generate(policy, PROMPTS, 8, SamplingSettings(2.0, 30), seed=0) for one in group]
    assert any(one.finished for one in done)
    assert all(one.finished == (one.ids[-1] == end) for one in done)
    assert all(end not in one.ids[:-1] for one in done)
    assert all(len(one.ids) == 30 for one in done if not one.finished)


def test_unusable_prompts_are_named() -> None:
    policy = tiny("0.1m")
    with pytest.raises(UsageError, match="empty"):
        generate(policy, [()], 1, SamplingSettings(1.0, 4), 0)
    with pytest.raises(UsageError, match="context"):
        generate(policy, [(1,) * 2046], 1, SamplingSettings(1.0, 4), 0)
