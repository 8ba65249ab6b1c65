"""Instruction checks by hand, their loose readings, and that examples keep what they are examples of."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimpot.core.errors import UsageError
from trimpot.evaluation.suites.instructions import text
from trimpot.evaluation.suites.instructions.checks import CHECKS, ORDER
from trimpot.evaluation.suites.instructions.requests import INSTRUCTION_SCORERS, instruction_tasks, kept
from trimpot.evaluation.task import Item

STRICT, LOOSE = INSTRUCTION_SCORERS["instructions"], INSTRUCTION_SCORERS["instructions_loose"]


def asked(**constraints):
    return Item("Say something.", metadata={"constraints": constraints})


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ("", 0),
        ("It's a well-known fact.", 4),
        ("3.5 kilograms", 3),
        ("one — two", 2),
        ("- a\n- b", 2),
    ],
)
def test_words(given, count):
    assert len(text.words(given)) == count


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ("", 0),
        ("No full stop", 1),
        ("One. Two! Three?", 3),
        ("Dr. Smith met Mr. Jones.", 1),
        ("It costs 3.50 euros. Really.", 2),
        ("Eat fruit, e.g. apples. Then rest.", 2),
        ('She said: "Go!" Then she left.', 2),
        ("Wait... what?", 2),
        ("1. First\n2. Second", 2),
        ("I like J. R. Tolkien.", 1),
        ("A line\nand a line", 2),
        ("Plan A.", 1),
    ],
)
def test_sentences(given, count):
    assert text.sentences(given) == count


def test_paragraphs_bullets_and_scripts():
    assert text.paragraphs("a\n\nb\n \n\nc\nd") == 3
    assert text.paragraphs("") == 0
    assert text.bullets("- a\n* b\n  • c\n-d\n1. e") == 3
    assert text.script_share("Привет Bob", "CYRILLIC") == pytest.approx(6 / 9)
    assert text.script_share("123", "CYRILLIC") is None
    assert text.occurrences("river", "River, rivers and river-boats") == 2


@pytest.mark.parametrize(
    ("name", "settings", "keeps", "breaks"),
    [
        ("words_at_least", {"count": 3}, "one two three", "one two"),
        ("words_at_most", {"count": 3}, "one two three", "one two three four"),
        ("sentences", {"count": 2}, "One. Two.", "One."),
        ("paragraphs", {"count": 2}, "a\n\nb", "a\nb"),
        ("bullets", {"count": 2}, "- a\n- b", "- a\n- b\n- c"),
        ("json", {"keys": ["name", "use"]}, '{"name": 1, "use": [2]}', '{"name": 1}'),
        ("json", {"keys": ["name", "use"]}, '```json\n{"name": 1, "use": 2}\n```', 'Here: {"name": 1, "use": 2}'),
        ("json", {"keys": ["name", "use"]}, '{"name": 1, "use": 2, "more": 3}', '["name", "use"]'),
        ("title", {}, "[A title]\nText", "A title\nText"),
        ("highlights", {"count": 1}, "a *b* c", "a **b** c"),
        ("quotation", {}, '"All of it."', '"Some" of it.'),
        ("include", {"words": ["river", "table"]}, "A River by the table.", "Rivers by the table."),
        ("frequency", {"word": "river", "count": 2}, "River, river", "river rivers"),
        ("forbid", {"words": ["the", "is"], "count": 3}, "A cat sleeps", "The cat sleeps"),
        ("forbid", {"words": ["the", "is"], "count": 3}, "There, this list", "Nothing"),
        ("lowercase", {}, "all small 3", "All small"),
        ("uppercase", {}, "ALL LARGE 3", "ALL Large"),
        ("lowercase", {}, "a", "123"),
        ("capital_words", {"count": 2}, "VERY good INDEED", "A cat, I SAY"),
        ("starts_with", {"text": "Today"}, " Today, rain.", "Todays news"),
        ("ends_with", {"text": "The end."}, "Well. The end.\n", "The end. Bye."),
        ("question", {}, "Is it?", "It is? Yes."),
        ("postscript", {}, "Text.\nP.S. More.", "Text. P.S. More.\nAnd more"),
        ("no_commas", {"count": 2}, "a b c", "a, b, c"),
        ("script", {"script": "CYRILLIC"}, "Кот спит.", "A cat sleeps."),
        ("script", {"script": "GREEK"}, "Η γάτα", "Кот"),
    ],
)
def test_checks_by_hand(name, settings, keeps, breaks):
    item = asked(**{name: settings})
    assert STRICT(keeps, item).score == 1
    found = STRICT(breaks, item)
    assert (found.score, found.note) == (0, f"not kept: {name}")


def test_every_check_is_tested_by_hand_and_has_its_place_in_the_order():
    tested = {case[0] for mark in test_checks_by_hand.pytestmark for case in mark.args[1]}
    assert tested == set(CHECKS) == set(ORDER)


@pytest.mark.parametrize(
    ("output", "constraints"),
    [
        ("Sure! Here it is:\n[Title] text", {"title": {}}),
        ("Is it?\nI hope that helps.", {"question": {}}),
        ("Sure:\ntoday it rains\nI hope that helps.", {"lowercase": {}}),
        ("*Today* it rains.", {"starts_with": {"text": "Today"}}),
        ('Here:\n{"name": 1, "use": 2}', {"json": {"keys": ["name", "use"]}}),
    ],
)
def test_loose_readings_forgive_a_first_line_a_last_line_and_asterisks(output, constraints):
    item = asked(**constraints)
    assert (STRICT(output, item).score, LOOSE(output, item).score) == (0, 1)


def test_loose_reading_of_a_single_line_is_not_the_empty_text():
    """Without its only line an answer is empty, and an empty text has no comma and no word that is forbidden."""
    item = asked(words_at_most={"count": 3})
    assert LOOSE("one two three four five", item).score == 0


def test_all_constraints_have_to_be_kept_and_the_note_names_those_that_are_not():
    item = asked(lowercase={}, question={}, words_at_most={"count": 5})
    assert STRICT("is it so?", item).score == 1
    found = STRICT("Is it so.", item)
    assert (found.score, found.note) == (0, "not kept: lowercase, question")
    assert kept("Is it so.", item) == {"lowercase": False, "question": False, "words_at_most": True}


def test_an_empty_answer_is_a_parse_failure_and_keeps_nothing():
    item = asked(lowercase={}, words_at_most={"count": 5})
    for output in ("", " \n"):
        assert (STRICT(output, item).status, STRICT(output, item).score) == ("parse_failed", 0)
        assert LOOSE(output, item).score == 0
    assert not any(kept("", item).values())


@pytest.mark.parametrize("metadata", [{}, {"constraints": {}}, {"constraints": {"rhyme": {}}}])
def test_an_item_without_known_constraints_is_one_line(metadata):
    with pytest.raises(UsageError, match="has no known constraints in its metadata"):
        STRICT("a", Item("q", metadata=metadata))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_examples_keep_all_constraints_of_their_requests(seed):
    for item in instruction_tasks(seed, 42)[0].items:
        assert all(kept(item.answer, item).values()), (item.prompt[-1].content, item.answer)


def test_every_constraint_comes_alone_and_in_company():
    strict, loose = instruction_tasks(0, None)
    assert len(strict.items) == 126
    assert strict.items == loose.items
    found = [(item.slices["check"], item.slices["constraints"]) for item in strict.items]
    for name in CHECKS:
        assert found.count((name, "1")) >= 2
    assert {number for _, number in found} == {"1", "2", "3"}


def test_constraints_of_one_request_do_not_decide_the_same():
    for item in instruction_tasks(1, 300)[0].items:
        claims = [CHECKS[name].claims for name in item.metadata["constraints"]]
        assert sum(map(len, claims)) == len(frozenset().union(*claims))


@given(st.text())
def test_no_text_makes_a_check_raise(given_text):
    for name, settings_of in (
        ("json", {"keys": ["a", "b"]}),
        ("quotation", {}),
        ("script", {"script": "GREEK"}),
        ("postscript", {}),
        ("sentences", {"count": 2}),
    ):
        assert STRICT(given_text, asked(**{name: settings_of})).score in (0.0, 1.0)
