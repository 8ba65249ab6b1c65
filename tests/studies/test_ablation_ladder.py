"""The ladder on digits: data, network and losses by hand; each rung changes what it says; a small run."""

import dataclasses
import itertools
import math

import pytest
import torch

from trimpot.knobs.library import library
from trimpot.store.ledger import Ledger
from trimpot.studies import STUDIES
from trimpot.studies.ablation_ladder import LADDER
from trimpot.studies.chart import draw
from trimpot.studies.digits import (
    BACKGROUND,
    SHAPES,
    Rung,
    digits,
    error,
    fit,
    initial_weights,
    loss_of,
    outputs,
    shifted,
    split,
)
from trimpot.studies.runner import run_study
from trimpot.studies.study import Budget, Tuning

STUDY = STUDIES["ablation-ladder"]
PLAIN = Rung("squared", "sgd", "tanh", 0, 0.0, images=40, passes=2)


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_images_are_those_of_scikit_learn():
    whole = digits()
    assert len(whole) == 1797
    assert (whole.images_N.min(), whole.images_N.max()) == (-1, 1)
    assert whole.labels_N[:4].tolist() == [0, 1, 2, 3]
    assert whole.labels_N.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_test_images_are_the_same_however_many_are_trained_on():
    few, test = split(3, 171)
    many, again = split(3, 1197)
    assert torch.equal(test.images_N, again.images_N)
    assert torch.equal(few.images_N, many.images_N[:171])
    assert (len(few), len(many), len(test)) == (171, 1197, 600)
    everything = torch.cat([many.images_N, test.images_N]).flatten(1)
    assert sorted(everything.sum(1).tolist()) == sorted(digits().images_N.flatten(1).sum(1).tolist())
    assert not torch.equal(split(4, 171)[1].labels_N, test.labels_N)
    with pytest.raises(ValueError, match="1198"):
        split(3, 1198)


def test_shifts_by_hand():
    """Of a 2 × 2 image [[1, 2], [3, 4]]: down and right leaves the 1 at the lower right, up and left the 4 on top."""
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 1, 2, 2)
    moved = shifted(image, 1)[:, 0, 0].tolist()
    assert len(moved) == 9
    assert moved[4] == [[1, 2], [3, 4]]
    assert moved[0] == [[BACKGROUND, BACKGROUND], [BACKGROUND, 1]]
    assert moved[8] == [[4, BACKGROUND], [BACKGROUND, BACKGROUND]]
    assert moved[5] == [[2, BACKGROUND], [4, BACKGROUND]]
    assert torch.equal(shifted(image, 0)[0], image)


def test_losses_by_hand():
    """tanh 0.5 … against 1 at the label and −1 elsewhere: ((0.5 − 1)² + 9 (0.5 + 1)²)/10 = (0.25 + 20.25)/10."""
    half = torch.full((1, 10), math.atanh(0.5))
    assert loss_of(half, torch.tensor([7]), "squared").item() == pytest.approx(2.05)
    assert loss_of(half, torch.tensor([7]), "cross-entropy").item() == pytest.approx(math.log(10))


def test_the_network_is_the_one_that_torch_modules_make():
    weights, images = initial_weights(0), digits().images_N[:5]
    assert sum(value.numel() for value in weights.values()) == 9832
    first = torch.nn.Conv2d(1, 12, 3)
    second = torch.nn.Conv2d(12, 12, 5, stride=2, padding=2)
    third, last = torch.nn.Linear(192, 30), torch.nn.Linear(30, 10)
    for layer, name in ((first, "h1"), (second, "h2"), (third, "h3"), (last, "out")):
        layer.weight, layer.bias = (torch.nn.Parameter(weights[part] + 0.01) for part in (name, f"{name}.bias"))
        weights[name], weights[f"{name}.bias"] = layer.weight, layer.bias
    frame = torch.full((5, 1, 10, 10), BACKGROUND)
    frame[..., 1:9, 1:9] = images
    for name, activation in (("tanh", torch.nn.Tanh()), ("relu", torch.nn.ReLU())):
        convolutions = torch.nn.Sequential(first, activation, second, activation, torch.nn.Flatten())
        network = torch.nn.Sequential(convolutions, third, activation, last)
        torch.testing.assert_close(outputs(weights, images, name), network(frame))


def test_initial_weights_are_within_their_bounds_and_use_them():
    weights = initial_weights(1)
    for name, shape in SHAPES.items():
        bound = 2.4 / math.sqrt(math.prod(shape[1:]))
        assert 0.9 * bound < weights[name].abs().max() <= bound
        assert not weights[f"{name}.bias"].any()


def test_what_dropout_leaves_out_is_not_read():
    weights, images = initial_weights(0), digits().images_N[:2]
    nothing = outputs(weights, images, "relu", torch.zeros(2, SHAPES["h3"][1]))
    assert torch.equal(nothing[0], nothing[1])
    doubled = outputs(weights, images, "relu", torch.full((2, SHAPES["h3"][1]), 2.0))
    assert not torch.equal(doubled, outputs(weights, images, "relu"))


def test_training_repeats_bitwise_and_learns():
    train, test = split(0, 171)
    rung = dataclasses.replace(PLAIN, loss="cross-entropy", optimizer="adamw", images=171, passes=30)
    weights = fit(rung, 3.0, train, 5)
    assert same(weights, fit(rung, 3.0, train, 5))
    assert not same(weights, fit(rung, 3.0, train, 6))
    assert error(weights, test, "tanh") < 30 < error(initial_weights(5), test, "tanh")


def test_every_change_changes_the_training():
    """A rung whose change did nothing would compare a network with itself."""
    train, _ = split(0, PLAIN.images)
    before = fit(PLAIN, 1.0, train, 5)
    changes = {
        "loss": "cross-entropy",
        "optimizer": "adamw",
        "activation": "relu",
        "shift": 1,
        "dropout": 0.25,
        "passes": 3,
    }
    for name, value in changes.items():
        assert not same(before, fit(dataclasses.replace(PLAIN, **{name: value}), 1.0, train, 5)), name


@pytest.mark.parametrize(
    ("kind", "optimizer", "rates"), [("AdamW", "adamw", [3e-4, 2e-4, 1e-4]), ("SGD", "sgd", [0.03] * 3)]
)
def test_the_rate_of_adamw_falls_to_a_third_and_that_of_sgd_stays(monkeypatch, kind, optimizer, rates):
    seen = []
    usual = getattr(torch.optim, kind)
    step = usual.step

    def watched(self, closure=None):
        seen.append(self.param_groups[0]["lr"])
        return step(self, closure)

    monkeypatch.setattr(usual, "step", watched)
    train, _ = split(0, 8)
    fit(dataclasses.replace(PLAIN, optimizer=optimizer, images=8, passes=3), 1.0, train, 0)
    assert seen == pytest.approx(rates)


def test_every_rung_changes_one_thing_and_keeps_those_before():
    arms = list(LADDER.values())
    changed = [{knob for knob in arm if arm[knob] != below[knob]} - {"rung"} for below, arm in itertools.pairwise(arms)]
    assert changed == [{"loss"}, {"optimizer"}, {"shift"}, {"activation", "dropout"}]


def test_the_study_says_how_each_claim_is_refuted_and_has_a_control():
    claims = library().claims
    assert {name for name in STUDY.claims if claims[name].direction == "equal"} == set(STUDY.margins)
    assert all(claims[name].study == STUDY.id for name in STUDY.claims)
    for budget in STUDY.budgets.values():
        assert budget.seeds >= 10
        assert STUDY.control.applies(budget.arms)
    full = STUDY.budgets["full"]
    assert set(STUDY.claims.values()) == set(STUDY.tests_of(full)) == set(STUDY.tests)
    one, other = (full.arms[name] for name in (STUDY.control.first, STUDY.control.second))
    assert {knob for knob in one if one[knob] != other[knob]} == {"draws"}


def test_a_small_run_ends_with_verdicts_and_a_chart(tmp_path):
    names = ("squared error", "squared error, other draws", "cross-entropy")
    arms = {name: {**STUDY.budgets["quick"].arms[name], "passes": 2} for name in names}
    small = dataclasses.replace(
        STUDY, budgets={"quick": Budget(arms, 2, {})}, tuning=Tuning("rate", (1.0, 10.0), "error", (0,), lowest=True)
    )
    evidence = run_study(small, Ledger(f"sqlite:///{tmp_path}/ledger.db"), tmp_path / "work", workers=1)
    assert set(evidence.tested) == {"cross-entropy-overfits-digits"}
    assert all(0 <= run["error"] <= 100 for run in evidence.results["cross-entropy"].values())
    assert draw(evidence, STUDY.chart, tmp_path / "chart.svg").read_text().startswith("<svg")
