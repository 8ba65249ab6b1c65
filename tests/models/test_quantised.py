"""QLoRA on the CPU: NF4 within its error, gradients through 4-bit layers, a frozen base, an exact export."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from trimpot.core.errors import UsageError
from trimpot.core.samples import Branch, Sample
from trimpot.core.tensors import pack_one
from trimpot.models import load, quantised, reward
from trimpot.models.adapters import TrainableSettings, choose_trainable
from trimpot.models.export import export
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny

BATCH = pack_one([Sample("a", (1, 2, 3), (Branch((4, 5), (True, True)), Branch((6,), (True,))))])
QLORA = TrainableSettings("lora", lora_rank=4, quantise="nf4")
LARGEST_GAP = 0.5 * (1.0 - 0.6961928009986877)
"""Half the widest distance between two neighbouring NF4 levels, −1 and −0.696 (arXiv 2305.14314, appendix E)."""


def four_bit_layers(policy: Policy) -> dict[str, Linear4bit]:
    layers = {name: module for name, module in policy.model.named_modules() if isinstance(module, Linear4bit)}
    return {name.replace(".base_layer", ""): layer for name, layer in layers.items()}


def train(policy: Policy, steps: int) -> list[float]:
    optimizer, losses = torch.optim.AdamW(policy.trainable().values(), lr=1e-2), []
    for _ in range(steps):
        loss = -policy.scores(BATCH).logprob_N.mean()
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return losses


def test_weights_are_within_the_error_of_nf4() -> None:
    policy, base = tiny(), tiny()
    choose_trainable(policy, QLORA)
    layers = four_bit_layers(policy)
    assert len(layers) == 14
    assert type(policy.model.get_output_embeddings()) is torch.nn.Linear
    for name, layer in layers.items():
        original = base.model.get_submodule(name).weight.detach()
        found = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        largest = original.flatten().view(-1, 64).abs().amax(1, keepdim=True)
        error = (found - original).flatten().view(-1, 64).abs() / largest
        # The blocks' scales are 8-bit numbers themselves, which adds a little.
        assert error.max() <= LARGEST_GAP + 0.02
        assert 0.02 < error.mean() < 0.08


def test_four_bits_are_a_quarter_of_sixteen() -> None:
    policy = tiny("1m")
    choose_trainable(policy, QLORA)
    packed = whole = 0
    for layer in four_bit_layers(policy).values():
        state = layer.weight.quant_state
        packed += layer.weight.data.nbytes + state.absmax.nbytes + state.state2.absmax.nbytes
        whole += 2 * layer.in_features * layer.out_features
    assert 0.25 < packed / whole < 0.26


@pytest.mark.parametrize("dora", [False, True])
def test_a_few_steps_lower_the_loss_and_leave_the_base(dora: bool) -> None:
    policy = tiny()
    choose_trainable(policy, TrainableSettings("lora", lora_rank=4, quantise="nf4", dora=dora))
    assert all("lora_" in name for name in policy.trainable())
    frozen = {name: value.clone() for name, value in policy.model.state_dict().items() if "lora_" not in name}
    losses = train(policy, 8)
    assert losses[-1] < losses[0] - 0.3
    for name, value in policy.model.state_dict().items():
        assert name not in frozen or torch.equal(value, frozen[name]), name


def test_a_pass_without_gradients_changes_neither_weights_nor_gradients() -> None:
    """bitsandbytes repacks weights for AVX512-BF16 in such a pass, and then lets no gradient through."""
    policy = tiny("1m", intermediate_size=352)  # a size that it can repack
    choose_trainable(policy, QLORA)

    def gradients() -> list[torch.Tensor]:
        return list(torch.autograd.grad(policy.scores(BATCH).logprob_N.sum(), list(policy.trainable().values())))

    with torch.no_grad():
        for name, value in policy.trainable().items():
            if "lora_B" in name:
                value.fill_(0.02)
    before, scores = gradients(), policy.scores(BATCH).logprob_N
    with torch.no_grad(), policy.adapters_off():
        policy.scores(BATCH)
    assert all(torch.equal(one, other) for one, other in zip(before, gradients(), strict=True))
    assert torch.equal(policy.scores(BATCH).logprob_N, scores)
    assert all(bool(gradient.abs().sum() > 0) for gradient in before)


@pytest.mark.parametrize("dora", [False, True])
def test_export_merges_at_full_width(tmp_path: Path, dora: bool) -> None:
    policy = tiny()
    unquantised = policy.scores(BATCH).logprob_N.detach()
    choose_trainable(policy, TrainableSettings("lora", lora_rank=4, quantise="nf4", dora=dora))
    train(policy, 4)
    with policy.adapters_off():
        base = policy.scores(BATCH).logprob_N.detach()
    assert 1e-4 < (base - unquantised).abs().max() < 0.2
    after = policy.scores(BATCH).logprob_N.detach()
    export(policy, tmp_path / "model")
    assert policy.adapters is None
    assert not quantised.is_quantised(policy.model)
    assert not four_bit_layers(policy)
    again = load(str(tmp_path / "model"))
    assert (again.scores(BATCH).logprob_N - after).abs().max() <= 1e-4
    assert again.weights_hash() == policy.weights_hash()
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        logprobs = plain(torch.tensor([[1, 2, 3, 4, 5]])).logits[0].log_softmax(-1)
    assert abs(float(logprobs[2, 4] - after[0])) <= 1e-4
    choose_trainable(policy, QLORA)
    assert len(four_bit_layers(policy)) == 14


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_virtual_tokens_train_on_a_four_bit_base(tmp_path: Path, kind: str) -> None:
    policy = tiny()
    choose_trainable(policy, TrainableSettings(kind, virtual_tokens=3, quantise="nf4"))
    assert list(policy.trainable()) == [f"virtual_tokens.{kind}"]
    batch = pack_one([Sample("a", (*policy.virtual_ids, 1, 2), (Branch((4, 5), (True, True)),))])
    policy.scores(batch).logprob_N.sum().backward()
    assert next(iter(policy.trainable().values())).grad.abs().sum() > 0
    after = policy.scores(batch).logprob_N.detach()
    frozen = Policy(copy.deepcopy(policy.model).requires_grad_(False), policy.tokenizer, policy.name)
    assert torch.equal(frozen.scores(batch).logprob_N, after)
    export(policy, tmp_path / "model")
    assert (load(str(tmp_path / "model")).scores(batch).logprob_N - after).abs().max() <= 1e-4


def test_a_reward_model_trains_on_a_four_bit_trunk(tmp_path: Path) -> None:
    judge = reward.from_policy(tiny())
    choose_trainable(judge, QLORA)
    assert "score.weight" in judge.trainable()
    optimizer = torch.optim.AdamW(judge.trainable().values(), lr=1e-2)
    for _ in range(3):
        rewards = judge.rewards(BATCH)
        (rewards[1] - rewards[0]).backward()
        optimizer.step()
        optimizer.zero_grad()
    rewards = judge.rewards(BATCH).detach()
    assert rewards[0] > rewards[1]
    export(judge, tmp_path / "judge")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "judge")
    assert abs(float(plain(torch.tensor([[1, 2, 3, 4, 5]])).logits[0, 0] - rewards[0])) <= 1e-4


def test_what_cannot_be_quantised_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"gpt2: has no torch\.nn\.Linear"):
        choose_trainable(tiny("0.1m", "gpt2"), QLORA)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UsageError, match="pip install bitsandbytes"):
        choose_trainable(tiny(), QLORA)
