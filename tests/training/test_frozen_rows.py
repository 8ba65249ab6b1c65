"""Training from the kept states of frozen layers: the same losses and gradients, and the limits of what is kept."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import torch

from trimpot.core.progress import ignore
from trimpot.core.samples import Branch, Sample
from trimpot.core.tensors import Wanted, pack_one
from trimpot.models import reward
from trimpot.models.adapters import TrainableSettings, choose_trainable
from trimpot.models.decoder import decoder_layers
from trimpot.models.policy import Policy
from trimpot.models.reward import RewardModel
from trimpot.models.tiny import tiny
from trimpot.models.trunk import Trunk
from trimpot.rollout.engine import generate
from trimpot.rollout.sampling import SamplingSettings
from trimpot.training import frozen_rows
from trimpot.training.frozen_rows import Room, keep_states

ARCHITECTURES = ["llama", "qwen3", "gemma", "gpt2", "mistral"]
NEEDS = {"policy": ("logprob_N",), "reward": ("reward_S",), "process": ("reward_N",)}


def rows(seed: int = 0) -> list[Sample]:
    """Plain rows, pairs and groups on shared prefixes, and answers without one. A first token is no target."""
    source = random.Random(seed)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(source.randrange(250) for _ in range(count))

    def answers(*counts: int) -> tuple[Branch, ...]:
        return tuple(Branch(tokens(n), (False,) + (True,) * (n - 1)) for n in counts)

    return [
        Sample("plain", (), answers(19)),
        Sample("pair", tokens(7), answers(5, 3)),
        Sample("other pair", tokens(12), answers(2, 9)),
        Sample("group", tokens(4), answers(6, 2, 8)),
        Sample("no prefix", (), answers(4, 6)),
    ]


def made(what: str, trainable: str, architecture: str = "llama", dtype: torch.dtype = torch.float64):
    policy = tiny("1m", architecture)
    model = policy if what == "policy" else reward.from_policy(policy)
    choose_trainable(model, TrainableSettings(trainable, last_layers=2))
    model.model.to(dtype)
    if isinstance(model, RewardModel):
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            model.model.score.weight.copy_(torch.randn(model.model.score.weight.shape, generator=generator))
    return model


def results(model: Policy | RewardModel, what: str, samples: list[Sample]) -> dict[str, torch.Tensor]:
    """Every stream with a gradient, and the gradients of a loss of them."""
    streams = model.streams(pack_one(samples), Wanted(NEEDS[what]))
    found = {name: value for name, value in streams.items() if value.requires_grad}
    torch.stack([value.double().sin().sum() for value in found.values()]).sum().backward()
    gradients = {name: value.grad for name, value in model.trainable().items()}
    for value in model.trainable().values():
        value.grad = None
    return {**{name: value.detach() for name, value in found.items()}, **gradients}


def calls_of(model: Policy | RewardModel) -> list[int]:
    """Grows by the number of a layer whenever its MLP runs."""
    calls: list[int] = []
    for number, layer in enumerate(decoder_layers(model.model.base_model)):
        layer.mlp.register_forward_pre_hook(lambda *_, number=number: calls.append(number))
    return calls


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(("what", "trainable"), [
    ("policy", "last_k"), ("reward", "last_k"), ("reward", "head"), ("process", "last_k"), ("process", "head"),
])  # fmt: skip
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_losses_and_gradients_are_those_of_the_whole_trunk(
    architecture: str, what: str, trainable: str, recompute: bool
) -> None:
    model = made(what, trainable, architecture)
    frozen = keep_states(model, rows(), NEEDS[what], Room(40, None, ignore))
    assert frozen.layer == (3 if trainable == "last_k" else 5)
    for company in ([0, 1, 2, 3, 4], [3, 1], [2], [4, 3, 0]):
        samples = [rows()[index] for index in company]
        model.trunk = Trunk(recompute)
        whole = results(model, what, samples)
        model.trunk = Trunk(recompute, frozen)
        kept = results(model, what, samples)
        assert whole.keys() == kept.keys()
        for name, value in whole.items():
            assert (kept[name] - value).abs().max() <= 1e-12 * max(1, float(value.abs().max())), name
            assert value.abs().max() > 0, name


@pytest.mark.parametrize(("what", "trainable"), [("policy", "last_k"), ("reward", "head")])
def test_in_single_precision_they_agree_to_its_rounding(what: str, trainable: str) -> None:
    model = made(what, trainable, dtype=torch.float32)
    model.trunk.frozen = keep_states(model, rows(), NEEDS[what], Room(30, None, ignore))
    kept = results(model, what, rows()[::-1])
    model.trunk = Trunk()
    for name, value in results(model, what, rows()[::-1]).items():
        assert (kept[name] - value).abs().max() <= 1e-6 * max(1, float(value.abs().max())), name


@pytest.mark.parametrize(("trainable", "run"), [("last_k", [3, 4]), ("head", [])])
def test_frozen_layers_run_once_for_rows_that_are_known_and_as_ever_for_others(trainable: str, run: list[int]) -> None:
    model = made("reward", trainable)
    calls = calls_of(model)
    model.trunk.frozen = keep_states(model, rows(), NEEDS["reward"], Room(10_000, None, ignore))
    assert calls.count(0) == 1
    for samples, expected in (
        (rows()[:3], run),
        (rows(1)[:2], [0, 1, 2, 3, 4]),
        ([rows()[0], rows(1)[1]], [0, 1, 2, 3, 4]),
    ):
        calls.clear()
        model.streams(pack_one(samples), Wanted(NEEDS["reward"]))
        assert calls == expected


def test_only_the_first_batch_runs_to_the_end() -> None:
    model = made("policy", "last_k")
    calls, heard = calls_of(model), []
    keep_states(model, rows(), NEEDS["policy"], Room(30, None, lambda *progress: heard.append(progress)))
    assert calls.count(0) == len(heard) >= 3
    assert calls.count(4) == 2
    assert heard == [(number, len(heard)) for number in range(1, len(heard) + 1)]


def test_what_is_kept_is_a_hidden_state_a_token_and_of_a_head_one_for_each_place_it_reads() -> None:
    model, judge = made("policy", "last_k"), made("reward", "head")
    tokens, answers = sum(row.tokens for row in rows()), sum(len(row.branches) for row in rows())
    for one, what, count in ((model, "policy", tokens), (judge, "reward", answers)):
        frozen = keep_states(one, rows(), NEEDS[what], Room(40, None, ignore))
        assert {state.shape[1] for state in frozen.rows.values()} == {one.model.config.hidden_size}
        assert sum(len(state) for state in frozen.rows.values()) == count


def test_generation_from_a_known_row_is_not_touched() -> None:
    policy = made("policy", "last_k", dtype=torch.float32)
    prompt = rows()[0].branches[0].ids
    before = generate(policy, [prompt], 1, SamplingSettings(max_tokens=5), 0)
    policy.trunk.frozen = keep_states(policy, rows(), NEEDS["policy"], Room(40, None, ignore))
    after = generate(policy, [prompt], 1, SamplingSettings(max_tokens=5), 0)
    assert before[0][0].ids == after[0][0].ids
    assert before[0][0].logprobs == after[0][0].logprobs


@pytest.mark.parametrize("trainable", ["all", "lora", "prompt", "prefix"])
def test_where_no_layer_is_frozen_nothing_is_kept(trainable: str) -> None:
    policy = tiny("1m")
    choose_trainable(policy, TrainableSettings(trainable, lora_rank=2))
    assert keep_states(policy, rows(), NEEDS["policy"], Room(40, None, ignore)) is None


def test_layers_that_give_more_than_states_are_left_alone() -> None:
    model = made("policy", "last_k")
    layer, following = decoder_layers(model.model.base_model)[2:4]
    own, takes = layer.forward, following.forward
    layer.forward = lambda *inputs, **named: (own(*inputs, **named),)
    following.forward = lambda states, *inputs, **named: takes(states[0], *inputs, **named)
    assert keep_states(model, rows(), NEEDS["policy"], Room(40, None, ignore)) is None


def test_layers_that_read_more_than_the_one_before_them_are_left_alone() -> None:
    model = made("policy", "last_k")
    layer = decoder_layers(model.model.base_model)[0]
    own = layer.forward

    def also_turns_positions(*inputs, position_embeddings, **named):
        for part in position_embeddings:
            part.mul_(0.5)
        return own(*inputs, position_embeddings=position_embeddings, **named)

    layer.forward = also_turns_positions
    assert keep_states(model, rows(), NEEDS["policy"], Room(40, None, ignore)) is None


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen_rows, "MEMORY_BYTES", 0)


@pytest.mark.usefixtures("no_memory")
@pytest.mark.parametrize(("what", "trainable"), [("policy", "last_k"), ("reward", "head")])
def test_states_in_a_file_are_those_in_memory_and_serve_another_run(
    what: str, trainable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, room = made(what, trainable), Room(40, tmp_path / "states", ignore)
    first = keep_states(model, rows(), NEEDS[what], room)
    (file,) = (tmp_path / "states").iterdir()
    assert file.suffix == ".states"
    assert file.stat().st_size == sum(state.numel() * 8 for state in first.rows.values())
    calls = calls_of(model)
    with torch.no_grad():  # what trains may have changed in the meantime
        for value in model.trainable().values():
            value.add_(0.1)
    again = keep_states(model, rows(), NEEDS[what], room)
    assert not calls
    monkeypatch.setattr(frozen_rows, "MEMORY_BYTES", 2**30)
    memory = keep_states(model, rows(), NEEDS[what], room)
    assert first.rows.keys() == again.rows.keys() == memory.rows.keys()
    for key, state in memory.rows.items():
        assert torch.equal(first.rows[key], state)
        assert torch.equal(again.rows[key], state)


@pytest.mark.usefixtures("no_memory")
def test_a_file_that_is_cut_off_is_made_again(tmp_path: Path) -> None:
    model, room = made("policy", "last_k"), Room(40, tmp_path / "states", ignore)
    expected = {key: state.clone() for key, state in keep_states(model, rows(), NEEDS["policy"], room).rows.items()}
    (file,) = (tmp_path / "states").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    again = keep_states(model, rows(), NEEDS["policy"], room)
    assert all(torch.equal(again.rows[key], state) for key, state in expected.items())


@pytest.mark.usefixtures("no_memory")
def test_other_frozen_weights_rows_and_boundaries_have_files_of_their_own(tmp_path: Path) -> None:
    room = Room(40, tmp_path, ignore)
    for number, change in enumerate(("none", "weights", "rows", "boundary"), start=1):
        model = made("policy", "last_k")
        with torch.no_grad():
            model.model.base_model.layers[0].mlp.up_proj.weight.mul_(1 + (change == "weights"))
        if change == "boundary":
            model.model.base_model.layers[3].requires_grad_(False)
        keep_states(model, rows(1 if change == "rows" else 0), NEEDS["policy"], room)
        assert len(list(tmp_path.iterdir())) == number


@pytest.mark.usefixtures("no_memory")
def test_without_room_nothing_is_kept_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made("policy", "last_k")
    assert keep_states(model, rows(), NEEDS["policy"], Room(40, None, ignore)) is None

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert keep_states(model, rows(), NEEDS["policy"], Room(40, tmp_path, ignore)) is None
    monkeypatch.undo()
    monkeypatch.setattr(frozen_rows, "MEMORY_BYTES", 0)

    def stopped(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep_states(model, rows(), NEEDS["policy"], Room(40, tmp_path, stopped))
    monkeypatch.setattr(frozen_rows, "DISK_BYTES", 100)
    assert keep_states(model, rows(), NEEDS["policy"], Room(40, tmp_path, ignore)) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_memory")
def test_the_oldest_file_makes_room_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, room = made("policy", "last_k"), Room(40, tmp_path, ignore)
    files = []
    for seed in range(2):
        keep_states(model, rows(seed), NEEDS["policy"], room)
        files += [path for path in tmp_path.iterdir() if path not in files]
        os.utime(files[-1], (seed, seed))
    monkeypatch.setattr(frozen_rows, "DISK_BYTES", int(files[0].stat().st_size * 2.5))
    keep_states(model, rows(2), NEEDS["policy"], room)
    left = list(tmp_path.iterdir())
    assert len(left) == 2
    assert files[0] not in left
    assert files[1] in left
