"""Spikes and their precursors: on series made by hand, and on a short run against torch's own Adam and Hessian."""

import dataclasses
import math

import pytest
import torch

from trimpot.store.ledger import Ledger
from trimpot.studies.loss_spikes import ARMS, STUDY
from trimpot.studies.runner import run_study
from trimpot.studies.spike_precursors import flagged, precursors, rises
from trimpot.studies.spike_runs import WATCHED, curves, target
from trimpot.studies.study import Budget


def test_rises_by_hand():
    found = rises([1.0] * 50 + [math.e] * 5)
    assert found[:54] == [None] * 54
    assert found[54] == pytest.approx(1)
    assert rises([0.0] * 60)[-1] is None


def made(**changes):
    """400 calm steps with a spike at 300; every metric noiseless but for what is changed."""
    length = 400
    loss = [1.0] * length
    for place in range(300, 306):
        loss[place] = 5.0
    # A little slope, so that rises differ from step to step.
    calm = {name: [1 + 1e-4 * math.sin(place) for place in range(length)] for name in WATCHED}
    calm["adam_sharpness"] = [0.9] * length
    return {"loss": loss, **calm, **changes}


def test_spikes_are_the_first_flagged_steps():
    assert flagged(made()["loss"]) == list(range(300, 306))
    assert precursors(made())["spikes"] == 1
    assert precursors({**made(), "loss": [1.0] * 400}) == {"spikes": 0}


def test_a_metric_that_rises_ten_steps_before_has_a_full_lift_and_a_lead_of_ten():
    series = list(made()["update_ratio"])
    for place in range(290, 300):
        series[place] = 3.0
    found = precursors(made(update_ratio=series))
    assert found["update_ratio_lift"] == 0.5
    assert found["update_ratio_lead"] == 10
    assert -0.5 <= found["grad_norm_lift"] < 0.5
    assert found["grad_norm_lead"] < 5


def test_a_limit_that_is_passed_before_the_spike_alone_is_told_from_quiet_steps():
    ratios = [0.9] * 400
    for place in range(285, 299):
        ratios[place] = 1.1
    found = precursors(made(adam_sharpness=ratios))
    assert (found["over_limit_before"], found["over_limit_quiet"]) == (1, 0)
    assert found["over_limit_lead"] == 15
    always = precursors(made(adam_sharpness=[1.1] * 400))
    assert (always["over_limit_before"], always["over_limit_quiet"]) == (1, 1)
    assert "over_limit_lead" not in precursors(made())


def test_curves_are_those_of_adam_and_of_the_exact_hessian():
    found = curves(0.03, 0.999, 6, 4)
    assert {len(series) for series in found.values()} == {6}
    assert repr(found) == repr(curves(0.03, 0.999, 6, 4))
    assert found["loss"] != curves(0.03, 0.999, 6, 5)["loss"]
    assert math.isnan(found["adam_sharpness"][0])
    assert found["adam_sharpness"][5] > 0
    assert found["sharpness"][1] == found["sharpness"][0] != found["sharpness"][5]


def test_the_first_sharpness_is_numpys(monkeypatch):
    """λ_max of the whole Hessian at the first weights, which are redrawn here."""
    from trimpot.core.seeds import seed_for

    draw = torch.Generator().manual_seed(seed_for(4, "weights"))
    parts = [torch.randn(shape, generator=draw) for shape in ((100, 1), (100,), (1, 100), (1,))]
    flat = torch.cat([(s * one).flatten() for s, one in zip((1, 1, 0.1, 0), parts, strict=True)]).double()
    x, y = (one.double() for one in target())

    def loss(w):
        hidden = (x @ w[:100].view(1, 100) + w[100:200]).tanh()
        return (hidden @ w[200:300].view(100, 1) + w[300] - y).square().mean()

    top = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat))[-1]
    assert curves(0.03, 0.999, 1, 4)["sharpness"][0] == pytest.approx(float(top), rel=1e-3)


def test_arms_and_control():
    for budget in STUDY.budgets.values():
        assert STUDY.control.applies(budget.arms)
    one, other = (ARMS[name] for name in (STUDY.control.first, STUDY.control.second))
    assert {knob for knob in one if one[knob] != other[knob]} == {"draws"}
    assert set(STUDY.tests_of(STUDY.budgets["full"])) == set(STUDY.tests)


def test_a_small_run_ends_with_metrics_of_every_arm(tmp_path):
    small = dataclasses.replace(
        STUDY, claims={}, budgets={"quick": Budget(STUDY.budgets["quick"].arms, 2, {"steps": 30})}
    )
    evidence = run_study(small, Ledger(f"sqlite:///{tmp_path}/ledger.db"), tmp_path / "work", workers=1)
    assert all(run["spikes"] == 0 for runs in evidence.results.values() for run in runs.values())
