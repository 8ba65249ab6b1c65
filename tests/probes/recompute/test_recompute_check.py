"""Equal gradients with every mode and architecture, and the broken case: dropout whose random state is not kept."""

from __future__ import annotations

import json

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.models.decoder import decoder_layers, replaced_forwards
from trimpot.models.recompute import recomputed
from trimpot.models.tiny import tiny
from trimpot.models.trunk import Trunk
from trimpot.probes.recompute.block import Stack
from trimpot.probes.recompute.check import check_gradients
from trimpot.probes.recompute.measure import RecomputeSettings, measure_recompute, random_batch

ARCHITECTURES = ["llama", "qwen3", "gemma", "gpt2", "mistral"]
WAYS = [("full", 1), ("every", 2), ("every", 3), ("every", 9), ("selective", 1)]


def loss_of(stack: Stack):
    states = torch.linspace(-1, 1, 2 * 6 * 16).sin().reshape(2, 6, 16)
    return lambda: stack(states).square().mean()


@pytest.mark.parametrize("way", WAYS)
def test_dropout_without_the_random_state_is_caught_and_with_it_gradients_are_equal_bit_by_bit(way):
    stack = Stack(4, 16, 2, dropout=0.5)
    parameters = dict(stack.named_parameters())
    before = torch.get_rng_state()
    broken = check_gradients(loss_of(stack), parameters, recomputed(stack.blocks, *way))
    assert (broken.equal, broken.bitwise, broken.draws) == (False, False, True)
    assert broken.difference > 0.01
    assert broken.where in parameters
    with pytest.raises(UsageError, match=r"draw random numbers.*Keep the random state"):
        broken.require()
    sound = check_gradients(loss_of(stack), parameters, recomputed(stack.blocks, *way, keep_random_state=True))
    assert (sound.equal, sound.bitwise, sound.difference, sound.draws) == (True, True, 0.0, True)
    sound.require()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(value.grad is None for value in parameters.values())


def test_without_draws_the_random_state_need_not_be_kept():
    stack = Stack(4, 16, 2).eval()
    found = check_gradients(loss_of(stack), dict(stack.named_parameters()), recomputed(stack.blocks))
    assert (found.bitwise, found.draws) == (True, False)


def test_state_that_a_forward_pass_changes_is_caught_too():
    stack = Stack(2, 16, 2).eval()
    calls = []
    own = stack.blocks[0].forward

    def counted(hidden):
        calls.append(1)
        return own(hidden * len(calls))

    stack.blocks[0].forward = counted
    found = check_gradients(loss_of(stack), dict(stack.named_parameters()), recomputed(stack.blocks))
    assert not found.equal
    assert not found.draws
    assert "no random number" in found.finding
    assert "Look for state" in found.mend


def test_gradients_that_are_not_finite_are_not_equal_and_some_there_must_be():
    stack = Stack(1, 16, 2).eval()
    parameters = dict(stack.named_parameters())
    found = check_gradients(lambda: loss_of(stack)() * float("nan"), parameters, recomputed(stack.blocks))
    assert not found.equal
    with pytest.raises(ValueError, match="no parameter gets a gradient"):
        check_gradients(lambda: torch.ones((), requires_grad=True) * 2, parameters, {})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_has_the_same_gradients(architecture, way):
    policy = tiny("0.1m", architecture, **{"n_layer" if architecture == "gpt2" else "num_hidden_layers": 4})
    batch = random_batch(policy, RecomputeSettings(tokens=12, sequences=2))
    layers = decoder_layers(policy.model.base_model)
    assert len(layers) == 4
    found = check_gradients(
        lambda: -policy.scores(batch).logprob_N.mean(), policy.trainable(), recomputed(layers, *way)
    )
    assert found.bitwise, found.finding


def test_layers_of_a_segment_run_once_more_and_the_others_pass_on():
    policy = tiny("0.1m", num_hidden_layers=5)
    batch = random_batch(policy, RecomputeSettings(tokens=8, sequences=1))
    layers = decoder_layers(policy.model.base_model)
    calls = [0] * 5
    for place, layer in enumerate(layers):
        layer.mlp.register_forward_pre_hook(lambda *_, place=place: calls.__setitem__(place, calls[place] + 1))
    with replaced_forwards(recomputed(layers, "every", 2)):
        loss = policy.scores(batch).logprob_N.mean()
        assert calls == [1] * 5
        loss.backward()
    assert calls == [2] * 5


def test_layers_that_are_given_different_arguments_are_no_segment():
    stack = Stack(2, 16, 2).eval()
    _, later = recomputed(stack.blocks, "every", 2).values()
    states = torch.ones(1, 2, 16, requires_grad=True)
    with pytest.raises(ValueError, match="different arguments"):
        later(states)
    for block in stack.blocks:
        block.forward = lambda hidden, mask: hidden * mask
    first, later = recomputed(stack.blocks, "every", 2).values()
    mask = torch.full((1,), 3.0)
    assert torch.equal(later(first(states, mask), mask), states * 9)
    first(states, mask)
    with pytest.raises(ValueError, match="different arguments"):
        later(states, torch.full((1,), 3.0))


def test_a_model_is_measured_and_left_as_it_was():
    policy = tiny("0.1m", num_hidden_layers=6)
    policy.trunk = trunk = Trunk(recompute=True)
    told = []
    found = measure_recompute(
        policy,
        RecomputeSettings(tokens=64, sequences=1, every=3, kernel="math", repeats=1),
        lambda *at: told.append(at),
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert policy.trunk is trunk
    assert all(value.grad is None for value in policy.trainable().values())
    none, full, every, selective = (found.mode(name) for name in ("none", "full", "every", "selective"))
    assert all(one.gradients.bitwise for one in found.modes)
    # One hidden state of 64 tokens, 64 wide, in 4 bytes, at the head of each of 6 layers, and of 2 segments.
    assert found.border == 64 * 64 * 4
    assert full.kept == full.formula == 6 * found.border
    assert every.kept == every.formula == 2 * found.border
    assert none.kept == pytest.approx(none.formula)
    # Attention keeps the matrix of 4 heads (softmax, at least) in each of 6 layers: gone.
    heads = policy.model.config.num_attention_heads
    assert none.kept - selective.kept >= 6 * heads * 64 * 64 * 4
    assert full.peak < none.peak
    assert none.peak - full.peak == pytest.approx(full.formula_saving, rel=0.15)
    assert 1.1 < full.operations / none.operations < 4 / 3
    assert none.operations < selective.operations < full.operations
    # In a segment only the last layer stops early.
    assert full.operations < every.operations < 4 / 3 * none.operations
    json.dumps(found.as_dict(), allow_nan=False)


def test_what_cannot_be_measured_is_refused():
    policy = tiny("0.1m")
    with pytest.raises(ValueError, match="kernel"):
        measure_recompute(policy, RecomputeSettings(kernel="flash"))
    policy.model.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing trains"):
        measure_recompute(policy)
