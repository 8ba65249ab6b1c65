"""The live sharpness probe: eigenvalues against numpy, Adam's form by hand, weights put back bitwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trimpot.core.rows import ChatRow, Message
from trimpot.core.tensors import pack_one
from trimpot.data.prepare import tokenise
from trimpot.data.template import ChatTemplate
from trimpot.models.tiny import tiny
from trimpot.probes.curvature.hessian import SpectrumSettings, hessian_of, top_eigenvalues
from trimpot.probes.curvature.of_policy import surface_of
from trimpot.probes.health_sharpness import Differences, NeedsLoss, SharpnessProbe, largest
from trimpot.probes.step import StepProbe


def test_lanczos_without_storage_finds_the_largest_and_bounds_its_error():
    root = np.random.default_rng(0).standard_normal((80, 80))
    matrix = torch.tensor(root @ root.T / 80 - np.eye(80))
    values = np.linalg.eigvalsh(matrix.numpy())
    for iterations in (5, 60):
        value, residual = largest(lambda v: [matrix @ v[0]], [torch.zeros(80, dtype=torch.float64)], iterations, 1)
        assert value <= values[-1] + 1e-9
        assert np.abs(values - value).min() <= residual + 1e-9
    assert value == pytest.approx(values[-1], rel=1e-4)


def test_lanczos_ends_early_and_gives_nothing_for_what_is_not_finite():
    like = [torch.zeros(3), torch.zeros(1)]
    assert largest(lambda v: [2 * one for one in v], like, 10, 0)[0] == pytest.approx(2, rel=1e-5)
    assert largest(lambda v: [0 * one for one in v], like, 10, 0) == (0, 0)
    assert largest(lambda v: [one * torch.nan for one in v], like, 10, 0) is None


def test_it_is_a_probe_that_needs_the_loss():
    probe: StepProbe = SharpnessProbe()
    assert isinstance(probe, NeedsLoss)
    assert probe.every == 100


def test_on_a_quadratic_both_limits_are_those_of_the_equations():
    """f = ½Σhw²: λ_max = 8. Adam after one step with gradient g: v/(1 − β₂) = g², P = (1 − β₁)(|g| + ε), so at
    g = (2, 4), h = (8, 2) the widened values are 8/(0.1·2) = 40 and 2/(0.1·4) = 5, and the limit 38/η.
    """
    h = torch.tensor([8.0, 2.0])
    w = torch.nn.Parameter(torch.tensor([0.5, 0.25]))
    optimizer = torch.optim.AdamW([w], lr=0.1, weight_decay=0.0)
    probe = SharpnessProbe(iterations=4)

    def look():
        probe.begin(1, {"w": w})
        probe.use(lambda: (h * w.square()).sum() / 2, optimizer)
        probe.before_update(0.1)
        return probe.after_update()

    first = look()
    assert first["sharpness/lambda_max"] == pytest.approx(8, rel=1e-3)
    assert first["sharpness/over_limit"] == pytest.approx(8 * 0.1 / 2, rel=1e-3)
    assert first["sharpness/adam_lambda_max"] is None
    w.grad = torch.tensor([2.0, 4.0])
    optimizer.step()
    second = look()
    assert second["sharpness/adam_lambda_max"] == pytest.approx(40, rel=1e-3)
    assert second["sharpness/adam_over_limit"] == pytest.approx(40 * 0.1 / 38, rel=1e-3)


def test_without_a_loss_it_measures_nothing():
    probe = SharpnessProbe()
    probe.begin(1, {"w": torch.nn.Parameter(torch.ones(1))})
    probe.before_update(0.1)
    assert set(probe.after_update().values()) == {None}


def test_on_a_language_model_it_agrees_with_the_exact_hessian_and_changes_nothing():
    policy = tiny("0.1m", seed=3)
    chats = [ChatRow((Message("user", f"{one}?"), Message("assistant", one))) for one in ("a", "stone", "sea")]
    samples = tokenise(chats, ChatTemplate(policy.tokenizer), 100).samples
    surface = surface_of(policy, samples)
    exact = top_eigenvalues(hessian_of(surface), surface.size, SpectrumSettings(tolerance=1e-3)).largest
    parameters = policy.trainable()
    for value in parameters.values():
        value.grad = torch.ones_like(value)
    before, state = policy.weights_hash(), torch.get_rng_state()
    probe = SharpnessProbe(iterations=15)
    probe.begin(1, parameters)
    probe.use(lambda: -policy.scores(pack_one(samples)).logprob_N.mean(), torch.optim.AdamW(parameters.values()))
    probe.before_update(1e-3)
    found = probe.after_update()
    assert found["sharpness/lambda_max"] == pytest.approx(exact, rel=0.03)
    assert policy.weights_hash() == before
    assert torch.equal(torch.get_rng_state(), state)
    assert all(bool((value.grad == 1).all()) for value in parameters.values())


def test_differences_put_weights_back_after_an_error():
    w = torch.nn.Parameter(torch.tensor([0.1, 0.7]))
    before = w.detach().clone()

    def broken():
        raise RuntimeError("no pass")

    with pytest.raises(RuntimeError, match="no pass"), Differences(broken, [w]) as product:
        product([torch.ones(2)])
    assert torch.equal(w.detach(), before)
