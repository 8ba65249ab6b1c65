"""Frozen lower layers: where they end, that no graph is built for them, and what identifies a row's states."""

from __future__ import annotations

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.samples import Branch, Sample
from trimpot.core.tensors import pack_one
from trimpot.models import reward
from trimpot.models.adapters import TrainableSettings, check_trainable, choose_trainable
from trimpot.models.decoder import decoder_layers, first_trained_layer
from trimpot.models.frozen_trunk import spans
from trimpot.models.policy import Policy
from trimpot.models.reward import RewardModel
from trimpot.models.tiny import tiny

ARCHITECTURES = ["llama", "qwen3", "gemma", "gpt2", "mistral"]


def sample(prefix: tuple[int, ...], *answers: tuple[int, ...]) -> Sample:
    return Sample(str((prefix, answers)), prefix, tuple(Branch(ids, (True,) * len(ids)) for ids in answers))


def keys(*samples: Sample) -> list[str]:
    batch = pack_one(samples)
    return [key for key, _ in spans(batch.ids_T, batch.positions_T)]


def made(settings: TrainableSettings, head: bool = False, architecture: str = "llama") -> Policy | RewardModel:
    policy = tiny("1m", architecture)
    model = reward.from_policy(policy) if head else policy
    choose_trainable(model, settings)
    return model


@pytest.mark.parametrize(
    ("settings", "head", "first"),
    [
        (TrainableSettings("all"), False, None),
        (TrainableSettings("last_k", last_layers=2), False, 3),
        (TrainableSettings("last_k", last_layers=1), True, 4),
        (TrainableSettings("last_k", last_layers=5), False, 0),
        (TrainableSettings("head"), True, 5),
        (TrainableSettings("lora"), False, 0),
        (TrainableSettings("lora", lora_targets="layers.3.mlp.up_proj"), False, 3),
        (TrainableSettings("prompt"), False, None),
        (TrainableSettings("prefix"), False, None),
    ],
)
def test_where_the_frozen_part_ends(settings: TrainableSettings, head: bool, first: int | None) -> None:
    assert first_trained_layer(made(settings, head).model) == first


@pytest.mark.parametrize("part", ["embed_tokens", "norm"])
def test_a_trunk_that_trains_elsewhere_too_has_no_frozen_part(part: str) -> None:
    policy = made(TrainableSettings("last_k"))
    getattr(policy.model.base_model, part).requires_grad_(True)
    assert first_trained_layer(policy.model) is None


def test_layers_are_the_shallowest_list_however_long_others_are() -> None:
    trunk = tiny("1m").model.base_model
    trunk.layers[0].mlp.experts = torch.nn.ModuleList([torch.nn.Linear(2, 2) for _ in range(9)])
    assert decoder_layers(trunk) == list(trunk.layers)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("settings", [TrainableSettings("last_k", last_layers=1), TrainableSettings("head")])
def test_no_graph_is_built_below_the_first_layer_that_trains(settings: TrainableSettings, architecture: str) -> None:
    model = made(settings, settings.trainable == "head", architecture)
    with_graph: list[bool] = []
    for layer in decoder_layers(model.model.base_model):
        layer.register_forward_hook(lambda module, inputs, output: with_graph.append(output.requires_grad))
    batch = pack_one([sample((1, 2), (3, 4), (5, 6))])
    loss = model.rewards(batch).sum() if isinstance(model, RewardModel) else model.scores(batch).logprob_N.sum()
    loss.backward()
    assert with_graph == [False] * 4 + [settings.trainable == "last_k"]
    frozen = [name for name, value in model.model.named_parameters() if value.grad is None]
    assert set(frozen) == {name for name, value in model.model.named_parameters() if not value.requires_grad}


def test_a_head_alone_trains_and_only_a_reward_model_has_one() -> None:
    judge = made(TrainableSettings("head"), head=True)
    assert list(judge.trainable()) == ["score.weight"]
    with pytest.raises(UsageError, match=r"^trainable: head: only a reward model has"):
        check_trainable(TrainableSettings("head"))
    check_trainable(TrainableSettings("head", quantise="nf4"), reward_model=True)


def test_a_row_is_known_by_its_tokens_and_how_they_attend() -> None:
    one, other = sample((1, 2), (3, 4), (5,)), sample((9,), (8,))
    assert keys(one, other) == [*keys(one), *keys(other)] == keys(other, one)[::-1]
    different = [
        one,
        sample((1, 2), (3, 4), (6,)),
        sample((1, 2), (3,), (4, 5)),
        sample((1, 2), (3, 4, 5)),
        sample((1, 2), (5,), (3, 4)),
        sample((1,), (2, 3, 4), (5,)),
        sample((1,), (2, 3), (4, 5)),
    ]
    assert len({keys(each)[0] for each in different}) == len(different)
    # What is prefix and what is answer makes no difference to one branch: all of it is causal.
    assert keys(sample((1, 2), (3,))) == keys(sample((), (1, 2, 3)))
    # Answers without a prefix do not see each other.
    assert keys(sample((), (1, 2), (3, 4))) == keys(sample((), (1, 2)), sample((), (3, 4)))


def test_places_are_part_of_a_key_and_must_come_in_order() -> None:
    batch = pack_one([sample((1, 2), (3, 4)), sample((), (5, 6, 7))])
    last = spans(batch.ids_T, batch.positions_T, batch.last_token_S)
    before = spans(batch.ids_T, batch.positions_T, batch.last_token_S - 1)
    assert [count for _, count in last] == [1, 1]
    assert not {key for key, _ in last} & {key for key, _ in before}
    with pytest.raises(ValueError, match="in the order of the rows"):
        spans(batch.ids_T, batch.positions_T, batch.last_token_S.flip(0))


def test_a_batch_that_begins_inside_a_row_has_no_key() -> None:
    assert spans(torch.tensor([5, 6]), torch.tensor([3, 4])) == []
