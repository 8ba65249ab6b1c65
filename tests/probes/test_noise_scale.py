"""The noise scale of a model on rows: held against gradients taken one example at a time, and its words."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from trimpot.core.rows import ChatRow, Message
from trimpot.core.samples import Sample
from trimpot.core.stats import Estimate
from trimpot.core.tensors import pack_one
from trimpot.data.prepare import tokenise
from trimpot.data.template import ChatTemplate
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny
from trimpot.probes.noise_scale import NoiseScaleSettings, measure_noise_scale
from trimpot.probes.noise_scale_advice import advise
from trimpot.probes.noise_scale_norms import NormGradients, norm_layers
from trimpot.statistics.noise_scale import noise_scale_of_examples

WORDS = ("a", "stone", "in the sea", "of green glass", "x", "zebra crossing", "why", "no more of this")


def rows(policy: Policy) -> tuple[Sample, ...]:
    chats = [
        ChatRow((Message("user", f"{word}?"), Message("assistant", f"{word} {at}"))) for at, word in enumerate(WORDS)
    ]
    return tokenise(chats, ChatTemplate(policy.tokenizer), 200).samples


def by_hand(
    policy: Policy, samples: tuple[Sample, ...], names: set[str] | None = None
) -> tuple[torch.Tensor, list[float]]:
    """Every example's gradient of its summed log-loss over all target tokens: [B, P], by autograd; and the shares."""
    targets = sum(one.targets for one in samples)
    chosen = [value for name, value in policy.trainable().items() if names is None or name in names]
    found = []
    for sample in samples:
        loss = -policy.scores(pack_one([sample])).logprob_N.sum() / targets
        parts = torch.autograd.grad(loss, chosen, allow_unused=True, materialize_grads=True)
        found.append(torch.cat([part.flatten() for part in parts]).double())
    return torch.stack(found), [one.targets / targets for one in samples]


def settings(**changes) -> NoiseScaleSettings:
    return NoiseScaleSettings(**{"examples": 8, "token_budget": 90, "batch": 2, **changes})


def test_the_exact_method_is_that_of_the_gradients_one_by_one_and_leaves_the_model_as_it_was() -> None:
    policy = tiny("0.1m")
    samples = rows(policy)
    before = policy.weights_hash()
    own, shares = by_hand(policy, samples)
    whole = own.sum(0)
    hand = noise_scale_of_examples(own.norm(dim=1), own @ whole, shares, float(whole.norm()))
    told: list[tuple[int, int]] = []
    state = torch.get_rng_state()
    found = measure_noise_scale(policy, samples, settings(), progress=lambda done, total: told.append((done, total)))
    for name in ("simple", "trace", "squared_gradient"):
        one, other = getattr(found.scale, name), getattr(hand, name)
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), rel=1e-3)
    assert told[-1] == (16, 16)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert policy.weights_hash() == before
    assert torch.equal(torch.get_rng_state(), state)
    assert all(value.grad is None for value in policy.trainable().values())
    assert (found.examples, found.warning) == (8, "")
    assert found.targets == pytest.approx(sum(one.targets for one in samples) / 8)
    assert found.simple_tokens == pytest.approx(found.scale.simple.value * found.tokens)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt2"])
def test_the_norm_layers_gradients_are_those_of_the_examples_one_by_one(architecture: str) -> None:
    policy = tiny("0.1m", architecture)
    with torch.no_grad():  # at initialisation every norm weight is 1
        for layer in norm_layers(policy.model).values():
            layer.weight.mul_(1 + 0.3 * torch.sin(torch.arange(layer.weight.numel())))
    samples = rows(policy)
    layers = norm_layers(policy.model)
    assert len(layers) >= 5
    names = [f"{name}.{part}" for name, layer in layers.items() for part, _ in layer.named_parameters()]
    own, shares = by_hand(policy, samples, set(names))
    assert [name for name in policy.trainable() if name in names] == names
    recorder = NormGradients(policy.model)
    targets = sum(one.targets for one in samples)
    with recorder.recording():
        for group in (samples[:3], samples[3:]):
            batch = pack_one(group)
            recorder.begin(batch)
            (-policy.scores(batch).logprob_N.sum() / targets).backward()
            recorder.end()
    rows_P = torch.stack(recorder.rows_P).double()
    assert rows_P.shape == own.shape
    assert torch.allclose(rows_P, own, rtol=1e-3, atol=1e-6 * float(own.abs().max()) + 1e-7)
    for value in policy.trainable().values():
        value.grad = None
    found = measure_noise_scale(policy, samples, settings(method="norms"))
    whole = own.sum(0)
    hand = noise_scale_of_examples(own.norm(dim=1), own @ whole, shares, float(whole.norm()))
    assert found.scale.simple.value == pytest.approx(hand.simple.value, rel=2e-3)
    assert found.norms == found.scale


def test_the_rows_measured_are_a_draw_of_the_seed() -> None:
    policy = tiny("0.1m")
    first, again, other = (
        measure_noise_scale(policy, rows(policy), settings(examples=4, method="norms", seed=seed)).scale.simple.value
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_minutes_that_do_not_suffice_give_fewer_rows_and_a_warning() -> None:
    policy = tiny("0.1m")
    found = measure_noise_scale(policy, rows(policy), settings(minutes=1e-6))
    assert found.examples == 3
    assert found.warning.startswith("3 of 8 fit in")


@pytest.mark.parametrize("changes", [{"method": "guess"}, {"examples": 2}])
def test_what_cannot_be_measured_is_refused(changes) -> None:
    policy = tiny("0.1m")
    with pytest.raises(ValueError):
        measure_noise_scale(policy, rows(policy), settings(**changes))


SIMPLE = Estimate(100.0, 60.0, 160.0, 64, "")


def test_a_batch_below_the_interval_is_small_and_the_advice_has_its_cost_in_steps_and_examples() -> None:
    found = advise(SIMPLE, 8)
    assert found.verdict == "small"
    assert found.other.batch == 128
    # 1 + 100/8 = 13.5; 1 + 8/100 = 1.08; at 128: 1.78125 and 2.28.
    assert (found.now.steps, found.now.examples) == (13.5, 1.08)
    assert "13.5x the fewest steps and 1.08x the fewest examples" in found.text
    assert f"{1.78125 / 13.5:.3g}x the steps and {2.28 / 1.08:.3g}x the examples" in found.text
    assert found.rates == pytest.approx(((13.5 / 1.78125) ** 0.5, 13.5 / 1.78125))
    assert (found.now.steps - 1) * (found.now.examples - 1) == pytest.approx(1)


def test_a_batch_in_the_interval_is_kept_and_one_above_it_is_large() -> None:
    assert advise(SIMPLE, 100).verdict == "balanced"
    large = advise(SIMPLE, 1000)
    assert large.verdict == "large"
    assert large.rates[0] < 1


def test_a_batch_near_the_value_is_kept_though_the_interval_is_narrow() -> None:
    narrow = dataclasses.replace(SIMPLE, low=95.0, high=105.0)
    assert [advise(narrow, batch).verdict for batch in (40, 60, 190, 210)] == ["small", "balanced", "balanced", "large"]


def test_without_an_upper_limit_a_batch_is_small_only_below_the_lower() -> None:
    open_end = dataclasses.replace(SIMPLE, high=None)
    assert advise(open_end, 1000).verdict == "balanced"
    assert "measure more" in advise(open_end, 1000).text
    assert advise(open_end, 8).verdict == "small"


def test_without_a_value_the_lower_limit_is_told() -> None:
    nothing = Estimate(None, 40.0, None, 64, "")
    assert advise(nothing, 8).verdict == "unknown"
    assert "above 40" in advise(nothing, 8).text
    assert "is not known" in advise(Estimate(None, 0.0, None, 64, ""), 8).text
