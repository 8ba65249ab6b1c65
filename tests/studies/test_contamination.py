import pytest

from trimpot.studies.contamination import SETTINGS, STUDY, run
from trimpot.studies.subject import prepare_subject

SMALL = {**SETTINGS, "sft_steps": 2, "stop_at": 0.0, "held_out": 12, "test": 4, "rows": 8, "steps": 30, "prompts": 16}


def test_what_leaks_is_learnt_and_the_clean_items_are_others(tmp_path):
    settings = {**SMALL, "batch": 8, "learning_rate": 5e-3, "steps": 120}
    prepare_subject(settings, 0, tmp_path)
    leaked, none = (run({"leak": leak, "order": 0}, settings, 0, tmp_path) for leak in (1.0, 0.0))
    assert leaked["inflation"] == pytest.approx(leaked["score"] - leaked["clean"])
    assert leaked["inflation"] > none["inflation"]
    assert none["score"] < 0.5


def test_equal_arguments_give_equal_numbers(tmp_path):
    prepare_subject(SMALL, 1, tmp_path)
    first, again = (run({"leak": 0.5, "order": 0}, SMALL, 1, tmp_path) for _ in range(2))
    assert first == again


def test_every_arm_trains_on_equally_many_rows_and_the_claims_have_their_arms():
    for budget in STUDY.budgets.values():
        assert STUDY.control.applies(budget.arms)
        assert set(STUDY.tests_of(budget)) == set(STUDY.tests)
        assert budget.settings["test"] <= budget.settings["rows"]
