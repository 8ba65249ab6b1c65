import itertools
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimpot.evaluation.behaviour.templates import Placeholder, draw_fillers, fill, pieces_of, with_article

LEXICONS = {"name": ["Anna", "Brian", "Clara"], "job": ["nurse", "actor"], "animal": [{"n": "owl"}, {"n": "ant"}]}


def drawn(names, seed=0, accept=lambda fillers: True, lexicons=LEXICONS):
    return list(draw_fillers(names, lexicons, Random(seed), accept))


def test_a_template_is_filled_with_articles_fields_and_capitals():
    fillers = {"name1": "Anna", "job": "actor", "animal": {"n": "owl"}}
    text = "{name1} is {a:job}. {A:animal.n} sees {{it}}. {cap:job}!"
    assert fill(text, fillers) == "Anna is an actor. An owl sees {it}. Actor!"
    assert pieces_of("x {a:animal.n}")[1] == Placeholder("animal", "n", "a")
    assert pieces_of("{name12}")[0].lexicon == "name"


@pytest.mark.parametrize(
    ("word", "article"),
    [
        ("nurse", "a"), ("actor", "an"), ("umbrella", "an"), ("hour", "an"), ("honest man", "an"), ("house", "a"),
        ("university", "a"), ("unimportant detail", "an"), ("uninteresting book", "an"), ("user", "a"),
        ("European", "a"), ("one-eyed cat", "a"), ("owl", "an"), ("Italian", "an"), ("heiress", "an"),
    ],
)  # fmt: skip
def test_articles_go_by_sound(word, article):
    assert with_article(word) == f"{article} {word}"


@pytest.mark.parametrize("text", ["{name", "name}", "{Name}", "{a:}", "{b:name}", "{name.}", "{name is}", "{}"])
def test_a_brace_that_is_no_placeholder_is_refused(text):
    with pytest.raises(ValueError, match="is no placeholder"):
        pieces_of(text)


def test_a_missing_field_is_named():
    with pytest.raises(ValueError, match="no field 'kind', but n"):
        fill("{animal.kind}", {"animal": {"n": "owl"}})


def test_the_cross_product_without_repetition_and_with_distinct_fillers():
    found = drawn(["name1", "name2", "job"])
    pairs = {(one["name1"], one["name2"], one["job"]) for one in found}
    expected = {(a, b, job) for a, b in itertools.permutations(LEXICONS["name"], 2) for job in LEXICONS["job"]}
    assert pairs == expected
    assert len(found) == len(expected) == 12


def test_conditions_leave_out_what_does_not_meet_them():
    assert {one["name"] for one in drawn(["name"], accept=lambda fillers: fillers["name"] != "Anna")} == {
        "Brian",
        "Clara",
    }
    assert drawn([]) == [{}]


def test_fillers_with_the_same_word_twice_count_as_one():
    assert drawn(["w1", "w2"], lexicons={"w": ["x", "x"]}) == []


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_a_large_product_is_sampled_without_repetition_and_by_the_seed(seed, count):
    lexicons = {"a": [str(n) for n in range(200)], "b": [str(n) for n in range(200)]}
    first = [
        tuple(one.values())
        for one in itertools.islice(draw_fillers(["a", "b"], lexicons, Random(seed), lambda fillers: True), count)
    ]
    again = [
        tuple(one.values())
        for one in itertools.islice(draw_fillers(["a", "b"], lexicons, Random(seed), lambda fillers: True), count)
    ]
    assert first == again
    assert len(set(first)) == count
