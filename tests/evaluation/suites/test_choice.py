"""Closed sets, grammar, facts, truthfulness: what does not read the question scores exactly chance."""

import json
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.scripted import ScriptedModel
from trimpot.core.errors import UsageError
from trimpot.core.seeds import stream
from trimpot.evaluation.runner import evaluate_task
from trimpot.evaluation.suites.choice import facts_task, grammar_task
from trimpot.evaluation.suites.closed_sets import closed_set
from trimpot.evaluation.suites.facts import RELATIONS
from trimpot.evaluation.suites.grammar import PHENOMENA
from trimpot.evaluation.suites.rows import own_rows
from trimpot.evaluation.suites.truthfulness import truthfulness_tasks


def mean(outcomes):
    return math.fsum(one.score for one in outcomes) / len(outcomes)


def preference(seed):
    """A model that likes some continuations better than others, and does not read what is before them."""
    return ScriptedModel(score=lambda context, choice: -stream(seed, choice).random())


CLOSED = {
    "grammar": (grammar_task(0, None), 1 / 2),
    "facts": (facts_task(0, None), 1 / 4),
    "yes_no": (truthfulness_tasks(0, None)[1], 1 / 2),
}


@pytest.mark.parametrize("name", CLOSED)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_model_that_does_not_read_the_question_scores_exactly_chance(name, seed):
    task, chance = CLOSED[name]
    assert mean(evaluate_task(preference(seed), task, "r")) == chance


@pytest.mark.parametrize("name", CLOSED)
def test_a_model_that_knows_the_answers_scores_one(name):
    task, _ = CLOSED[name]
    right = {(item.prompt, item.answer) for item in task.items}
    model = ScriptedModel(score=lambda context, choice: 0.0 if (context, choice) in right else -9.0)
    assert mean(evaluate_task(model, task, "r")) == 1


def test_a_closed_set_by_hand():
    draw = stream(0, "test")
    items = closed_set([("The key", " is here."), ("The keys", " are here.")], "c", {"a": "b"}, draw)
    assert [item.answer for item in items] == [" is here.", " are here."]
    assert items[0].choices == items[1].choices
    assert {item.cluster for item in items} == {"c"}


@pytest.mark.parametrize("pairs", [[("a", " x"), ("b", " x")], [("a", " x"), ("a", " y")]])
def test_a_closed_set_needs_different_questions_and_answers(pairs):
    with pytest.raises(ValueError, match="must differ"):
        closed_set(pairs, "c", {}, stream(0, "test"))


def test_grammar_has_every_phenomenon_equally_often():
    found = Counter(item.slices["phenomenon"] for item in CLOSED["grammar"][0].items)
    assert found == dict.fromkeys(PHENOMENA, 20)


def test_the_attractor_has_the_other_number_than_the_subject():
    items = [item for item in grammar_task(3, 520).items if item.slices["phenomenon"] == "agreement_attractor"]
    irregular = {"shelves", "knives", "boxes"}

    def plural(noun):
        return noun.endswith("s") or noun in irregular

    for item in items:
        words = item.prompt.split()
        assert plural(words[1]) != plural(words[-1])
        assert item.answer.startswith(" are " if plural(words[1]) else " is ")


def test_an_and_a_agree_with_the_word():
    items = [item for item in grammar_task(1, 520).items if item.slices["phenomenon"] == "article"]
    assert items
    for item in items:
        assert (item.answer[1] in "aeiou") == item.prompt.endswith(" an")


def test_the_facts_of_a_relation_can_be_told_apart():
    for template, pairs in RELATIONS.values():
        assert template.count("{}") == 1
        assert len(pairs) >= 8
        assert len({first for first, _ in pairs}) == len({second for _, second in pairs}) == len(pairs)


def test_the_four_facts_of_a_set_are_of_one_relation():
    items = CLOSED["facts"][0].items
    for place in range(0, len(items), 4):
        some = items[place : place + 4]
        assert len({item.slices["relation"] for item in some}) == 1
        assert {item.answer for item in some} == set(some[0].choices)


def test_too_few_items_for_a_set_is_one_line():
    with pytest.raises(UsageError, match="3 items are less than a set of 4"):
        facts_task(0, 3)


def test_more_items_than_there_are_is_one_line():
    with pytest.raises(UsageError, match=r"has \d+ items and no more"):
        grammar_task(0, 100_000)


def test_truthfulness_has_a_hundred_pairs_and_length_and_negation_tell_nothing():
    rows = own_rows("truthfulness.jsonl")
    assert len(rows) == 130
    assert Counter(row["kind"] for row in rows) == {"misconception": 82, "fact": 48}
    statements = [row[key] for row in rows for key in ("true", "false")]
    assert len(set(statements)) == 260
    longer = Counter((len(row["true"]) > len(row["false"])) - (len(row["true"]) < len(row["false"])) for row in rows)
    assert longer == {1: 58, -1: 63, 0: 9}

    def negated(text):
        return any(f" {word} " in f" {text.casefold()} " for word in ("not", "no", "cannot", "never"))

    assert sum(negated(row["true"]) for row in rows) == sum(negated(row["false"]) for row in rows) == 27


@pytest.mark.parametrize(("rule", "score"), [(len, 62.5 / 130), (lambda text: -len(text), 67.5 / 130)])
def test_the_longer_or_shorter_statement_is_no_answer(rule, score):
    """58 (63) right, and the nine of equal length, of which the first counts: between them."""
    task = truthfulness_tasks(0, None)[0]
    found = mean(evaluate_task(ScriptedModel(score=lambda _, choice: rule(choice)), task, "r"))
    assert abs(found - score) <= 4.5 / 130
    assert 0.4 < found < 0.6


def test_both_statements_of_a_pair_are_asked_in_yes_no():
    pairs, statements = truthfulness_tasks(0, 20)
    assert len(pairs.items) == len(statements.items) == 20
    answers = Counter((item.cluster, item.answer) for item in statements.items)
    assert set(answers.values()) == {1}
    assert Counter(item.answer for item in statements.items) == {" Yes": 10, " No": 10}


def test_rows_are_json_lines_with_the_same_keys():
    for name, keys in {
        "truthfulness.jsonl": {"topic", "kind", "question", "true", "false"},
        "refusals.jsonl": {"kind", "harmless", "refusable"},
    }.items():
        assert all(set(row) == keys and all(row.values()) for row in own_rows(name))
        assert json.dumps(own_rows(name), ensure_ascii=False).isascii()
