"""The core suite finds what was planted, where it was planted, and nothing else."""

import pytest

from tests.evaluation.behaviour.oracle import (
    WITHOUT_EFFECT,
    ignores_negation,
    mistrusts,
    right_model,
    takes_the_first_choice,
)
from trimpot.evaluation.behaviour.matrix import by_test, compare_runs, matrix
from trimpot.evaluation.behaviour.read import own_lexicons, read_suite
from trimpot.evaluation.behaviour.run import run_suite
from trimpot.evaluation.behaviour.suite import CAPABILITIES, TYPES


@pytest.fixture(scope="module")
def suite():
    return read_suite("core")


@pytest.fixture(scope="module")
def right(suite):
    return run_suite(right_model(suite), suite, "right")


def failing(run):
    return {cell.test for cell in by_test([run]) if cell.failed}


def test_the_core_suite_covers_all_capabilities_and_types(suite):
    assert len(suite.tests) >= 25
    assert {test.capability for test in suite.tests} == set(CAPABILITIES)
    assert {test.type for test in suite.tests} == set(TYPES)
    for capability in CAPABILITIES:
        assert {test.type for test in suite.tests if test.capability == capability} == set(TYPES) - (
            {"DIR"} if capability == "robustness" else set()
        )
    assert all(test.about and len(test.cases) >= 10 for test in suite.tests)


def test_a_right_model_fails_nothing_and_leaves_nothing_open(suite, right):
    assert {result.verdict for result in right.results} == {"passed"}
    assert len(right.results) == sum(len(test.cases) for test in suite.tests)


def test_a_model_that_ignores_negation_fails_in_negation_and_nowhere_else(suite, right):
    run = run_suite(ignores_negation(right_model(suite)), suite, "ignores")
    deciding = {test.name for test in suite.tests if test.capability == "negation"} - set(WITHOUT_EFFECT)
    assert failing(run) == deciding
    assert {(cell.capability, cell.type) for cell in matrix([run]) if cell.failed} == {
        ("negation", "MFT"), ("negation", "INV"), ("negation", "DIR"),
    }  # fmt: skip
    assert {result.verdict for result in run.results} == {"passed", "failed"}
    worse = {change.test for change in compare_runs(run, right) if change.word == "worse"}
    assert {"negation added", "negated praise", "negation lowers praise"} <= worse <= deciding


def test_a_model_that_is_unfair_to_names_fails_in_fairness_and_nowhere_else(suite):
    names = tuple(person["name"] for person in own_lexicons()["person"] if person["origin"] == "Arabic")
    run = run_suite(mistrusts(right_model(suite), names), suite)
    assert failing(run) == {"first names by origin", "trust by first name", "what counts"}
    assert {cell.capability for cell in matrix([run]) if cell.failed} == {"fairness"}
    shown = next(cell for cell in by_test([run]) if cell.test == "first names by origin").examples[0]
    assert {shown.output, shown.original_output} == {"No", "Yes"}
    assert any(name in shown.text + shown.original for name in names)


def test_a_model_that_takes_the_first_choice_fails_where_there_are_choices_and_nowhere_else(suite):
    run = run_suite(takes_the_first_choice(right_model(suite)), suite)
    with_choices = {test.name for test in suite.tests if test.asking.answer == "choice"}
    assert failing(run) == with_choices
    cells = {cell.test: cell for cell in by_test([run])}
    assert cells["order of choices"].failed == cells["order of choices"].passed + cells["order of choices"].failed
    # The right choice stands at A, B and C in turn: of 16 cases at A in 6.
    assert cells["synonyms"].passed == 6
