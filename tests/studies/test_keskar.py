"""Keskar's study on digits: the network by torch's own modules, the sharpness of what was trained, a small run."""

import dataclasses
import itertools

import pytest
import torch

from trimpot.probes.curvature.rescale import rescaled
from trimpot.store.ledger import Ledger
from trimpot.studies.chart import draw
from trimpot.studies.dense import WIDTHS, descend, error, initial_weights, outputs
from trimpot.studies.digits import split
from trimpot.studies.keskar import ARMS, PAIRS, SMALL, STRETCH, STUDY, run, surface
from trimpot.studies.study import Budget


@pytest.mark.parametrize(("name", "kind"), [("relu", torch.nn.ReLU), ("tanh", torch.nn.Tanh)])
def test_the_network_is_the_one_that_torch_modules_make(name, kind):
    weights = initial_weights(0)
    assert sum(value.numel() for value in weights.values()) == 8970
    layers = [torch.nn.Linear(one, other) for one, other in itertools.pairwise(WIDTHS)]
    for number, layer in enumerate(layers, start=1):
        layer.weight = torch.nn.Parameter(weights[f"w{number}"] + 0.01)
        layer.bias = torch.nn.Parameter(weights[f"b{number}"] + 0.01)
        weights[f"w{number}"], weights[f"b{number}"] = layer.weight, layer.bias
    network = torch.nn.Sequential(torch.nn.Flatten(), layers[0], kind(), layers[1], kind(), layers[2])
    images = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(outputs(weights, images, name), network(images))


def test_training_repeats_bitwise_and_learns_and_a_large_batch_takes_fewer_steps():
    train, test = split(0, 200)
    weights = descend(train, SMALL, 20, 0.1, 5)
    again = descend(train, SMALL, 20, 0.1, 5)
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert error(weights, test) < 25 < error(initial_weights(5), test)
    large = descend(train, 200, 20, 0.1, 5)
    assert error(large, train) > error(weights, train)


def test_rescaling_leaves_the_loss_and_the_surface_is_the_loss():
    train, _ = split(0, 50)
    found = surface(initial_weights(3), train)
    value = torch.nn.functional.cross_entropy(outputs(initial_weights(3), train.images_N), train.labels_N)
    assert found.value(found.point()) == pytest.approx(float(value.detach()), rel=1e-5)
    stretched = dataclasses.replace(found, weights=rescaled(found.weights, PAIRS, STRETCH))
    assert stretched.value(stretched.point()) == pytest.approx(found.value(found.point()), rel=1e-12)
    assert not torch.equal(stretched.weights["w3"], found.weights["w3"])


def test_arms_differ_in_batch_passes_rate_or_draws_and_the_control_in_draws_alone():
    for budget in STUDY.budgets.values():
        assert STUDY.control.applies(budget.arms)
        assert budget.seeds >= 5
    one, other = (ARMS[name] for name in (STUDY.control.first, STUDY.control.second))
    assert {knob for knob in one if one[knob] != other[knob]} == {"draws"}
    assert set(STUDY.claims.values()) < set(STUDY.tests_of(STUDY.budgets["full"])) == set(STUDY.tests)


def test_the_rate_is_the_tuned_one_in_tuned_arms_alone(tmp_path, monkeypatch):
    seen = []

    def watched(data, batch, passes, rate, seed):
        seen.append(rate)
        return initial_weights(seed)

    monkeypatch.setattr("trimpot.studies.keskar.descend", watched)
    for name in ("large", "large, tuned rate"):
        metrics = run({**ARMS[name], "rate": 0.7}, {}, 0, tmp_path)
    assert seen == [0.1, 0.7]
    assert metrics["rescaled_phi"] != metrics["phi"] > metrics["phi_half"] > 0


def test_a_small_run_ends_with_numbers_for_every_test_and_a_chart(tmp_path):
    arms = {name: {**ARMS[name], "passes": 1} for name in ("small", "small, other draws", "large")}
    small = dataclasses.replace(STUDY, claims={}, budgets={"quick": Budget(arms, 2, {})}, tuning=None)
    evidence = run_small(small, tmp_path)
    assert set(evidence.results) == set(arms)
    assert draw(evidence, STUDY.chart, tmp_path / "chart.svg").read_text().startswith("<svg")


def run_small(study, folder):
    from trimpot.studies.runner import run_study

    return run_study(study, Ledger(f"sqlite:///{folder}/ledger.db"), folder / "work", workers=1)
