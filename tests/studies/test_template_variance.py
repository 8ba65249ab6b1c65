import numpy as np
import pytest

from trimpot.evaluation.suites.facts import RELATIONS
from trimpot.knobs.library import library
from trimpot.studies.template_variance import SETTINGS, STUDY, prepare, run
from trimpot.studies.templates import SET, TEMPLATES, drawn_facts, measured

SMALL = {**SETTINGS, "model": "tiny-0.1m", "items": 8, "sft_steps": 1, "chats": 16}


def test_no_question_is_asked_twice_or_shown_as_an_example():
    for seed in range(10):
        examples, items = drawn_facts(96, 4, seed)
        questions = [question for question, _ in examples] + [item.prompt for item in items]
        assert len(set(questions)) == len(questions) == 100
    assert {item.prompt for item in items} != {item.prompt for item in drawn_facts(96, 4, 10)[1]}


def test_items_stand_in_closed_sets_of_one_relation():
    _, items = drawn_facts(96, 4, 0)
    for place in range(0, 96, SET):
        some = items[place : place + SET]
        assert len({item.cluster for item in some}) == 1
        assert len({item.choices for item in some}) == 1
        assert sorted(item.answer for item in some) == sorted(some[0].choices)


def test_more_items_than_there_are_facts_are_refused():
    whole = sum(len(pairs) // SET * SET for _, pairs in RELATIONS.values())
    assert len(drawn_facts(whole, 4, 0)[1]) == whole == 144
    with pytest.raises(ValueError, match="of 144"):
        drawn_facts(whole + SET, 4, 0)
    with pytest.raises(ValueError, match="100 examples"):
        drawn_facts(8, 100, 0)


def test_templates_differ_in_form_and_hold_the_question_once():
    assert len(set(TEMPLATES)) == 6
    for template, between in TEMPLATES:
        assert template.count("{}") == 1
        assert template == template.strip()
        assert not between.strip()


def test_spread_gap_and_shift_by_hand():
    half, none = [1, 1, 0, 0, 1, 1, 0, 0], [0] * 8
    found = measured(np.array([[half, none], [none, none]], dtype=float))
    assert (found["spread"], found["gap"], found["shift"]) == (0.25, 0.25, 0.5)
    assert (found["range"], found["first"], found["second"]) == (0.25, 0.25, 0.0)


def test_a_difference_that_one_half_alone_shows_counts_for_nothing():
    once, none = [1, 1, 1, 1, 0, 0, 0, 0], [0] * 8
    found = measured(np.array([[once, none], [none, none]], dtype=float))
    assert (found["spread"], found["gap"], found["shift"]) == (0.0, 0.0, 0.0)
    assert found["range"] == 0.25


def test_without_a_true_difference_spread_and_gap_are_zero_on_average_and_the_range_is_not():
    draws = np.random.default_rng(0)
    found = [measured((draws.random((2, 6, 96)) < 0.4).astype(float)) for _ in range(600)]
    for name in ("spread", "gap", "shift"):
        values = [one[name] for one in found]
        assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))
    assert np.mean([one["range"] for one in found]) > 0.08


def test_a_true_difference_is_found_at_its_size():
    draws = np.random.default_rng(1)
    rates = np.array([[0.3, 0.5], [0.4, 0.6]])[:, :, None]
    found = [measured((draws.random((2, 2, 400)) < rates).astype(float)) for _ in range(200)]
    assert np.mean([one["spread"] for one in found]) == pytest.approx(0.2, abs=0.01)
    assert np.mean([one["gap"] for one in found]) == pytest.approx(0.1, abs=0.01)
    assert np.mean([one["shift"] for one in found]) == pytest.approx(0.0, abs=0.01)


def test_equal_arguments_give_equal_numbers_and_another_draw_others(tmp_path):
    prepare(SMALL, 0, tmp_path)
    values = {"examples": 1, "draw": 0}
    first, again = (run(values, SMALL, 0, tmp_path) for _ in range(2))
    assert first == again
    assert any(run({**values, **change}, SMALL, 0, tmp_path) != first for change in ({"draw": 1}, {"examples": 0}))


def test_claims_have_their_arms_and_name_the_study():
    for budget in STUDY.budgets.values():
        assert STUDY.control.applies(budget.arms)
        assert set(STUDY.tests_of(budget)) == set(STUDY.tests)
    for name in STUDY.claims:
        assert library().claims[name].studies == (STUDY.id,)


@pytest.mark.slow
def test_the_real_model_knows_more_than_chance(tmp_path):
    settings = {**SETTINGS, "items": 16, "sft_steps": 1}
    prepare(settings, 0, tmp_path)
    assert run({"examples": 4, "draw": 0}, settings, 0, tmp_path)["first"] > 0.5
