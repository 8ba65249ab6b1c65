"""Prompt and prefix tuning: the packed forward, generation and exported folders against peft itself."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM

from trimpot.core.errors import UsageError
from trimpot.core.samples import Branch, Sample
from trimpot.core.tensors import Batch, pack_one
from trimpot.models import load, virtual_tokens
from trimpot.models.adapters import TrainableSettings, choose_trainable
from trimpot.models.export import export
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny
from trimpot.rollout.engine import generate
from trimpot.rollout.sampling import SamplingSettings

ARCHITECTURES = ["llama", "qwen3", "gemma", "gpt2", "mistral"]
KINDS = ["prompt", "prefix"]
SAMPLES = [
    ((7, 8, 9), ((10, 11, 12, 13), (14, 15))),
    ((20,), ((21, 22),)),
    ((30, 31), ((32, 33, 34), (35,), (36, 37))),
]


def tuned(kind: str, architecture: str = "llama", count: int = 5, seed: int = 0, noise: float = 0.3) -> Policy:
    policy = tiny("0.1m", architecture)
    choose_trainable(policy, TrainableSettings(kind, virtual_tokens=count), seed)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in policy.trainable().values():
            value.add_(torch.randn(value.shape, generator=generator) * noise * value.std())
    return policy


def batch_for(policy: Policy) -> Batch:
    lead = policy.virtual_ids
    return pack_one([
        Sample(str(number), lead + prompt, tuple(Branch(answer, (True,) * len(answer)) for answer in answers))
        for number, (prompt, answers) in enumerate(SAMPLES)
    ])  # fmt: skip


def logprobs_of(model: torch.nn.Module, drop: int) -> torch.Tensor:
    """Log-probs of the answers, every sequence on its own; ``drop`` logits in front belong to virtual tokens."""
    found = []
    for prompt, answers in SAMPLES:
        for answer in answers:
            ids = torch.tensor([prompt + answer])
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, drop:].log_softmax(-1)
            found += [logits[len(prompt) + place - 1, token] for place, token in enumerate(answer)]
    return torch.stack(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_exported_virtual_tokens_are_pefts(tmp_path: Path, kind: str, architecture: str) -> None:
    policy = tuned(kind, architecture)
    ours = policy.scores(batch_for(policy)).logprob_N.detach()
    export(policy, tmp_path / "model")
    again = load(str(tmp_path / "model"))
    assert again.virtual_ids == policy.virtual_ids
    assert again.weights_hash() == policy.weights_hash()
    assert torch.equal(again.scores(batch_for(again)).logprob_N, ours)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    without = logprobs_of(base, 0)
    peft = PeftModel.from_pretrained(base, str(tmp_path / "model" / "virtual_tokens")).eval()
    theirs = logprobs_of(peft, len(policy.virtual_ids) if kind == "prompt" else 0)
    assert (theirs - ours).abs().max() <= 1e-4
    assert (theirs - without).abs().max() > 1e-2


def test_the_written_folder_names_its_base(tmp_path: Path) -> None:
    policy = tuned("prefix")
    export(policy, tmp_path / "model")
    peft = AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "model" / "virtual_tokens")).eval()
    assert (logprobs_of(peft, 0) - policy.scores(batch_for(policy)).logprob_N).abs().max() <= 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_start_the_model_reads_words_of_its_vocabulary(kind: str) -> None:
    policy = tiny()
    choose_trainable(policy, TrainableSettings(kind, virtual_tokens=4), seed=5)
    found = policy.scores(batch_for(policy)).logprob_N
    embedded = policy.model.get_input_embeddings().weight
    other = tiny()
    choose_trainable(other, TrainableSettings("prompt", virtual_tokens=4), seed=5)
    words = [int((embedded == row).all(1).nonzero()) for row in other.trainable()["virtual_tokens.prompt"]]
    special = policy.tokenizer.all_special_ids
    assert not set(words) & set(special)
    plain = pack_one([
        Sample(str(number), tuple(words) + prompt, tuple(Branch(answer, (True,) * len(answer)) for answer in answers))
        for number, (prompt, answers) in enumerate(SAMPLES)
    ])  # fmt: skip
    assert (tiny().scores(plain).logprob_N - found).abs().max() <= 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_only_virtual_tokens_train_and_the_loss_falls(kind: str) -> None:
    policy = tiny()
    choose_trainable(policy, TrainableSettings(kind, virtual_tokens=6))
    assert list(policy.trainable()) == [f"virtual_tokens.{kind}"]
    base = {name: value.clone() for name, value in policy.model.state_dict().items()}
    batch, optimizer, losses = batch_for(policy), torch.optim.AdamW(policy.trainable().values(), lr=0.05), []
    for _ in range(12):
        loss = -policy.scores(batch).logprob_N.mean()
        losses.append(loss.item())
        loss.backward()
        (gradient,) = (value.grad for value in policy.trainable().values())
        assert bool((gradient.flatten(1).abs().sum(1) > 0).all())
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0] - 0.1
    changed = [name for name, value in policy.model.state_dict().items() if not torch.equal(value, base[name])]
    assert changed == [f"virtual_tokens.{kind}"]


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind: str) -> None:
    # GPT-2, as Llama's norms compute in float32 whatever they are given.
    policy = tuned(kind, "gpt2", count=2)
    policy.model.double()
    batch = batch_for(policy)
    (parameter,) = policy.trainable().values()
    (gradient,) = torch.autograd.grad(policy.scores(batch).logprob_N.sum(), [parameter])
    direction = torch.randn(parameter.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        sides = []
        for step in (1e-6, -2e-6):
            parameter.add_(direction, alpha=step)
            sides.append(policy.scores(batch).logprob_N.sum())
    assert float((sides[0] - sides[1]) / 2e-6) == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_generation_samples_from_what_the_trainer_scores(kind: str) -> None:
    policy = tuned(kind, noise=2.0)
    prompts = [policy.virtual_ids + prompt for prompt, _ in SAMPLES]
    groups = generate(policy, prompts, 2, SamplingSettings(1.0, 6), seed=0)
    samples = [
        Sample(str(number), prompt, tuple(Branch(tuple(one.ids), (True,) * len(one.ids)) for one in group))
        for number, (prompt, group) in enumerate(zip(prompts, groups, strict=True))
    ]
    drawn = torch.tensor([logprob for group in groups for one in group for logprob in one.logprobs])
    assert (policy.scores(pack_one(samples)).logprob_N - drawn).abs().max() <= 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_keeps_its_virtual_tokens_and_stays(kind: str) -> None:
    policy = tuned(kind)
    frozen = Policy(copy.deepcopy(policy.model).requires_grad_(False), policy.tokenizer, policy.name)
    before = policy.scores(batch_for(policy)).logprob_N.detach()
    hashed = policy.weights_hash()
    with torch.no_grad():
        next(iter(policy.trainable().values())).mul_(2)
    assert policy.weights_hash() != hashed == frozen.weights_hash()
    assert torch.equal(frozen.scores(batch_for(frozen)).logprob_N, before)
    assert (policy.scores(batch_for(policy)).logprob_N - before).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_later_stages_go_on_with_virtual_tokens(tmp_path: Path, kind: str) -> None:
    policy = tuned(kind)
    before = policy.scores(batch_for(policy)).logprob_N.detach()
    export(policy, tmp_path / "one")
    with pytest.raises(UsageError, match="already has 5 virtual tokens"):
        choose_trainable(policy, TrainableSettings(kind, virtual_tokens=6))
    choose_trainable(policy, TrainableSettings(kind, virtual_tokens=5))
    assert torch.equal(policy.scores(batch_for(policy)).logprob_N, before)
    choose_trainable(policy, TrainableSettings("lora", lora_rank=2))
    assert all("lora_" in name for name in policy.trainable())
    with torch.no_grad():
        for name, value in policy.trainable().items():
            if "lora_B" in name:
                value.fill_(0.05)
    after = policy.scores(batch_for(policy)).logprob_N.detach()
    with policy.adapters_off():
        assert torch.equal(policy.scores(batch_for(policy)).logprob_N, before)
    export(policy, tmp_path / "two")
    again = load(str(tmp_path / "two"))
    assert (again.scores(batch_for(again)).logprob_N - after).abs().max() <= 1e-5
    choose_trainable(again, TrainableSettings("all"))
    assert f"virtual_tokens.{kind}" in again.trainable()


def test_initial_virtual_tokens_follow_the_seed() -> None:
    one, same, other = (tuned("prefix", seed=seed) for seed in (1, 1, 2))
    assert one.weights_hash() == same.weights_hash() != other.weights_hash()


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_without_its_virtual_tokens_is_refused(kind: str) -> None:
    policy = tuned(kind)
    first = policy.virtual_ids[0]
    answer = (Branch((4,), (True,)),)
    for prefix in ((1, 2, 3, 4, 5, 6), (*policy.virtual_ids[1:], 1, 2), (*policy.virtual_ids, first, 1), (1, 2)):
        with pytest.raises(ValueError, match="must open with the virtual tokens"):
            policy.scores(pack_one([Sample("a", prefix, answer)]))


def test_prefix_tuning_predicts_nothing_from_a_virtual_token() -> None:
    for kind in KINDS:
        policy = tuned(kind)
        batch = pack_one([Sample("a", policy.virtual_ids, (Branch((4, 5), (True, True)),))])
        if kind == "prefix":
            with pytest.raises(ValueError, match="first token untrained"):
                policy.scores(batch)
        else:
            assert bool(policy.scores(batch).logprob_N.isfinite().all())


def test_a_broken_folder_is_named(tmp_path: Path) -> None:
    export(tuned("prompt"), tmp_path / "model")
    config = tmp_path / "model" / virtual_tokens.FOLDER / "adapter_config.json"
    config.write_text(config.read_text().replace("PROMPT_TUNING", "LORA"))
    with pytest.raises(UsageError, match="no virtual tokens for this model"):
        load(str(tmp_path / "model"))
    config.unlink()
    with pytest.raises(UsageError, match="no virtual tokens for this model"):
        load(str(tmp_path / "model"))
