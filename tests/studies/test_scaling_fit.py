"""The scaling study: what it measures, on losses made by hand, and its smallest run."""

import math

import pytest

from trimpot.studies import scaling_fit
from trimpot.studies.byte_text import LENGTH, documents, held_out_loss, learn, model, parameters, windows

STUDY = scaling_fit.STUDY
ARMS = STUDY.budgets["full"].arms


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(scaling_fit, "RESAMPLES", 40)
    scaling_fit.predicted.cache_clear()
    yield
    scaling_fit.predicted.cache_clear()


def law(width, tokens):
    return 1.0 + 30 / (24.0 * width**2) ** 0.4 + 200 / tokens**0.5


def metrics(factor=lambda width: 1.0):
    return {
        name: {"loss": law(one["width"], one["tokens"]) * factor(one["width"]), "parameters": 24.0 * one["width"] ** 2}
        for name, one in ARMS.items()
    }


def test_a_law_that_holds_is_found_inside_and_better_than_the_next_smaller_size():
    ripple = {16: 1.002, 24: 0.998, 36: 1.001, 56: 0.999, 84: 1.0}
    inside, gain = STUDY.tests["inside"], STUDY.tests["gain"]
    assert 0 < inside.value(ARMS, metrics(ripple.__getitem__)) <= 1
    # Without noise the prediction is exact, and the gain all that the next smaller size misses by.
    near, far = law(56, 512_000), law(84, 512_000)
    assert gain.value(ARMS, metrics()) == pytest.approx(-(near / far - 1), abs=1e-4)
    broken = metrics(lambda width: ripple[width] * (1.3 if width == 84 else 1.0))
    assert inside.value(ARMS, broken) < 0


def test_a_run_that_failed_leaves_no_number():
    some = metrics()
    del some["16 wide, 64k tokens"]
    assert STUDY.tests["inside"].value(ARMS, some) is None


def test_the_control_is_in_no_fit():
    assert "16 wide, 64k tokens, other order" in ARMS
    rows = [name for name in ARMS if "other order" not in name]
    assert len(rows) == 20
    changed = metrics()
    changed["16 wide, 64k tokens, other order"]["loss"] = 100.0
    assert STUDY.tests["gain"].value(ARMS, changed) == STUDY.tests["gain"].value(ARMS, metrics())
    for budget in STUDY.budgets.values():
        assert STUDY.control.applies(budget.arms)
        assert budget.seeds >= 5
    assert max(STUDY.tuning.seeds) < STUDY.first_seed


def test_held_out_documents_are_not_trained_on():
    train, held_out = windows(3)
    # Of a hundred windows less than one stands in both: lines that many documents have.
    assert len(set(train) & set(held_out)) < 0.01 * len(held_out)
    assert len(train) * LENGTH >= 512_000
    assert all(len(text) == LENGTH for text in (*train, *held_out))
    joined = sum(len(text) for text in documents())
    assert 0.9 * joined < LENGTH * (len(train) + len(held_out)) <= joined + 2 * len(documents())
    assert windows(4)[1] != held_out


def test_a_model_has_the_parameters_that_are_counted_by_hand():
    # A layer of width 16: four square matrices, three of 16 x 42, two norms; a norm at the end.
    assert parameters(model(16, 0)) == 2 * (4 * 16 * 16 + 3 * 16 * (8 * 16 // 3) + 2 * 16) + 16


def test_a_run_learns_and_is_a_function_of_its_arguments(tmp_path):
    scaling_fit.prepare({"batch": 16}, 3, tmp_path)
    values = {"width": 16, "tokens": 8192, "order": 0, "learning_rate": 1.6e-2}
    first, second = (scaling_fit.run(values, {"batch": 16}, 3, tmp_path) for _ in range(2))
    assert first == second
    assert first["loss"] < math.log(256)
    assert held_out_loss(model(16, 3), 3) > first["loss"]
    with pytest.raises(ValueError, match="tokens are asked for"):
        learn(model(16, 3), 3, 10**9, 16, 1e-3)
