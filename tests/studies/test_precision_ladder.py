"""The ladder at its smallest: a run is a function of its arguments, and each rung does what its name says."""

import pytest
import torch

from trimpot.core.stats import Stat
from trimpot.core.tensors import Streams
from trimpot.probes.precision.modes import MODES
from trimpot.studies import precision_ladder
from trimpot.studies.precision_ladder import ARMS, STUDY

SMALL = {"steps": 6, "batch": 4, "held_out": 8}


def test_a_run_is_a_function_of_its_arguments(tmp_path):
    precision_ladder.prepare(SMALL, 3, tmp_path)
    first, second = (precision_ladder.run(ARMS["fp32"], SMALL, 3, tmp_path) for _ in range(2))
    assert first == second
    assert first["overflows"] == 0
    assert 0 <= first["flushed"] < 100
    assert precision_ladder.run(ARMS["fp32, other order"], SMALL, 3, tmp_path)["loss"] != first["loss"]


def test_a_faint_loss_is_the_same_loss_and_float16_flushes_more_of_its_gradients(tmp_path):
    plain, faint = (precision_ladder.run(ARMS[name], SMALL, 3, tmp_path) for name in ("fp32", "fp32, faint"))
    assert faint["flushed"] > plain["flushed"] + 20
    # Nearly an untrained model's: of the order of ln 259 = 5.56 nats a byte, not 2^-16 of that.
    assert 2 < faint["loss"] < 8


def test_without_master_weights_slow_updates_are_lost(tmp_path):
    half, brain = (precision_ladder.run(ARMS[f"{mode}, slow"], SMALL, 3, tmp_path)
                   for mode in ("fp16-dynamic-no-master", "bf16-no-master"))  # fmt: skip
    # Steps of 1e-6 against weights of some 0.02: a 20,000th.
    assert 50 < half["lost"] < brain["lost"] <= 100
    kept = precision_ladder.run(ARMS["bf16, slow"], SMALL, 3, tmp_path)
    assert "lost" not in kept
    assert kept["loss"] != brain["loss"]


def test_the_weighted_loss_is_cross_entropy_times_its_weight():
    streams = Streams(torch.tensor([0, 0]), 1, logprob_N=torch.tensor([-1.0, -3.0]))
    out = precision_ladder.Weighted(0.5)(streams)
    assert out.loss().item() == pytest.approx(0.5 * (1 + 3) / 2)
    assert out.stats["loss"] == Stat(4.0, 2.0)


def test_budgets_have_seeds_a_control_and_the_arms_of_every_claim():
    for budget in STUDY.budgets.values():
        assert budget.seeds >= 5
        assert STUDY.control.applies(budget.arms)
        assert STUDY.tests_of(budget).keys() == STUDY.tests.keys()
    assert set(STUDY.claims.values()) == STUDY.tests.keys()
    assert set(STUDY.margins) <= STUDY.claims.keys()
    assert {values["mode"] for values in ARMS.values()} <= MODES.keys()
