"""The study at its smallest: each loss runs, is told the share, and sees labels exchanged; its arms and tests fit."""

import pytest

from trimpot.knobs.library import library
from trimpot.studies import STUDIES
from trimpot.studies.dpo_label_noise import LOSSES

STUDY = STUDIES["dpo-label-noise"]
SMALL = {
    "stop_at": 0.2, "sft_steps": 260, "prompts": 64, "pairs": 32, "held_out": 8, "samples": 2,
    "epochs": 20, "batch": 8, "learning_rate": 3e-3,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("seed")
    STUDY.prepare(SMALL, 3, made)
    return made


def run(folder, objective, share, **settings):
    return STUDY.run({"objective": objective, "wrong_labels": share, "order": 0}, {**SMALL, **settings}, 3, folder)


def test_smoothing_and_a_target_bound_the_margin_of_trained_pairs(folder):
    """ε = 0.2: cDPO's best margin is ln 4 = 1.386; IPO's is β / (2β) = 0.5; DPO's has no bound."""
    margins = {name: run(folder, name, 0.2)["trained/rewards/margins"] for name in ("dpo", "cdpo")}
    assert margins["cdpo"] < margins["dpo"]
    assert margins["cdpo"] < 2
    assert run(folder, "ipo", 0.0)["trained/rewards/margins"] < 0.7 < run(folder, "dpo", 0.0)["trained/rewards/margins"]


def test_without_wrong_labels_smoothed_and_unbiased_losses_are_dpo(folder):
    dpo = run(folder, "dpo", 0.0, epochs=1)
    assert run(folder, "cdpo", 0.0, epochs=1) == pytest.approx(dpo, rel=1e-3, abs=1e-3)
    assert run(folder, "robust_dpo", 0.0, epochs=1) == pytest.approx(dpo, rel=1e-3, abs=1e-3)


def test_exchanged_labels_turn_the_training_round(folder):
    """With every label wrong the wrong answers are what is learned."""
    right, wrong = (run(folder, "dpo", share) for share in (0.0, 1.0))
    assert right["trained/rewards/margins"] > 0 < wrong["trained/rewards/margins"]
    assert wrong["rewards/margins"] < right["rewards/margins"]
    assert wrong["accuracy"] <= right["accuracy"]


def test_losses_are_told_the_share():
    assert (LOSSES["cdpo"](0.2).label_smoothing, LOSSES["robust_dpo"](0.4).label_smoothing) == (0.2, 0.4)
    assert {name: loss(0.1).beta for name, loss in LOSSES.items()} == dict.fromkeys(LOSSES, 1.0) | {"ipo": 0.25}
    assert {name: loss(0.1).name for name, loss in LOSSES.items()} == {name: name for name in LOSSES}


def test_arms_tests_and_claims_fit():
    full = STUDY.budgets["full"].arms
    assert len(full) == 4 + 3 + 3 + 4 + 1
    for budget in STUDY.budgets.values():
        assert budget.seeds >= 5
        assert STUDY.control.applies(budget.arms)
        assert STUDY.tests_of(budget) == STUDY.tests
        first, second = budget.arms[STUDY.control.first], budget.arms[STUDY.control.second]
        assert {**first, "order": 1} == second
    assert STUDY.tests["smoothing"].twins(full) == [
        (f"cdpo, {share}% wrong", f"dpo, {share}% wrong") for share in (10, 20, 40)
    ]
    assert STUDY.tests["ipo"].twins(full) == [
        (f"ipo, {share}% wrong", f"dpo, {share}% wrong") for share in (10, 20, 40)
    ]
    claims = library().claims
    assert all(STUDY.id in claims[name].studies for name in STUDY.claims)
