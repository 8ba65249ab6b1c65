"""Generation against transformers, sampler log-probs against the trainer, draws independent of the batch."""

from __future__ import annotations

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.samples import Branch, Sample
from trimpot.core.tensors import pack_one
from trimpot.models.tiny import tiny
from trimpot.rollout import engine
from trimpot.rollout.engine import SamplingSettings, generate

PROMPTS = [(5, 6, 7), (9,), (11, 12, 13, 14, 15, 16, 17), (20, 21)]


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma", "gpt2", "mistral"])
def test_sampler_logprobs_equal_the_trainers(architecture: str) -> None:
    policy = tiny("0.1m", architecture)
    groups = generate(policy, PROMPTS, 3, SamplingSettings(0.8, 12), seed=1)
    samples = [
        Sample(str(i), PROMPTS[i], tuple(Branch(tuple(one.ids), (True,) * len(one.ids)) for one in group))
        for i, group in enumerate(groups)
    ]
    expected = policy.scores(pack_one(samples), temperature=0.8).logprob_N
    sampled = torch.tensor([value for group in groups for one in group for value in one.logprobs])
    assert (sampled - expected).abs().max() <= 1e-4


def test_sliding_window_in_the_cache() -> None:
    policy = tiny("0.1m", "mistral", sliding_window=4)
    group = generate(policy, [PROMPTS[2]], 2, SamplingSettings(1.0, 9), seed=1)[0]
    sample = Sample("a", PROMPTS[2], tuple(Branch(tuple(one.ids), (True,) * len(one.ids)) for one in group))
    expected = policy.scores(pack_one([sample])).logprob_N
    assert (torch.tensor([v for one in group for v in one.logprobs]) - expected).abs().max() <= 1e-4


def test_greedy_equals_transformers_generate() -> None:
    policy = tiny("0.5m")
    ours = [group[0].ids for group in generate(policy, PROMPTS, 1, SamplingSettings(0.0, 10), seed=0)]
    policy.model.set_attn_implementation("sdpa")
    for prompt, ids in zip(PROMPTS, ours, strict=True):
        stock = policy.model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=10)
        assert stock[0, len(prompt) :].tolist() == ids


def test_draws_do_not_depend_on_the_wave_or_the_other_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, settings = tiny("0.1m"), SamplingSettings(1.0, 8)
    whole = generate(policy, PROMPTS, 2, settings, seed=3)
    monkeypatch.setattr(engine, "ROWS_AT_ONCE", 2)
    waves = generate(policy, PROMPTS, 2, settings, seed=3)
    assert [[one.ids for one in group] for group in whole] == [[one.ids for one in group] for group in waves]
    assert generate(policy, PROMPTS[:1], 2, settings, seed=3)[0][1].ids == whole[0][1].ids
    assert generate(policy, PROMPTS, 2, settings, seed=4)[0][0].ids != whole[0][0].ids


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
