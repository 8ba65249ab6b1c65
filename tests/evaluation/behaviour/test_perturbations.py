from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimpot.evaluation.behaviour.perturbations import PERTURBATIONS

WORDS = {
    "female_name": ["Anna", "Clara"],
    "male_name": ["Brian", "Ann"],
    "city": ["Rome", "Oslo"],
    "country": ["Italy", "Norway"],
}


def changed(name, text, seed=0):
    return PERTURBATIONS[name].change(text, Random(seed), WORDS)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("punctuation", "It rains.", "It rains"),
        ("punctuation", "It rains?!", "It rains"),
        ("punctuation", "It rains", "It rains."),
        ("punctuation", "...", None),
        ("contractions", "It's good, I'm sure.", "It is good, I am sure."),
        ("contractions", "It is good, and I am sure.", "It's good, and I'm sure."),
        ("contractions", "Yes, it is.", None),
        ("contractions", "She will not go", "She'll not go"),
        ("contractions", "He cannot go", "He can't go"),
        ("contractions", "Rain falls.", None),
        ("negation_added", "Anna is kind. Is Anna kind?", "Anna is not kind. Is Anna kind?"),
        ("negation_added", "Anna can swim.", "Anna cannot swim."),
        ("negation_added", "It rains. Anna was late.", "It rains. Anna was not late."),
        ("negation_added", "Is Anna kind?", None),
        ("negation_added", "Anna isn't kind.", None),
        ("negation_added", "Anna is not kind.", None),
        ("negation_added", "Anna swims.", None),
        ("negation_removed", "Anna is not kind.", "Anna is kind."),
        ("negation_removed", "Anna isn't kind.", "Anna is kind."),
        ("negation_removed", "She won't go, and cannot stay.", "She will go, and cannot stay."),
        ("negation_removed", "Cannot be.", "Can be."),
        ("negation_removed", "A notable knot.", None),
        ("names", "Anna and Anna's dog", "Clara and Clara's dog"),
        ("names", "Annabel is here", None),
        ("names", "Anna saw Clara", None),  # no third name of the gender: two would become one
        ("locations", "From Rome by bus", "From Oslo by bus"),
        ("locations", "Italy is warm", "Norway is warm"),
        ("locations", "In Paris", None),
        ("numbers", "No digits", None),
        ("numbers", "Between 1 and 2", "Between 1 and 3"),
        ("numbers", "1 cup", "2 cup"),
        ("numbers", "3.5 and 1,200 and x7", None),
        ("lowercase", "Anna IS here", "anna is here"),
        ("lowercase", "here", None),
        ("spaces", "a b", "a  b"),
        ("spaces", "one", None),
        ("typos", "Anna is 12", None),
        ("typos", "noon", "nono"),
    ],
)
def test_changes_by_hand(name, text, expected):
    assert changed(name, text) == expected


@given(st.text(alphabet="abcdefgh Anz.?'", max_size=40), st.integers(0, 999))
def test_a_typo_swaps_two_neighbours_and_always_changes_the_text(text, seed):
    new = changed("typos", text, seed)
    if new is not None:
        differing = [at for at, (old, now) in enumerate(zip(text, new, strict=True)) if old != now]
        assert len(differing) == 2
        assert differing[1] == differing[0] + 1
        assert text[differing[0]] + text[differing[1]] == new[differing[1]] + new[differing[0]]


@given(
    st.sampled_from(sorted(PERTURBATIONS)),
    st.text(alphabet="Anna is not 12 Rome. don't?", max_size=50),
    st.integers(0, 99),
)
def test_every_perturbation_changes_the_text_or_does_not_apply_and_follows_its_stream(name, text, seed):
    new = changed(name, text, seed)
    assert new != text
    assert new == changed(name, text, seed)


@given(st.integers(1, 5000), st.integers(0, 99))
def test_another_number_is_near_and_another(number, seed):
    new = int(changed("numbers", f"we saw {number} birds", seed).split()[2])
    assert 1 <= new != number
    assert abs(new - number) <= int(number * 0.2) + 1


def test_addresses_stand_beside_the_text():
    found = {changed("web", "It rains.", seed) for seed in range(20)}
    assert all("It rains." in one and len(one) > 10 for one in found)
    assert {one.startswith("It rains.") for one in found} == {True, False}


def test_negation_alone_turns_answers_round():
    reversed_ = {name for name, one in PERTURBATIONS.items() if one.answer == "reversed"}
    assert reversed_ == {"negation_added", "negation_removed"}
