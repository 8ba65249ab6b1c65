"""The health probe: every metric by hand or against the weights themselves, and a run that is bitwise the same."""

from __future__ import annotations

import math

import pytest
import torch

from trimpot.core.rows import ChatRow, Message
from trimpot.core.samples import Sample
from trimpot.core.tensors import pack_one
from trimpot.data.prepare import tokenise
from trimpot.data.template import ChatTemplate
from trimpot.models.adapters import TrainableSettings, choose_trainable
from trimpot.models.attention import plan_for
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny
from trimpot.objectives.supervised.sft import SupervisedFineTuning
from trimpot.probes.health import HealthProbe, health
from trimpot.probes.health_compute import measured_peak, step_flops
from trimpot.probes.health_forward import ForwardLook, attention_entropy, unit_reader
from trimpot.probes.health_updates import MOST, Updates, gradient_norms, group_of
from trimpot.training.loop import Plan, TrainState, train
from trimpot.training.rows import DatasetSource
from trimpot.training.settings import LoopSettings, OptimizerSettings

WORDS = ("a", "stone", "in the sea", "of green glass", "x", "zebra crossing", "why", "no more of this")


def rows(policy: Policy) -> tuple[Sample, ...]:
    chats = [ChatRow((Message("user", f"{one}?"), Message("assistant", f"{one} {at}"))) for at, one in enumerate(WORDS)]
    return tokenise(chats, ChatTemplate(policy.tokenizer), 200).samples


def trained(policy: Policy, probes: tuple[str, ...] = (), steps: int = 3, **loop) -> list[dict]:
    optimizer = OptimizerSettings(learning_rate=1e-3)
    settings = LoopSettings(steps=steps, batch=4, micro_batch_tokens=90, probes=probes, probe_every=1, **loop)
    plan = Plan(SupervisedFineTuning(), DatasetSource(rows(policy), 4, 0), settings, optimizer)
    return [dict(step.metrics) for step in train(TrainState.new(policy, optimizer), plan)]


def looked(policy: Policy) -> ForwardLook:
    look = ForwardLook(policy.model)
    look.attach()
    policy.scores(pack_one(rows(policy)))
    look.detach()
    return look


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen3"])
@pytest.mark.parametrize("loop", [{}, {"recompute": True}])
def test_a_run_with_the_probe_is_bitwise_the_run_without(kind, loop):
    plain, watched = tiny("0.1m", kind, seed=2), tiny("0.1m", kind, seed=2)
    for policy in (plain, watched):
        policy.trunk.recompute = bool(loop)
    losses = [step["loss"] for step in trained(plain)]
    steps = trained(watched, ("health",))
    assert [step["loss"] for step in steps] == losses
    assert watched.weights_hash() == plain.weights_hash()
    assert all(0 < step["health/update_ratio"] < 1 for step in steps)
    names = ("activation_rms", "dead_units", "attention_entropy", "mfu")
    assert all(step[f"health/{name}"] is not None for step in steps for name in names)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in watched.model.modules())


def test_lora_and_the_last_layers_are_looked_at_too():
    for chosen in (
        TrainableSettings(trainable="lora", lora_rank=2),
        TrainableSettings(trainable="last_k", last_layers=1),
    ):
        plain, watched = tiny("0.1m", seed=2), tiny("0.1m", seed=2)
        for policy in (plain, watched):
            choose_trainable(policy, chosen)
        losses = [step["loss"] for step in trained(plain)]
        steps = trained(watched, ("health",))
        assert [step["loss"] for step in steps] == losses
        assert watched.weights_hash() == plain.weights_hash()
        assert steps[0]["health/update_ratio"] > 0
        assert steps[0]["health/dead_units"] is not None


def test_activations_are_those_of_the_layers():
    policy = tiny("0.1m", seed=2)
    look = looked(policy)
    batch = pack_one(rows(policy))
    with torch.no_grad():
        states = policy.model.base_model(
            input_ids=batch.ids_T[None], position_ids=batch.positions_T[None], use_cache=False,
            attention_plan=plan_for(batch), output_hidden_states=True,
        ).hidden_states  # fmt: skip
    assert look.activations()[0] == pytest.approx(float(states[1].square().mean().sqrt()), rel=1e-5)
    assert sorted(look.activations()) == [0, 1]
    assert look.documents == [one.tokens for one in rows(policy)]


def test_passes_without_gradient_do_not_count():
    policy = tiny("0.1m", seed=2)
    look = ForwardLook(policy.model)
    look.attach()
    with torch.no_grad():
        policy.scores(pack_one(rows(policy)))
    assert (look.activations(), look.dead(), look.entropies(), look.documents) == ({}, {}, {}, [])


def test_dead_units_are_the_share_that_was_silenced():
    policy = tiny("0.1m", seed=2)
    layer = policy.model.model.layers[1].mlp
    before = looked(policy).dead()
    assert before[1] < 0.05
    with torch.no_grad():
        layer.gate_proj.weight[: layer.gate_proj.weight.shape[0] // 2] = 0
    after = looked(policy).dead()
    assert after[1] == pytest.approx(0.5 + before[1] / 2, abs=0.03)
    assert after[0] == before[0]


def test_a_layer_that_is_not_finite_is_counted():
    policy = tiny("0.1m", seed=2)
    with torch.no_grad():
        policy.model.model.layers[1].mlp.down_proj.weight[0, 0] = math.nan
    probe = HealthProbe(policy.model, 1, peak_flops=1e9)
    probe.begin(1, policy.trainable())
    (-policy.scores(pack_one(rows(policy))).logprob_N.mean()).backward()
    probe.before_update(1e-3)
    metrics = probe.after_update()
    assert metrics["health/nonfinite_layers"] == 1.0
    assert math.isnan(metrics["health/activation_rms/layer_01"])
    assert math.isfinite(metrics["health/activation_rms/layer_00"])
    assert metrics["health/update_ratio"] is None


def test_attention_entropy_by_hand():
    """Scores ln 9 and 0 give weights 0.9 and 0.1: 0.325/ln 2 = 0.469; equal ones 1. The first query sees one key."""
    policy = tiny("0.1m")
    calls = plan_for(pack_one([Sample("a", (1, 2), ())])).calls
    query = torch.tensor([[[[0.0], [1.0]], [[0.0], [0.0]]]])
    key = torch.tensor([[[[math.log(9)], [0.0]]]])
    found = attention_entropy(calls, query, key, 1.0)
    assert found.tolist() == pytest.approx([-(0.9 * math.log(0.9) + 0.1 * math.log(0.1)) / math.log(2), 1.0], abs=1e-6)
    single = plan_for(pack_one([Sample("a", (1,), ())])).calls
    assert attention_entropy(single, query[:, :, :1], key[:, :, :1], 1.0) is None
    assert 0 < float(looked(policy).entropies()[0].min()) <= float(looked(policy).entropies()[0].max()) <= 1


def test_groups_are_layers_embedding_head_and_the_rest():
    names = {
        "model.layers.11.mlp.up_proj.weight": "layer_11",
        "transformer.h.0.attn.c_attn.weight": "layer_00",
        "transformer.wte.weight": "embedding",
        "lm_head.weight": "head",
        "model.norm.weight": "other",
    }
    assert {name: group_of(name) for name in names} == names


def test_update_ratios_and_gradient_norms_by_hand():
    """w = (3, 4), Δw = (0.3, 0.4): 0.5/5 = 0.1; the other group stays; all: √(0.25/(25 + 4))."""
    first = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    second = torch.nn.Parameter(torch.tensor([[2.0]]))
    unused = torch.nn.Parameter(torch.tensor([5.0]))
    first.grad, second.grad = torch.tensor([6.0, 8.0]), torch.tensor([[1.0]])
    named = {"h.0.w": first, "head.weight": second, "other": unused}
    assert gradient_norms(named) == {"layer_00": 10.0, "head": 1.0}
    updates = Updates(named)
    with torch.no_grad():
        first.mul_(1.1)
    found = updates.ratios()
    assert found["layer_00"] == pytest.approx(0.1, rel=1e-5)
    assert found["head"] == 0
    assert found["all"] == pytest.approx(math.sqrt(0.25 / 29), rel=1e-5)
    assert set(found) == {"all", "layer_00", "head"}


def test_weights_of_zero_have_no_ratio():
    zero = torch.nn.Parameter(torch.zeros(3))
    zero.grad = torch.ones(3)
    assert Updates({"w": zero}).ratios() == {"all": None, "other": None}


def test_large_tensors_are_compared_by_numbers_from_all_their_columns():
    draw = torch.Generator().manual_seed(0)
    value = torch.nn.Parameter(torch.randn(3000, 128, generator=draw))
    value.grad = torch.ones_like(value)
    updates = Updates({"w": value})
    change = torch.randn(3000, 128, generator=draw) * torch.linspace(0, 1, 128)
    exact = float(change.norm() / value.detach().norm())
    with torch.no_grad():
        value.add_(change)
    assert updates.ratios()["all"] == pytest.approx(exact, rel=0.01)
    assert next(iter(updates._before.values())).numel() <= MOST


def test_flops_by_hand():
    """N = 2·(4·64² heads' matrices and 3·64·170) + the head 64·259; two documents of 10 and 20 tokens."""
    policy = tiny("0.1m", num_key_value_heads=2, intermediate_size=170)
    layers = 2 * (4 * 64 * 64 + 3 * 64 * 170)
    matrices = layers + 64 * policy.model.config.vocab_size
    attention = 6 * 2 * 2 * (32 + 32) * (10**2 + 20**2)
    assert step_flops(policy.model, [10, 20]) == 6 * matrices * 30 + attention
    choose_trainable(policy, TrainableSettings(trainable="last_k", last_layers=1))
    frozen_head = 4 * 64 * policy.model.config.vocab_size
    assert step_flops(policy.model, [10]) == (6 * layers / 2 + frozen_head) * 10 + 6 * 2 * 64 * 10**2


def test_the_peak_is_measured_once_and_is_a_rate():
    assert 1e8 < measured_peak() < 1e16
    assert measured_peak() == measured_peak()


def test_a_step_without_a_pass_has_no_metrics_of_passes():
    policy = tiny("0.1m")
    probe = HealthProbe(policy.model, 1, peak_flops=1e12)
    probe.begin(1, policy.trainable())
    probe.before_update(1e-3)
    metrics = probe.after_update()
    assert set(metrics.values()) == {None}
    assert {"health/update_ratio", "health/mfu", "health/dead_units"} <= set(metrics)


def test_the_table_builds_it_with_and_without_an_interval():
    policy = tiny("0.1m")
    assert health(None, policy.model).every == 10
    assert health(3, policy.model).every == 3
    assert unit_reader(torch.nn.Linear(1, 1)) is None
