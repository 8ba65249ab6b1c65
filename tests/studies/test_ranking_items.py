import numpy as np
import pytest

from trimpot.core.seeds import seed_for
from trimpot.studies.ranking_items import SETTINGS, STUDY, _agreement, prepare, run


def test_all_items_rank_as_all_items_do():
    scores = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]], dtype=float)
    assert _agreement(scores, 4, 10, np.random.default_rng(0)) == (1.0, 1.0)


def test_the_share_of_draws_of_one_item_by_hand():
    # One of four items has the first checkpoint alone ahead; no single item can order all three.
    scores = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=float)
    same, best = _agreement(scores, 1, 4000, np.random.default_rng(0))
    assert same == 0
    assert best == pytest.approx(0.25, abs=0.03)


def test_a_small_run_counts_draws_and_repeats(tmp_path):
    settings = {**SETTINGS, "sft_steps": 2, "stop_at": 0.0, "prompts": 32, "held_out": 24, "steps": 1, "draws": 20}
    prepare(settings, 0, tmp_path)
    first, again = (run({"items": 10, "draw": 0}, settings, 0, tmp_path) for _ in range(2))
    assert first == again
    assert 0 <= first["same"] <= first["best"] <= 1
    assert first["short_of_95"] == pytest.approx(first["same"] - 0.95)
    assert seed_for(0, "draws", 0) != seed_for(0, "draws", 1)


def test_claims_have_their_arms():
    for budget in STUDY.budgets.values():
        assert STUDY.control.applies(budget.arms)
        assert set(STUDY.tests_of(budget)) == set(STUDY.tests)
