"""LoRA's variants and targets, initial values from a named stream, exports that keep what was trained, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from trimpot.core.errors import UsageError
from trimpot.core.samples import Branch, Sample
from trimpot.core.tensors import pack_one
from trimpot.models import load, reward
from trimpot.models.adapters import TrainableSettings, check_trainable, choose_trainable, lora_targets
from trimpot.models.export import export
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny

BATCH = pack_one([Sample("a", (1, 2, 3), (Branch((4, 5), (True, True)), Branch((6,), (True,))))])


def disturb(policy: Policy) -> None:
    """Moves everything that trains, as training would."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in policy.trainable().values():
            value.add_(torch.randn(value.shape, generator=generator) * 0.1)


def steps(policy: Policy, count: int = 5) -> list[float]:
    """The losses of a few steps on one batch."""
    optimizer = torch.optim.AdamW(policy.trainable().values(), lr=1e-2)
    losses = []
    for _ in range(count):
        loss = -policy.scores(BATCH).logprob_N.mean()
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return losses


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize(("dora", "rslora"), [(False, False), (True, False), (False, True), (True, True)])
def test_every_form_of_lora_has_its_reference_and_merges_exactly(
    tmp_path: Path, architecture: str, dora: bool, rslora: bool
) -> None:
    policy = tiny("0.1m", architecture)
    before = policy.scores(BATCH).logprob_N.detach()
    choose_trainable(policy, TrainableSettings("lora", lora_rank=4, dora=dora, rslora=rslora))
    assert torch.allclose(policy.scores(BATCH).logprob_N, before, atol=1e-5)
    assert any("magnitude" in name for name in policy.trainable()) == dora
    disturb(policy)
    after = policy.scores(BATCH).logprob_N.detach()
    assert (after - before).abs().max() > 1e-2
    with policy.adapters_off():
        assert torch.equal(policy.scores(BATCH).logprob_N, before)
    export(policy, tmp_path / "model")
    assert (load(str(tmp_path / "model")).scores(BATCH).logprob_N - after).abs().max() <= 1e-5


def test_rslora_scales_by_the_root_of_the_rank() -> None:
    scalings = []
    for rslora in (False, True):
        policy = tiny()
        choose_trainable(policy, TrainableSettings("lora", lora_rank=4, lora_alpha=8, rslora=rslora))
        found = {module.scaling["default"] for module in policy.model.modules() if hasattr(module, "scaling")
                 and isinstance(module.scaling, dict)}  # fmt: skip
        scalings.append(found)
    assert scalings == [{2.0}, {4.0}]


def test_lora_starts_from_its_named_stream_and_leaves_the_global_generator_alone() -> None:
    def start(seed: int, drawn_before: int) -> dict[str, torch.Tensor]:
        policy = tiny()
        torch.manual_seed(drawn_before)
        state = torch.get_rng_state()
        choose_trainable(policy, TrainableSettings("lora", lora_rank=2), seed)
        assert torch.equal(torch.get_rng_state(), state)
        return policy.trainable()

    one, same, other = start(3, 0), start(3, 1), start(4, 0)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_lora_targets_are_those_named() -> None:
    policy = tiny()
    choose_trainable(policy, TrainableSettings("lora", lora_rank=2, lora_targets="q_proj, v_proj"))
    assert {name.split(".")[-4] for name in policy.trainable()} == {"q_proj", "v_proj"}
    assert lora_targets(tiny(), "layers.1.mlp.up_proj") == ["layers.1.mlp.up_proj"]


@pytest.mark.parametrize("targets", ["q_prj", "q_proj,lm_head", "proj", "", "embed_tokens"])
def test_unknown_targets_are_refused_with_the_names_there_are(targets: str) -> None:
    policy = tiny(tie_word_embeddings=False)
    with pytest.raises(UsageError, match="down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"):
        choose_trainable(policy, TrainableSettings("lora", lora_targets=targets))


def test_a_reward_models_head_trains_itself_without_adapters() -> None:
    judge = reward.from_policy(tiny())
    choose_trainable(judge, TrainableSettings("lora", lora_rank=2))
    assert [name for name in judge.trainable() if "score" in name] == ["score.weight"]


@pytest.mark.parametrize("tied", [True, False])
def test_bug_14_export_keeps_trained_embeddings(tmp_path: Path, tied: bool) -> None:
    """unsloth#3454: trained embeddings and head were left out of the exported folder."""
    policy = tiny(tie_word_embeddings=tied)
    untrained = {name: value.clone() for name, value in policy.model.state_dict().items()}
    choose_trainable(policy, TrainableSettings("all"))
    steps(policy, 2)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert not torch.equal(policy.model.state_dict()[name], untrained[name])
    export(policy, tmp_path / "model")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    for name, value in policy.model.state_dict().items():
        assert torch.equal(plain.state_dict()[name], value), name
    again = load(str(tmp_path / "model"))
    assert again.weights_hash() == policy.weights_hash()
    head, embedding = again.model.get_output_embeddings().weight, again.model.get_input_embeddings().weight
    assert (head is embedding) == tied
    assert torch.equal(head, embedding) == tied


def test_export_of_plain_weights_lets_training_go_on(tmp_path: Path) -> None:
    policy = tiny()
    choose_trainable(policy, TrainableSettings("all"))
    losses = steps(policy, 2)
    export(policy, tmp_path / "model")
    assert steps(policy, 2)[-1] < losses[-1]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (TrainableSettings("all", quantise="nf4"), "quantise"),
        (TrainableSettings("last_k", quantise="nf4"), "quantise"),
        (TrainableSettings("prompt", dora=True), "dora"),
        (TrainableSettings("all", rslora=True), "rslora"),
        (TrainableSettings("prefix", lora_targets="q_proj"), "lora_targets"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: TrainableSettings, field: str) -> None:
    with pytest.raises(UsageError, match=f"^{field}: ") as found:
        choose_trainable(tiny(), settings)
    assert "\n" not in str(found.value)


def test_a_reward_model_has_no_virtual_tokens() -> None:
    for kind in ("prompt", "prefix"):
        with pytest.raises(UsageError, match="reward model has no virtual tokens"):
            check_trainable(TrainableSettings(kind), reward_model=True)
