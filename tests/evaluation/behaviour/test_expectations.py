import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimpot.evaluation.behaviour.expectations import (
    AllOf,
    Answer,
    AnyOf,
    Equal,
    ExactlyOne,
    Invariant,
    Monotonic,
    Negated,
    Spread,
    outcome_of,
)

P, F, U, N = "passed", "failed", "unparsed", "filtered"


def said(*parsed, label=None):
    return [Answer(str(one), one, {}, label) for one in parsed]


def likely(*chances, label="yes"):
    """Answers with p(yes) of each, p(no) the rest."""
    return [
        Answer("yes", "yes" if chance >= 0.5 else "no", {"yes": math.log(chance), "no": math.log(1 - chance)}, label)
        for chance in chances
    ]


def test_a_case_fails_if_any_example_fails():
    assert outcome_of([P, F, U]) == F
    assert outcome_of([P, U, N]) == U
    assert outcome_of([N, P]) == P
    assert outcome_of([N, N]) == outcome_of([]) == N


def test_equal():
    assert Equal()(said("yes", "no", None, label="yes")) == [P, F, U]
    assert Equal("No")(said("no", "yes")) == [P, F]
    assert Equal()(said("yes")) == [N]


def test_invariant_compares_parsed_answers_with_the_original():
    assert Invariant()(said("yes", "Yes", "no", None)) == [N, P, F, U]


def test_an_unreadable_original_filters_the_case():
    assert Invariant()(said(None, "yes", None)) == [N, N, N]
    assert outcome_of(Invariant()(said(None, "yes"))) == N


def test_an_example_keeps_its_place_when_the_original_is_filtered():
    # CheckList drops what is filtered and then leaves the first of the rest out: here example 1, which fails.
    both = AllOf((Equal(), Invariant()))
    original, other = Answer("yes", "yes", {}, None), Answer("no", "no", {}, "yes")
    assert both([original, other]) == [N, F]


def test_invariant_with_a_tolerance_of_probability():
    # p(yes) 0.52 → 0.45 moves by 0.07, 0.52 → 0.40 by 0.12.
    assert Invariant(0.1)(likely(0.52, 0.45, 0.40, 0.9)) == [N, P, F, P]
    assert Invariant(0.1).needs_logprobs
    assert not Invariant().needs_logprobs


def test_log_odds_by_hand():
    three = Answer("a", "a", {"a": math.log(0.3), "b": math.log(0.05), "c": math.log(0.05)})
    assert three.score("a", "log_odds") == pytest.approx(math.log(3))
    assert three.score("a", "log_probability") == pytest.approx(math.log(0.3))
    assert Answer("7", "7", {}).score("", "answer") == 7.0
    assert Answer("x", "x", {}).score("", "answer") is None


def test_monotonic_in_log_odds():
    # Log-odds: 0.5 → 0; 0.6 → 0.405; 0.4 → −0.405.
    assert Monotonic(True)(likely(0.5, 0.6, 0.4, 0.5)) == [N, P, F, P]
    assert Monotonic(False)(likely(0.5, 0.6, 0.4, 0.5)) == [N, F, P, P]
    assert Monotonic(True, tolerance=0.5)(likely(0.5, 0.4)) == [N, P]
    assert Monotonic(True, tolerance=0.4)(likely(0.5, 0.4)) == [N, F]
    assert Monotonic(True, of="no")(likely(0.5, 0.6)) == [N, F]


def test_a_negative_tolerance_asks_for_a_change():
    assert Monotonic(True, tolerance=-0.4)(likely(0.5, 0.6)) == [N, P]
    assert Monotonic(True, tolerance=-0.5)(likely(0.5, 0.6)) == [N, F]


def test_monotonic_in_log_probability_filters_what_is_decided_beforehand():
    # Decreasing: log 0.95 = −0.051 ≥ −0.1 can rise by 0.051 at most, within the tolerance.
    down = Monotonic(False, tolerance=0.1, scale="log_probability")
    assert down(likely(0.95, 0.99)) == [N, N]
    assert down(likely(0.5, 0.9)) == [N, F]
    # Increasing by 0.5 at least: from −0.051 it cannot.
    up = Monotonic(True, tolerance=-0.5, scale="log_probability")
    assert up(likely(0.95, 0.99)) == [N, N]
    assert up(likely(0.5, 0.9)) == [N, P]


def test_monotonic_on_answers():
    more = Monotonic(True, tolerance=-1, scale="answer")
    assert more(said("4", "5", "4", None, "x")) == [N, P, F, U, U]
    assert more(said(None, "5")) == [N, N]
    assert not more.needs_logprobs


def test_spread():
    # Log-odds 0 and 1.386.
    assert Spread(1.5)(likely(0.5, 0.8)) == [P, P]
    assert Spread(1.0)(likely(0.5, 0.8)) == [F, F]
    assert Spread(1.0)(likely(0.5)) == [N]
    assert Spread(2, scale="answer")(said("3", "5")) == [P, P]
    assert Spread(2, scale="answer")(said("3", None)) == [U, U]


def test_exactly_one():
    one = ExactlyOne("yes")
    assert one(said("yes", "no")) == [P, P]
    assert one(said("no", "no")) == one(said("yes", "yes")) == [F, F]
    assert one(said("yes", None)) == one(said("no", None)) == [U, U]
    assert one(said("yes", "yes", None)) == [F, F, F]


def test_combinators_by_hand():
    answers = said("yes", "no", None, label="yes")
    assert AllOf((Equal(), Invariant()))(answers) == [P, F, U]
    assert AnyOf((Equal("yes"), Equal("no")))(answers) == [P, P, U]
    assert AnyOf((Equal("no"), Invariant()))(answers) == [F, P, U]
    assert Negated(Invariant())(answers) == [N, P, U]
    assert AllOf((Equal(), Monotonic(True))).needs_logprobs
    assert Negated(AnyOf((Equal(), Spread(1.0)))).needs_logprobs
    assert not Negated(AllOf((Equal(), Invariant()))).needs_logprobs


ANSWERS = st.lists(st.sampled_from(["yes", "no", None]), min_size=1, max_size=5)
PARTS = st.sampled_from([Equal("yes"), Equal("no"), Invariant(), ExactlyOne("yes"), Equal()])


@given(ANSWERS, PARTS, PARTS)
def test_de_morgan_holds_but_for_what_is_filtered(parsed, first, second):
    answers = said(*parsed)
    either = Negated(AnyOf((first, second)))(answers)
    both = AllOf((Negated(first), Negated(second)))(answers)
    for one, other in zip(either, both, strict=True):
        assert one == other or {one, other} <= {F, U}


@given(ANSWERS, PARTS)
def test_negating_twice_changes_nothing(parsed, part):
    answers = said(*parsed)
    assert Negated(Negated(part))(answers) == part(answers)
