"""Loading by name, trainable sets, adapters as reference, export to a plain folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from trimpot.core.errors import UsageError
from trimpot.core.samples import Branch, Sample
from trimpot.core.tensors import pack_one
from trimpot.models import embedded, load, reward
from trimpot.models.adapters import TrainableSettings, choose_trainable
from trimpot.models.export import export
from trimpot.models.load import check_model
from trimpot.models.tiny import SIZES, tiny

BATCH = pack_one([Sample("a", (1, 2, 3), (Branch((4, 5), (True, True)), Branch((6,), (True,))))])


@pytest.mark.parametrize("size", SIZES)
def test_tiny_sizes_are_about_what_they_say(size: str) -> None:
    count = sum(value.numel() for value in tiny(size).model.parameters())
    assert 0.7 < count / (float(size.removesuffix("m")) * 1e6) < 1.3


def test_tiny_is_deterministic_in_its_seed() -> None:
    assert tiny(seed=1).weights_hash() == tiny(seed=1).weights_hash() != tiny(seed=2).weights_hash()


def test_exported_folder_loads_with_plain_transformers_and_gives_the_same_logits(tmp_path: Path) -> None:
    policy = tiny()
    export(policy, tmp_path / "model")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    ids = torch.tensor([[7, 8, 9, 10]])
    policy.model.set_attn_implementation("sdpa")
    assert torch.equal(plain(ids).logits, policy.model(ids).logits)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.chat_template == policy.tokenizer.chat_template
    again = load(str(tmp_path / "model"))
    assert again.weights_hash() == policy.weights_hash()


@pytest.mark.parametrize(
    ("settings", "trains"),
    [
        (TrainableSettings("all"), lambda name: True),
        (TrainableSettings("last_k", last_layers=1), lambda name: "layers.1." in name),
        (TrainableSettings("lora", lora_rank=2), lambda name: "lora_" in name),
    ],
)
def test_trainable_sets(settings: TrainableSettings, trains) -> None:
    policy = tiny()
    choose_trainable(policy, settings)
    names = {name: value.requires_grad for name, value in policy.model.named_parameters()}
    assert any(names.values())
    assert all(wanted == trains(name) for name, wanted in names.items())
    policy.scores(BATCH).logprob_N.sum().backward()
    assert all(value.grad is not None for value in policy.trainable().values())


def test_lora_reference_is_the_adapters_switched_off_and_export_merges(tmp_path: Path) -> None:
    policy = tiny()
    before = policy.scores(BATCH).logprob_N.detach()
    choose_trainable(policy, TrainableSettings("lora", lora_rank=2))
    with torch.no_grad():
        for name, value in policy.trainable().items():
            if "lora_B" in name:
                value.normal_()
    after = policy.scores(BATCH).logprob_N.detach()
    with policy.adapters_off():
        assert torch.equal(policy.scores(BATCH).logprob_N, before)
    assert (after - before).abs().max() > 1e-3
    export(policy, tmp_path / "model")
    assert torch.allclose(load(str(tmp_path / "model")).scores(BATCH).logprob_N, after, atol=1e-5)


def test_reward_model_starts_at_zero_and_loads_as_a_plain_classifier(tmp_path: Path) -> None:
    policy = tiny()
    judge = reward.from_policy(policy)
    assert torch.equal(judge.rewards(BATCH), torch.zeros(2))
    torch.nn.init.normal_(judge.model.score.weight)
    export(judge, tmp_path / "judge")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "judge")
    logit = plain(torch.tensor([[1, 2, 3, 4, 5]])).logits[0, 0]
    assert torch.allclose(logit, judge.rewards(BATCH)[0], atol=1e-5)


def test_unusable_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"config\.json"):
        load(str(tmp_path))
    export(tiny(), tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="no weights"):
        load(str(tmp_path / "model"))
    for name in (str(tmp_path / "nowhere"), "someone/unknown-model", "tiny-9m", "missing.gguf"):
        with pytest.raises(UsageError):
            load(name)
    with pytest.raises(UsageError, match="device"):
        load("tiny-0.1m", device="cuda:99")
    with pytest.raises(UsageError, match="dtype"):
        load("tiny-0.1m", dtype="float99")
    with pytest.raises(UsageError, match="layers"):
        choose_trainable(tiny(), TrainableSettings("last_k", last_layers=3))


@pytest.mark.slow
def test_embedded_model_is_converted_once_and_speaks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = embedded.embedded_folder()
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    policy = load("smollm2-135m")
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp
    assert "quantization_config" not in policy.model.config.to_dict()
    assert policy.tokenizer.chat_template.startswith("{% for message in messages %}")
    ids = tuple(policy.tokenizer.encode("The capital of France is Paris"))
    batch = pack_one([Sample("a", (), (Branch(ids, (False,) * 5 + (True,)),))])
    assert policy.scores(batch).logprob_N.item() > -2.0


def test_a_changed_embedded_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / embedded.GGUF
    fake.write_bytes(b"not the model")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(embedded, "_installed_file", lambda: fake)
    with pytest.raises(UsageError, match="not the known"):
        embedded.embedded_folder()


@pytest.mark.parametrize("trainable", ["all", "lora", "last_k"])
def test_reward_model_trains_its_head_with_every_trainable_set_and_exports(tmp_path: Path, trainable: str) -> None:
    policy = tiny()
    judge = reward.from_policy(policy)
    choose_trainable(judge, TrainableSettings(trainable, lora_rank=2, last_layers=1))
    # Alpha / rank is 16 here: the adapters overshoot at a larger rate.
    optimizer = torch.optim.AdamW(judge.trainable().values(), lr=1e-3)
    for _ in range(5):
        rewards = judge.rewards(BATCH)
        (rewards[1] - rewards[0]).backward()
        optimizer.step()
        optimizer.zero_grad()
    rewards = judge.rewards(BATCH).detach()
    assert rewards[0] > rewards[1] + 0.1
    export(judge, tmp_path / "judge")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "judge")
    assert torch.allclose(plain(torch.tensor([[1, 2, 3, 4, 5]])).logits[0, 0], rewards[0], atol=1e-5)


def test_adapters_can_follow_adapters(tmp_path: Path) -> None:
    policy = tiny()
    for stage in ("one", "two"):
        choose_trainable(policy, TrainableSettings("lora", lora_rank=2))
        assert sum("lora_A" in name for name in policy.trainable()) == 14
        export(policy, tmp_path / stage)
        assert policy.adapters is None
    assert load(str(tmp_path / "two")).weights_hash() == policy.weights_hash()


def test_a_stage_of_a_run_is_its_model(tmp_path: Path) -> None:
    policy = tiny()
    export(policy, tmp_path / "sft" / "model")
    with pytest.raises(UsageError, match=r"config\.json"):
        load(str(tmp_path / "sft"))
    (tmp_path / "sft" / "stage.json").write_text("{}")
    found = load(str(tmp_path / "sft"))
    assert (found.name, found.weights_hash()) == (str(tmp_path / "sft"), policy.weights_hash())


def test_a_model_that_cannot_be_loaded_is_refused_without_reading_weights(tmp_path: Path) -> None:
    check_model("tiny-0.1m")
    export(tiny(), tmp_path / "model")
    check_model(str(tmp_path / "model"))
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="cannot be loaded"):
        check_model(str(tmp_path / "model"))
