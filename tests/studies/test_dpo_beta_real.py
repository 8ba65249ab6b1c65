"""The study on the real model asks what the one on the tiny model asks; at its smallest it runs."""

import pytest

from trimpot.knobs.library import library
from trimpot.studies import STUDIES

STUDY = STUDIES["dpo-beta-real"]
SMALL = {
    **STUDY.budgets["full"].settings,
    "sft_steps": 20, "chats": 160, "prompts": 32, "pairs": 8, "held_out": 8, "samples": 2, "steps": 2, "batch": 4,
}  # fmt: skip


def test_it_tests_the_same_words_and_quantities_as_on_the_tiny_model():
    tiny = STUDIES["dpo-beta"]
    for name, test in STUDY.claims.items():
        assert tiny.claims[name] == test
        assert tiny.tests[test] == STUDY.tests[test]
        assert library().claims[name].studies == ("dpo-beta", "dpo-beta-real")
    for budget in STUDY.budgets.values():
        assert STUDY.control.applies(budget.arms)
        assert STUDY.tests_of(budget) == STUDY.tests
    assert STUDY.budgets["full"].seeds >= 3


@pytest.mark.slow
def test_a_run_on_the_real_model_leaves_its_metrics_and_reads_the_reference_again(tmp_path):
    STUDY.prepare(SMALL, 3, tmp_path)
    values = {"beta": 0.1, "wrong_labels": 0.2, "order": 0}
    first = STUDY.run(values, SMALL, 3, tmp_path)
    assert set(first) >= {"kl", "accuracy", "logratio/chosen", "logratio/rejected", "rewards/margins", "pairs"}
    assert first["pairs"] == 8
    assert STUDY.run(values, SMALL, 3, tmp_path) == first
