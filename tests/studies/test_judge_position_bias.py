import random

import numpy as np
import pytest

from tests.evaluation.scripted import ScriptedModel
from trimpot.evaluation.judges.duel import judge_pairs, position_bias
from trimpot.evaluation.judges.model_judge import LikelihoodJudge
from trimpot.evaluation.local import LocalModel
from trimpot.knobs.library import library
from trimpot.models.load import load
from trimpot.studies.judge_position_bias import SETTINGS, STUDY, prepare, run
from trimpot.studies.judging import GAPS, PROMPT, margins, measured, pairs_of, wrong_answer

SMALL = {**SETTINGS, "model": "tiny-0.1m", "pairs": 6, "trained_on": 4, "steps": 1, "batch": 2}


@pytest.mark.parametrize("gap", GAPS)
def test_a_wrong_answer_is_as_long_as_the_right_one_and_as_far_as_its_gap_says(gap):
    for right in ("0", "7", "9", "10", "42", "99", "100"):
        for seed in range(30):
            wrong = wrong_answer(right, gap, random.Random(seed))
            assert len(wrong) == len(right)
            assert wrong != right
            if gap == "no number":
                assert not any(letter.isalnum() for letter in wrong)
            else:
                distance = abs(int(wrong) - int(right))
                assert distance == 1 if gap == "near" else distance >= 3


def test_pairs_of_one_split_are_asked_in_no_other():
    asked = {split: {pair.prompt for pair in pairs_of(split, 40, "near", 0)} for split in ("train", "evaluation")}
    assert len(asked["train"]) == len(asked["evaluation"]) == 40
    assert not asked["train"] & asked["evaluation"]


def test_all_gaps_ask_the_same_questions():
    first, *others = ([(pair.prompt, pair.b) for pair in pairs_of("evaluation", 20, gap, 5)] for gap in GAPS)
    assert all(other == first for other in others)


def test_the_signs_of_the_margins_are_the_verdicts_of_the_judge():
    def score(context, letter):
        return -(hash_of(context) % 7) / 7 if letter == "A" else -0.4

    pairs, model = pairs_of("evaluation", 12, "near", 1), ScriptedModel(score=score)
    found = margins(model, pairs)
    judged = judge_pairs(LikelihoodJudge(model, PROMPT), pairs)
    assert [tuple(row) for row in (np.sign(found) + 1) / 2] == [
        (one.forward[0].first, one.backward[0].first) for one in judged
    ]
    assert measured(found, random.Random(0))["conflicts"] == pytest.approx(position_bias(judged).rate.value)


def hash_of(text):
    return sum(text.encode())


def test_the_measures_by_hand():
    # Wrong answer first, then right answer first: the first place always wins.
    found = measured(np.array([[2.0, 1.0], [1.0, 3.0]]), random.Random(0))
    assert (found["conflicts"], found["first"], found["favoured"]) == (1.0, 1.0, 0.5)
    assert (found["right_one"], found["right_both"]) == (0.5, 0.5)
    assert (found["place_one"], found["place_agreed"]) == (0.5, 0.0)
    assert (found["place"], found["quality"]) == (1.75, 0.25)


def test_a_judge_of_quality_alone_has_no_conflicts_and_is_always_right():
    found = measured(np.array([[-1.0, 1.0]] * 10), random.Random(0))
    assert (found["conflicts"], found["right_one"], found["right_both"], found["favoured"]) == (0.0, 1.0, 1.0, 0.0)
    assert found["place_one"] == found["place_agreed"]


def test_both_orders_find_the_quality_that_a_preference_for_a_place_hides():
    draws = np.random.default_rng(0)
    quality = np.abs(draws.normal(0.1, 0.1, 200))
    place = np.full(200, 2.0)
    found = measured(np.stack([place - quality, place + quality], axis=1), random.Random(0))
    assert (found["right_one"], found["right_both"], found["conflicts"]) == (0.5, 1.0, 1.0)


def test_a_judge_by_chance_favours_no_place_on_average():
    draws = np.random.default_rng(0)
    found = [measured(draws.normal(size=(64, 2)), random.Random(seed))["favoured"] for seed in range(600)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))


def test_training_changes_the_judge_and_equal_arguments_give_equal_numbers(tmp_path):
    prepare(SMALL, 0, tmp_path)
    values = {"judge": "trained", "gap": "far", "draw": 0}
    first, again = (run(values, SMALL, 0, tmp_path) for _ in range(2))
    assert first == again
    assert run({**values, "judge": "plain"}, SMALL, 0, tmp_path)["place"] != first["place"]


def test_claims_have_their_arms_and_name_the_study():
    for budget in STUDY.budgets.values():
        assert STUDY.control.applies(budget.arms)
        assert set(STUDY.tests_of(budget)) == set(STUDY.tests)
    for name in STUDY.claims:
        assert library().claims[name].studies == (STUDY.id,)


@pytest.mark.slow
def test_the_real_model_as_it_is_goes_by_the_place():
    pairs = pairs_of("evaluation", 16, "near", 0)
    assert measured(margins(LocalModel(load("smollm2-135m")), pairs), random.Random(0))["conflicts"] > 0.5
