"""Sharpness in boxes and balls, against closed forms on quadratics; the rescaling control on equal networks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trimpot.core.errors import UsageError
from trimpot.probes.curvature.ball import BallSettings, ball_sharpness
from trimpot.probes.curvature.box import BoxSettings, box_sharpness, random_directions
from trimpot.probes.curvature.rescale import linear_pairs, rescaled, rescaling_control
from trimpot.probes.curvature.surface import Surface, flat


def quadratic(hessian: np.ndarray, gradient: np.ndarray, x: np.ndarray, level: float = 0.5) -> Surface:
    """f(x + d) = level + gᵀd + ½ dᵀHd around x."""
    matrix, slope, centre = (torch.tensor(one, dtype=torch.float64) for one in (hessian, gradient, x))

    def loss(weights):
        d = weights["x"] - centre
        return level + slope @ d + d @ matrix @ d / 2

    return Surface.of(loss, {"x": centre})


def symmetric(size: int, seed: int) -> np.ndarray:
    root = np.random.default_rng(seed).standard_normal((size, size))
    return root @ root.T / size


@pytest.mark.parametrize("epsilon", [1e-3, 5e-4])
def test_phi_in_the_full_space_is_that_of_the_closed_form_on_a_diagonal_quadratic(epsilon):
    """Each coordinate by itself: the highest point of ½hd² + gd in [−r, r] is at ±r: ½hr² + |g|r."""
    draw = np.random.default_rng(3)
    h, g, x = draw.uniform(0.1, 50, 40), draw.standard_normal(40), draw.standard_normal(40)
    r = epsilon * (np.abs(x) + 1)
    by_hand = 100 * (h * r**2 / 2 + np.abs(g) * r).sum() / 1.5
    found = box_sharpness(quadratic(np.diag(h), g, x), BoxSettings(epsilon))
    assert found.phi == pytest.approx(by_hand, rel=1e-9)
    assert (found.loss, found.size) == (pytest.approx(0.5), 40)


def test_phi_at_an_exact_minimum_needs_a_random_start_and_finds_the_corner():
    """g = 0: 100 · Σ ½hr²/(1 + f)."""
    h, x = np.array([1.0, 4.0, 9.0]), np.array([0.0, 1.0, -2.0])
    r = 0.1 * (np.abs(x) + 1)
    found = box_sharpness(quadratic(np.diag(h), np.zeros(3), x), BoxSettings(0.1))
    assert found.phi == pytest.approx(100 * (h * r**2 / 2).sum() / 1.5, rel=1e-9)


def test_phi_in_a_random_subspace_is_that_of_the_quadratic_there():
    """f(x + Az) is a quadratic with slope Aᵀg and Hessian AᵀHA; slopes dominate: the corner sign(Aᵀg)."""
    draw = np.random.default_rng(5)
    x, g = draw.standard_normal(50), draw.standard_normal(50)
    hessian = symmetric(50, 6)
    a = random_directions(50, 8, 11)
    r = 1e-3 * (np.abs(np.linalg.pinv(a) @ x) + 1)
    corner = np.sign(a.T @ g) * r
    by_hand = 100 * (g @ a @ corner + corner @ a.T @ hessian @ a @ corner / 2) / 1.5
    every = [np.array(signs) * r for signs in itertools.product((-1, 1), repeat=8)]
    assert by_hand == pytest.approx(max(100 * (g @ a @ z + z @ a.T @ hessian @ a @ z / 2) / 1.5 for z in every))
    found = box_sharpness(quadratic(hessian, g, x), BoxSettings(1e-3, directions=8, seed=11))
    assert found.phi == pytest.approx(by_hand, rel=1e-9)
    assert found.directions == 8


def test_more_starts_find_the_highest_of_all_corners_of_a_coupled_quadratic():
    """At a minimum of a coupled quadratic corners are local maxima; of the 32 the best is known by trying all."""
    hessian, x = symmetric(5, 2), np.zeros(5)
    surface = quadratic(hessian, np.zeros(5), x)
    best = max(np.array(signs) @ hessian @ np.array(signs) / 2 for signs in itertools.product((-1, 1), repeat=5))
    found = box_sharpness(surface, BoxSettings(1.0, starts=12))
    assert found.phi == pytest.approx(100 * best / 1.5, rel=1e-9)
    assert box_sharpness(surface, BoxSettings(1.0, starts=1)).phi <= found.phi + 1e-9


def test_phi_does_not_depend_on_the_unit_of_the_search():
    """The search is in u = z/r with a scaled f: a loss a million times as flat still reaches its corners."""
    x, g = np.zeros(30), np.full(30, 1e-7)
    found = box_sharpness(quadratic(np.zeros((30, 30)), g, x), BoxSettings(1e-3))
    assert found.phi == pytest.approx(100 * 30 * 1e-7 * 1e-3 / 1.5, rel=1e-6)


def test_directions_are_a_function_of_the_seed():
    assert np.array_equal(random_directions(7, 3, 1), random_directions(7, 3, 1))
    assert not np.array_equal(random_directions(7, 3, 1), random_directions(7, 3, 2))


def test_what_does_not_fit_in_memory_and_a_loss_without_a_meaning_are_refused(monkeypatch):
    monkeypatch.setattr("trimpot.probes.curvature.box.MOST_BYTES", 1000)
    surface = quadratic(np.eye(9), np.zeros(9), np.zeros(9))
    with pytest.raises(UsageError, match="the full space of 9 weights"):
        box_sharpness(surface)
    with pytest.raises(UsageError, match="a subspace of 100 directions"):
        box_sharpness(surface, BoxSettings(directions=100))
    with pytest.raises(UsageError, match="relative to 1 \\+ loss"):
        box_sharpness(quadratic(np.eye(2), np.zeros(2), np.zeros(2), level=-1.0))


def test_a_box_that_holds_nan_ends_with_what_was_seen():
    surface = Surface.of(lambda w: torch.where(w["x"] > 0.01, torch.nan, w["x"]).sum(), {"x": torch.zeros(2)})
    assert 0 <= box_sharpness(surface, BoxSettings(1.0)).phi <= 2.0


def test_the_ball_of_a_quadratic_at_its_minimum_rises_by_half_the_largest_eigenvalue():
    hessian = symmetric(6, 4)
    top = np.linalg.eigvalsh(hessian)[-1]
    found = ball_sharpness(quadratic(hessian, np.zeros(6), np.ones(6)), BallSettings(0.2, iterations=200))
    assert found.rise == pytest.approx(top * 0.2**2 / 2, rel=1e-6)


def test_the_first_step_is_sams():
    hessian, g = symmetric(6, 4), np.arange(6.0)
    e = 0.3 * g / np.linalg.norm(g)
    found = ball_sharpness(quadratic(hessian, g, np.zeros(6)), BallSettings(0.3))
    assert found.first == pytest.approx(g @ e + e @ hessian @ e / 2)
    assert found.rise >= found.first


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_on_a_convex_function_every_further_step_is_at_least_as_high(seed):
    draw = np.random.default_rng(seed)
    surface = quadratic(symmetric(4, seed), draw.standard_normal(4), draw.standard_normal(4))
    rises = [ball_sharpness(surface, BallSettings(0.5, iterations=count)).rise for count in (1, 2, 5)]
    assert rises[0] <= rises[1] + 1e-12 <= rises[2] + 2e-12


def two_layers(weights, inputs):
    hidden = torch.relu(inputs @ weights["first"].T + weights["bias"])
    return hidden @ weights["second"].T


def net():
    draw = torch.Generator().manual_seed(0)
    shapes = {"first": (6, 4), "bias": (6,), "second": (3, 6)}
    weights = {name: torch.randn(shape, generator=draw, dtype=torch.float64) for name, shape in shapes.items()}
    inputs = torch.randn(20, 4, generator=draw, dtype=torch.float64)
    labels = torch.randint(3, (20,), generator=draw)
    return weights, inputs, labels


PAIRS = (("first", "second"), ("bias", "second"))


def test_rescaled_networks_compute_the_same_and_differ_in_phi_but_not_in_the_adaptive_rise():
    weights, inputs, labels = net()
    other = rescaled(weights, PAIRS, 8.0)
    assert torch.equal(other["first"], 8 * weights["first"])
    assert torch.equal(other["second"], weights["second"] / 8)
    torch.testing.assert_close(two_layers(other, inputs), two_layers(weights, inputs), rtol=1e-12, atol=1e-12)
    surface = Surface.of(lambda w: torch.nn.functional.cross_entropy(two_layers(w, inputs), labels), weights)
    phi = rescaling_control(surface, PAIRS, lambda at, x: box_sharpness(at, BoxSettings(), x).phi, 8.0)
    assert phi.change < 1e-12
    assert phi.ratio > 1.5
    wide = BallSettings(0.1, adaptive=True)
    adaptive = rescaling_control(surface, PAIRS, lambda at, x: ball_sharpness(at, wide, x).rise, 8.0)
    assert adaptive.ratio == pytest.approx(1, abs=1e-9)
    plain = rescaling_control(surface, PAIRS, lambda at, x: ball_sharpness(at, BallSettings(0.1), x).rise, 8.0)
    assert abs(plain.ratio - 1) > 0.05
    known = rescaling_control(surface, PAIRS, lambda at, x: 7.0, before=2.0)
    assert (known.before, known.after, known.ratio) == (2.0, 7.0, 3.5)


def test_without_pairs_there_is_no_control_and_pairs_need_both_sides():
    weights, inputs, _ = net()
    surface = Surface.of(lambda w: two_layers(w, inputs).square().mean(), weights)
    assert rescaling_control(surface, (), lambda at, x: 1.0) is None
    layer = "model.layers.0"
    names = [f"{layer}.mlp.up_proj.weight", f"{layer}.mlp.down_proj.weight", f"{layer}.self_attn.v_proj.bias"]
    assert linear_pairs(names) == ((names[0], names[1]),)


def test_flat_and_the_point_hold_weights_in_their_order():
    surface = Surface.of(lambda w: w["b"].sum(), {"b": torch.tensor([[1.0, 2.0]]), "a": torch.tensor(3.0)})
    assert surface.point().tolist() == [1, 2, 3]
    assert surface.size == 3
    value, gradient = surface.value_and_gradient(surface.point())
    assert (value, gradient.tolist()) == (3.0, [1, 1, 0])
    assert flat([]).tolist() == []
