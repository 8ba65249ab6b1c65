import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimpot.evaluation.behaviour.expressions import as_text, evaluate, names_in

FILLERS = {"a": "3", "b": "4", "animal": {"name": "owl", "kind": "bird"}, "word": "cat"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a + b", 7),
        ("a - b", -1),
        ("-a * b", -12),
        ("a < b", True),
        ("not a == b", True),
        ("animal.kind == 'bird'", True),
        ("animal.kind != word", True),
        ("word if a > b else animal.name", "owl"),
        ("a > b and word > a", False),  # the guard stops before a word is compared with a number
        ("a < b or word > a", True),
    ],
)
def test_values_by_hand(text, value):
    assert evaluate(text, FILLERS) == value


@given(st.integers(-99, 99), st.integers(-99, 99), st.integers(-99, 99))
def test_whole_numbers_as_python_counts(a, b, c):
    fillers = {"a": str(a), "b": str(b), "c": str(c)}
    assert evaluate("a * b - c", fillers) == a * b - c
    assert evaluate("a + b > c", fillers) == (a + b > c)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "a.__class__.x",
        "[1]",
        "a ** b",
        "a / b",
        "lambda: 1",
        "a < b < a",
        "a +",
        "f'{a}'",
        "1.5",
        "a[0]",
    ],
)
def test_whatever_is_not_of_the_grammar_is_refused(text):
    with pytest.raises(ValueError, match=r"no expression|not allowed"):
        evaluate(text, FILLERS)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("c + a", "'c' has no filler"),
        ("animal + a", "name one, as in animal.FIELD"),
        ("animal.size == a", "no field 'size', but name, kind"),
        ("word.kind == a", "which has no field 'kind'"),
        ("word + a", "'word' is 'cat', which is no whole number"),
        ("word < a", "compares a word with a number"),
        ("'x' * 9", "no whole number"),
    ],
)
def test_values_that_are_not_there_are_named(text, problem):
    with pytest.raises(ValueError, match=problem):
        evaluate(text, FILLERS)


def test_truth_is_an_answer_and_names_keep_their_order():
    assert [as_text(value) for value in (True, False, 7, "x")] == ["yes", "no", "7", "x"]
    assert names_in("b if a.kind == c else b") == ["b", "a", "c", "b"]
