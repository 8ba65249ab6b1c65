"""The study at its smallest: where it measures, what it leaves, and which arms and tests it has."""

import pytest

from trimpot.knobs.library import library
from trimpot.studies import STUDIES, dpo_overtraining
from trimpot.studies.pair_runs import steps_of
from trimpot.studies.study import RULE

STUDY = STUDIES["dpo-overtraining"]
SMALL = {
    "stop_at": 0.2, "sft_steps": 260, "prompts": 64, "pairs": 32, "held_out": 8, "samples": 2,
    "epochs": 4.0, "batch": 8, "schedule": "constant", "warmup": 0.0, "learning_rate": 3e-3,
}  # fmt: skip
NOISY = {"beta": 0.1, "wrong_labels": 0.2, "order": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("seed")
    STUDY.prepare(SMALL, 3, made)
    return made


@pytest.fixture(scope="module")
def exact(folder):
    return STUDY.run({**NOISY, "wrong_labels": 0.0}, SMALL, 3, folder)


def test_a_run_is_measured_at_every_point_and_before_the_first_step(exact):
    assert exact["kl@0"] == pytest.approx(0, abs=1e-4)
    assert exact["rewards/margins@0"] == pytest.approx(0, abs=1e-5)
    for epochs in dpo_overtraining.EPOCHS:
        assert {f"{name}@{epochs:g}" for name in ("kl", "accuracy", "rewards/margins")} <= exact.keys()
    assert max(0, exact["rewards/margins@1"]) < exact["rewards/margins@4"]


def test_points_are_passes_over_the_pairs_there_are(folder, monkeypatch):
    """32 pairs in steps of 8: an epoch has 4 steps, and a quarter of one is the first."""
    seen = []
    measured = dpo_overtraining._measured
    real = dpo_overtraining.pair_run

    def run(*arguments):
        made = real(*arguments)

        def steps():
            for step in made.steps:
                seen.append(step.number)
                yield step

        return type(made)(made.policy, made.reference, made.samples, steps())

    points = []
    monkeypatch.setattr(dpo_overtraining, "pair_run", run)
    monkeypatch.setattr(
        dpo_overtraining, "_measured", lambda *given: points.append((given[-1], len(seen))) or measured(*given)
    )
    pairs = STUDY.run(NOISY, SMALL, 3, folder)["pairs"]
    an_epoch = pairs / 8
    wanted = [(0.0, 0), *((epochs, max(1, round(epochs * an_epoch))) for epochs in dpo_overtraining.EPOCHS)]
    assert points == wanted
    assert seen[-1] == round(4 * an_epoch)


def test_a_run_is_a_function_of_its_arguments(folder, exact):
    assert STUDY.run({**NOISY, "wrong_labels": 0.0}, SMALL, 3, folder) == exact
    assert STUDY.run({**NOISY, "wrong_labels": 0.0, "order": 1}, SMALL, 3, folder) != exact


def test_the_tuned_rate_is_the_one_that_trains(folder, exact):
    slow = STUDY.run({**NOISY, "wrong_labels": 0.0, "learning_rate": 1e-5}, SMALL, 3, folder)
    assert slow["rewards/margins@4"] < exact["rewards/margins@4"] / 10


def test_steps_are_given_or_follow_from_passes():
    assert steps_of({"steps": 7, "epochs": 2, "batch": 8}, 100) == 7
    assert steps_of({"epochs": 2, "batch": 8}, 100) == 25
    assert steps_of({"epochs": 0.01, "batch": 8}, 8) == 1


def test_arms_tests_and_claims_fit():
    for budget in STUDY.budgets.values():
        assert budget.seeds >= 5
        assert STUDY.control.applies(budget.arms)
        assert STUDY.tests_of(budget) == STUDY.tests
        assert not set(STUDY.tuning_seeds(budget)) & set(range(10, 30))
        assert all("learning_rate" not in values for values in budget.arms.values())
    claims = library().claims
    assert all(STUDY.id in claims[name].studies for name in STUDY.claims)
    plan = STUDY.plan("full", 8, claims)
    assert plan["rule"] == RULE
    assert plan["claims"]["dpo-peaks-within-an-epoch"]["refuted_by"].endswith(
        "is above 0, with an adjusted p of at most 0.05"
    )
