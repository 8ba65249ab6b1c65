import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimpot.evaluation.behaviour.parsers import parse

LABELS = ("positive", "negative", "neutral")
NAMES = ("Anna", "Brian")
CHOICES = ("owl", "lamp", "Oslo")


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("Yes.", "yes"), ("**No**", "no"), ("no, it isn't", "no"), ("Yeah!", "yes"), ("Nope", "no"),
        ("The answer is no.", "no"), ("Answer: yes", "yes"), ("I would say yes.", "yes"),
        (" \n Yes\n\nBecause.", "yes"),
        ("Yes, so the answer is yes.", "yes"), ("Yes … so the answer is no.", None),
        ("yes or no", None), ("No / Yes", None),
        ("There is no way to tell", None), ("Nobody knows.", None), ("Maybe", None),
        ("", None), ("Anna is a nurse.", None), ("It is nothing but a yes/no question", None),
    ],
)  # fmt: skip
def test_yes_and_no(output, answer):
    assert parse(output, "yes_no") == answer


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("Positive", "positive"), ("This is a negative opinion.", "negative"), ("The label is: neutral", "neutral"),
        ("positive, negative or neutral", None), ("It is not positive.", None), ("It isn't a positive one", None),
        ("Positive. It is not negative.", "positive"), ("Positive: the label is negative", "negative"), ("good", None),
        ("Positively", None), ("It is negative, truly negative.", "negative"), ("Negative and positive.", None),
    ],
)  # fmt: skip
def test_labels(output, answer):
    assert parse(output, "label", LABELS) == answer


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("Anna", "Anna"), ("Brian is a nurse.", "Brian"), ("The nurse is anna.", "Anna"), ("Anna chose Brian.", None),
        ("Anna is not a nurse.", None), ("Anna isn't a nurse.", None), ("Anna, not Brian.", "Anna"), ("Annabel", None),
    ],
)  # fmt: skip
def test_a_copied_sentence_is_no_answer(output, answer):
    assert parse(output, "label", NAMES) == answer


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("B", "lamp"), ("(c)", "Oslo"), ("A) owl", "owl"), ("The answer is B.", "lamp"), ("Option C", "Oslo"),
        ("owl", "owl"), ("A lamp", "lamp"), ("B lamp", "lamp"), ("B) owl", None), ("A) owl\nB) lamp\nC) Oslo", None),
        ("B.\n\nThe correct answer is C) Oslo.", None), ("The answer is a lamp", "lamp"), ("I do not know", None),
        ("It is not the owl", None), ("D", None), ("**B**", "lamp"),
    ],
)  # fmt: skip
def test_choices_are_read_as_their_text(output, answer):
    assert parse(output, "choice", CHOICES) == answer


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("17", "17"), ("17.0", "17"), ("It is 1,200.", "1200"), ("12 + 5 = 17", "17"),
        ("9 - 5 is 4.", "4"), ("-3", "-3"),
        ("12 - 5 = 7", "7"), ("The answer is 4, as 9 - 5 makes it so", "4"), ("seventeen", "17"), ("9 or 10", None),
        ("Twenty-one", None), ("2.50", "2.5"), ("He has 7 and 7 it is", "7"), ("$12", "12"),
        ("the 3rd of 4", "4"), ("", None),
        ("Anna has 8 and gets 3 more", None),
    ],
)  # fmt: skip
def test_numbers(output, answer):
    assert parse(output, "number") == answer


@pytest.mark.parametrize(
    ("output", "kind", "options", "answer"),
    [
        ("No, a horse is", "yes_no", (), "no"),
        ("No", "yes_no", (), None),  # may become "nothing"
        ("Brian is a pilot. He is", "label", NAMES, "Brian"),
        ("Brian is a pilot and", "label", NAMES, None),
        ("Positive.", "label", LABELS, "positive"),
        ("Positive", "label", LABELS, None),
        ("A) owl\nB) la", "choice", CHOICES, None),
        ("B) lamp is the", "choice", CHOICES, "lamp"),
        ("17\nThis is", "number", (), "17"),
        ("11 + 6 = 17\nThis is a", "number", (), "17"),
        ("12", "number", (), None),
        ("12.", "number", (), None),
        ("11 + 6", "number", (), None),
        ("1. First we add", "number", (), None),
        ("To solve this we add 6 and", "number", (), None),
    ],
)
def test_of_a_cut_completion_only_what_is_whole_counts(output, kind, options, answer):
    assert parse(output, kind, options, finished=False) == answer


@given(st.integers(-(10**6), 10**6))
def test_every_whole_number_is_read_back(number):
    assert parse(str(number), "number") == str(number)
    assert parse(f"The answer is {number:,}.", "number") == str(number)


@given(st.text(max_size=60), st.booleans())
def test_any_text_gives_one_of_the_options_or_nothing(text, finished):
    assert parse(text, "yes_no", finished=finished) in ("yes", "no", None)
    assert parse(text, "label", LABELS, finished) in (*LABELS, None)
    assert parse(text, "choice", CHOICES, finished) in (*CHOICES, None)
    parse(text, "number", finished=finished)


@given(st.permutations(CHOICES))
def test_a_choice_is_the_same_answer_wherever_it_stands(order):
    assert {parse("ABC"[order.index("owl")] + ")", "choice", order)} == {"owl"}
