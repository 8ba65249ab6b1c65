"""Eigenvalues and traces against numpy; the Hessian of a language model against differences of its gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trimpot.core.errors import UsageError
from trimpot.core.rows import ChatRow, Message
from trimpot.core.samples import Sample
from trimpot.core.tensors import pack_one
from trimpot.data.prepare import tokenise
from trimpot.data.template import ChatTemplate
from trimpot.models.adapters import TrainableSettings, choose_trainable
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny
from trimpot.probes.curvature.hessian import SpectrumSettings, hessian_of, hessian_trace, top_eigenvalues
from trimpot.probes.curvature.of_policy import part_of, surface_of
from trimpot.probes.curvature.rescale import linear_pairs, rescaled
from trimpot.probes.curvature.surface import Surface, flat

WORDS = ("a", "stone", "in the sea", "of green glass")


def rows(policy: Policy) -> tuple[Sample, ...]:
    chats = [ChatRow((Message("user", f"{one}?"), Message("assistant", f"{one} {at}"))) for at, one in enumerate(WORDS)]
    return tokenise(chats, ChatTemplate(policy.tokenizer, policy.virtual_ids), 200).samples


def symmetric(size: int, seed: int) -> np.ndarray:
    root = np.random.default_rng(seed).standard_normal((size, size))
    return (root + root.T) / 2


@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude"])
@pytest.mark.parametrize("size", [6, 60])
def test_eigenvalues_are_numpys_at_every_end(which, size):
    matrix = symmetric(size, 1)
    values = np.linalg.eigvalsh(matrix)
    wanted = {"largest": values[-2:], "smallest": values[:2], "magnitude": sorted(values, key=abs)[-2:]}[which]
    found = top_eigenvalues(lambda v: matrix @ v, size, SpectrumSettings(2, which, 1e-8))
    assert [one.value for one in found.eigenvalues] == pytest.approx(sorted(wanted, reverse=True), abs=1e-6)
    assert all(one.residual < 1e-5 for one in found.eigenvalues)
    assert found.converged
    assert found.largest == found.eigenvalues[0].value


def test_a_search_that_is_cut_short_says_so_and_its_residual_bounds_the_error():
    matrix = symmetric(400, 2)
    found = top_eigenvalues(lambda v: matrix @ v, 400, SpectrumSettings(6, tolerance=1e-14, iterations=1))
    assert not found.converged
    loose = top_eigenvalues(lambda v: matrix @ v, 400, SpectrumSettings(1, tolerance=0.1)).eigenvalues[0]
    assert np.abs(np.linalg.eigvalsh(matrix) - loose.value).min() <= loose.residual + 1e-9


def test_too_large_a_model_and_an_unknown_end_are_refused():
    with pytest.raises(UsageError, match="Name a part of the model"):
        top_eigenvalues(lambda v: v, 10**9)
    with pytest.raises(UsageError, match="'biggest' is not an end"):
        top_eigenvalues(lambda v: v, 3, SpectrumSettings(which="biggest"))


def test_the_trace_by_hand():
    """H = [[2, 1], [1, 3]]: (1, 1) and (−1, −1) give 7, the other two 3."""
    matrix = np.array([[2.0, 1.0], [1.0, 3.0]])
    single = hessian_trace(lambda v: matrix @ v, 2, vectors=1)
    assert single.value in (3.0, 7.0)
    assert (single.low, single.n) == (None, 1)
    many = hessian_trace(lambda v: matrix @ v, 2, vectors=400)
    assert many.low < 5 < many.high
    diagonal = hessian_trace(lambda v: 2 * v, 7, vectors=3)
    assert (diagonal.value, diagonal.low, diagonal.high) == (14.0, 14.0, 14.0)


def test_the_interval_of_the_trace_holds_its_level():
    matrix = symmetric(30, 3)
    held = [hessian_trace(lambda v: matrix @ v, 30, 16, seed) for seed in range(200)]
    inside = sum(one.low <= np.trace(matrix) <= one.high for one in held)
    assert 180 <= inside <= 200


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_products_are_those_of_the_whole_hessian_on_a_small_net(seed):
    draw = torch.Generator().manual_seed(seed)
    inputs, labels = torch.randn(9, 3, generator=draw, dtype=torch.float64), torch.randint(2, (9,), generator=draw)
    weights = {"w": torch.randn(4, 3, generator=draw), "v": torch.randn(2, 4, generator=draw)}

    def loss(named):
        return torch.nn.functional.cross_entropy(torch.tanh(inputs @ named["w"].T) @ named["v"].T, labels)

    surface = Surface.of(loss, weights)
    point = torch.tensor(surface.point())

    def of_flat(x):
        return loss({"w": x[:12].view(4, 3), "v": x[12:].view(2, 4)})

    matrix = torch.autograd.functional.hessian(of_flat, point).numpy()
    products = np.stack([surface.product(surface.point(), one) for one in np.eye(20)])
    np.testing.assert_allclose(products, matrix, atol=1e-10)
    assert hessian_trace(hessian_of(surface), 20, 64, seed).n == 64


def test_weights_that_are_not_read_and_losses_that_are_linear_have_no_curvature():
    surface = Surface.of(lambda w: 3 * w["a"].sum(), {"a": torch.ones(2), "b": torch.ones(1)})
    assert surface.product(surface.point(), np.ones(3)).tolist() == [0, 0, 0]
    constant = Surface.of(lambda w: torch.tensor(1.0), {"a": torch.ones(2)})
    assert constant.product(constant.point(), np.ones(2)).tolist() == [0, 0]
    assert constant.value_and_gradient(constant.point())[1].tolist() == [0, 0]


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt2"])
def test_a_policys_surface_has_its_loss_and_gradient_and_symmetric_products(architecture):
    policy = tiny("0.1m", architecture, seed=1)
    samples = rows(policy)
    before = policy.weights_hash()
    surface = surface_of(policy, samples, token_budget=70)
    assert len(surface.parts) > 1
    x = surface.point()
    value, gradient = surface.value_and_gradient(x)
    scores = policy.scores(pack_one(samples)).logprob_N
    assert value == pytest.approx(-float(scores.mean()), abs=1e-5)
    found = torch.autograd.grad(-scores.mean(), list(policy.trainable().values()))
    np.testing.assert_allclose(gradient, flat(found), atol=1e-5)
    draw = np.random.default_rng(0)
    v, u = draw.standard_normal((2, surface.size))
    product = surface.product(x, v)
    assert u @ product == pytest.approx(v @ surface.product(x, u), rel=1e-9)
    h = 1e-5
    upper, lower = (surface.value_and_gradient(x + sign * h * v)[1] for sign in (1, -1))
    np.testing.assert_allclose(product, (upper - lower) / (2 * h), atol=1e-4 * np.abs(product).max())
    assert policy.weights_hash() == before
    assert torch.equal(policy.scores(pack_one(samples)).logprob_N, scores)


def test_a_part_moves_alone_and_is_named_by_a_piece_of_its_name():
    policy = tiny("0.1m", seed=1)
    samples = rows(policy)
    part = surface_of(policy, samples, "layers.1.mlp")
    assert set(part.weights) == {name for name in policy.trainable() if "layers.1.mlp" in name}
    whole = surface_of(policy, samples)
    assert part.value(part.point()) == pytest.approx(whole.value(whole.point()), rel=1e-12)
    assert part_of(policy, "layers.1").keys() > part.weights.keys()
    # Not layers.1 in layers.10, and no half of a name.
    with pytest.raises(UsageError, match="is in no trainable weight"):
        part_of(policy, "layers.1.ml")


def test_lora_and_the_last_layers_are_surfaces_of_what_trains():
    policy = tiny("0.1m", seed=1)
    choose_trainable(policy, TrainableSettings(trainable="last_k", last_layers=1))
    samples = rows(policy)
    assert surface_of(policy, samples).size == sum(one.numel() for one in policy.trainable().values())
    adapted = tiny("0.1m", seed=1)
    choose_trainable(adapted, TrainableSettings(trainable="lora", lora_rank=2))
    surface = surface_of(adapted, samples)
    _, gradient = surface.value_and_gradient(surface.point())
    assert np.linalg.norm(gradient) > 0
    assert linear_pairs(tuple(surface.weights)) == ()


def test_a_rescaled_language_model_computes_the_same():
    policy = tiny("0.1m", seed=1)
    surface = surface_of(policy, rows(policy))
    pairs = linear_pairs(tuple(surface.weights))
    assert len(pairs) == 4
    other = flat(rescaled(surface.weights, pairs, 4.0).values())
    assert surface.value(other) == pytest.approx(surface.value(surface.point()), rel=1e-12)


def test_rows_without_targets_are_refused():
    policy = tiny("0.1m", seed=1)
    with pytest.raises(UsageError, match="no target token"):
        surface_of(policy, [])
