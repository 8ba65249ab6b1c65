import math

import pytest

from tests.evaluation.scripted import ScriptedModel
from trimpot.core.errors import UsageError
from trimpot.core.rows import Message
from trimpot.evaluation.runner import evaluate_task
from trimpot.evaluation.task import Decoding, Item, Task


def test_a_choice_item_is_right_when_the_likeliest_choice_is():
    items = (Item("a?", (" x", " long"), " x"), Item("b?", (" x", " long"), " long"))
    outcomes = evaluate_task(ScriptedModel(), Task("t", "choice", items, "acc"), "r")
    assert [one.score for one in outcomes] == [1.0, 0.0]
    # Scores −2 and −5: e⁰ / (e⁰ + e⁻³).
    assert outcomes[0].confidence == pytest.approx(1 / (1 + math.exp(-3)))
    assert outcomes[0].prompt_ids == tuple(b"a?")


def test_generated_answers_are_scored_and_cut_ones_are_parse_failures():
    items = (
        Item((Message("user", "2+2"),), answer="4", slices={"kind": "sum"}, cluster="c"),
        Item("5", answer="55555"),
    )
    model = ScriptedModel(lambda prompt, sample: "4\nmore" if "2+2" in prompt else "5" * 50)
    task = Task("t", "generate", items, "exact", Decoding(max_tokens=10, stop=("\n",)))
    first, second = evaluate_task(model, task, "r")
    assert (first.score, first.status, first.output, first.cluster) == (1.0, "ok", "4", "c")
    assert (second.score, second.status, second.tokens) == (0.0, "parse_failed", 10)


def test_bits_per_byte():
    (one,) = evaluate_task(ScriptedModel(), Task("t", "rolling", (Item("abcd"),), "bits_per_byte"), "r")
    assert one.score == pytest.approx(1 / math.log(2))
    assert one.better == "lower"


def test_an_unknown_scorer_is_one_line():
    with pytest.raises(UsageError, match=r"task t: .exat. is no scorer.*exact"):
        evaluate_task(ScriptedModel(), Task("t", "generate", (Item("a"),), "exat"), "r")
