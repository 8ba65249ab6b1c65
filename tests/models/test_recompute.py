"""Recomputation: loss and gradients as without it, for everything that trains, from far fewer kept numbers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

from trimpot.core.samples import Branch, Sample
from trimpot.core.tensors import Batch, Wanted, pack_one
from trimpot.models import reward
from trimpot.models.adapters import TrainableSettings, choose_trainable
from trimpot.models.critic import ActorCritic, critic_from_policy
from trimpot.models.decoder import decoder_layers, replaced_forwards
from trimpot.models.noise import NoisyPolicy
from trimpot.models.policy import Policy
from trimpot.models.student import Student
from trimpot.models.tiny import tiny
from trimpot.models.trunk import Trunk
from trimpot.objectives.distill.gkd import GKD
from trimpot.rollout.engine import generate
from trimpot.rollout.sampling import SamplingSettings

ARCHITECTURES = ["llama", "qwen3", "gemma", "gpt2", "mistral"]


def batch_for(policy: Policy) -> Batch:
    source, lead = random.Random(0), policy.virtual_ids

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(source.randrange(250) for _ in range(count))

    def answer(count: int) -> Branch:
        return Branch(tokens(count), (False,) + (True,) * (count - 1))

    return pack_one([
        Sample("plain", lead, (answer(19),)),
        Sample("pair", lead + tokens(7), (answer(15), answer(6))),
        Sample("group", lead + tokens(4), (answer(6), answer(3), answer(8))),
    ])  # fmt: skip


def double(architecture: str = "llama", trainable: str = "all") -> Policy:
    """A tiny model in float64, with whatever is new in it moved off its initial values."""
    policy = tiny("0.1m", architecture)
    choose_trainable(policy, TrainableSettings(trainable, lora_rank=2, last_layers=1, virtual_tokens=3))
    policy.model.double()
    if trainable == "lora":
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for value in policy.trainable().values():
                value.add_(torch.randn(value.shape, generator=generator, dtype=value.dtype) * 0.1)
    return policy


def gradients(trainee, policy: Policy, recompute: bool, needs: tuple[str, ...] = ()) -> dict[str, torch.Tensor]:
    """The gradients of a loss that every stream with gradients takes part in; ``loss`` is the loss itself."""
    for model in trainee.models().values():
        model.trunk = Trunk(recompute)
    streams = trainee.streams(batch_for(policy), Wanted(needs))
    loss = torch.stack([value.double().sin().sum() for value in streams.values() if value.requires_grad]).sum()
    loss.backward()
    found = {name: value.grad for name, value in trainee.trainable().items() if value.grad is not None}
    for value in trainee.trainable().values():
        value.grad = None
    return {**found, "loss": loss.detach()}


@contextmanager
def calls_counted(module: torch.nn.Module) -> Iterator[list[int]]:
    calls: list[int] = []
    hook = module.register_forward_pre_hook(lambda *_: calls.append(1))
    yield calls
    hook.remove()


def assert_equal(trainee, policy: Policy, needs: tuple[str, ...] = ()) -> None:
    kept, again = (gradients(trainee, policy, recompute, needs) for recompute in (False, True))
    assert kept.keys() == again.keys()
    assert len(kept) > 1
    for name, value in kept.items():
        assert (again[name] - value).abs().max() <= 1e-12, name
        assert value.abs().max() > 0, name


@pytest.mark.parametrize("trainable", ["all", "lora", "last_k", "prompt", "prefix"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_and_choice_of_weights(architecture: str, trainable: str) -> None:
    policy = double(architecture, trainable)
    assert_equal(policy, policy)


def reward_model() -> tuple:
    policy = double()
    judge = reward.from_policy(policy)
    torch.nn.init.normal_(judge.model.score.weight)
    return judge, policy, ("reward_S",)


def actor_critic() -> tuple:
    policy = double()
    critic = critic_from_policy(policy)
    torch.nn.init.normal_(critic.model.model.score.weight)
    return ActorCritic(policy, critic), policy, ("logprob_N", "value_N")


def student() -> tuple:
    policy, teacher = double(), tiny(seed=1)
    teacher.model.double().requires_grad_(False)
    return Student(policy, teacher, GKD().divergence), policy, ("divergence_N",)


def noisy() -> tuple:
    policy = double()
    return NoisyPolicy(policy, 5.0, 0), policy, ()


@pytest.mark.parametrize("make", [reward_model, actor_critic, student, noisy])
def test_every_trainee(make: Callable[[], tuple]) -> None:
    assert_equal(*make())


def test_layers_run_again_in_the_backward_pass_and_only_then() -> None:
    policy = double()
    for recompute, total in ((False, 1), (True, 2)):
        policy.trunk = Trunk(recompute)
        with calls_counted(decoder_layers(policy.model.base_model)[0].mlp) as calls:
            scores = policy.scores(batch_for(policy))
            assert len(calls) == 1
            scores.logprob_N.sum().backward()
            assert len(calls) == total
    with torch.no_grad(), calls_counted(decoder_layers(policy.model.base_model)[0].mlp) as calls:
        policy.scores(batch_for(policy))
    assert len(calls) == 1


def test_a_layer_keeps_its_input_alone() -> None:
    """What a forward pass leaves allocated for each layer and token: as many numbers as the hidden state has."""
    whole = tiny("1m", num_hidden_layers=5)
    batch, hidden = batch_for(whole), whole.model.config.hidden_size

    def allocated(layers: int, recompute: bool) -> int:
        policy = tiny("1m", num_hidden_layers=layers)
        policy.trunk = Trunk(recompute)
        policy.scores(batch)
        with torch.profiler.profile(profile_memory=True) as profile:
            scores = policy.scores(batch)
        assert scores.logprob_N.requires_grad
        return sum(event.self_cpu_memory_usage for event in profile.events())

    def per_layer(recompute: bool) -> float:
        return (allocated(5, recompute) - allocated(2, recompute)) / 3 / (len(batch.ids_T) * hidden * 4)

    assert per_layer(recompute=True) == pytest.approx(1, abs=0.1)
    assert per_layer(recompute=False) > 8


def test_generation_is_the_same() -> None:
    policy = tiny()
    settings = SamplingSettings(max_tokens=6)
    before = generate(policy, [(1, 2, 3), (4, 5)], 2, settings, 0)
    policy.trunk = Trunk(recompute=True)
    after = generate(policy, [(1, 2, 3), (4, 5)], 2, settings, 0)
    assert [[one.ids for one in row] for row in before] == [[one.ids for one in row] for row in after]


def test_layers_have_their_own_forward_back_after_a_pass_even_one_that_failed() -> None:
    policy = tiny()
    layers = decoder_layers(policy.model.base_model)
    own = layers[0].forward
    layers[0].forward = own
    policy.trunk = Trunk(recompute=True)
    policy.scores(batch_for(policy)).logprob_N.sum().backward()
    with pytest.raises(ZeroDivisionError), replaced_forwards(dict.fromkeys(layers, int)):
        _ = 1 / 0
    assert layers[0].forward is own
    assert "forward" not in vars(layers[1])
