"""Tasks on a model: order, lengths, statuses, time, scorers that fail or hang, and what is refused beforehand."""

from __future__ import annotations

import math

import pytest

from tests.evaluation.scripted import ScriptedModel
from trimpot.core.errors import UsageError
from trimpot.core.rows import Message
from trimpot.evaluation.runner import evaluate_task, evaluate_tasks, requests_of
from trimpot.evaluation.task import Decoding, Item, Task


class Limited:
    """A scripted model that reads at most ``max_length`` bytes."""

    def __init__(self, max_length: int) -> None:
        self.inner, self.max_length = ScriptedModel(lambda prompt, sample: "4"), max_length

    def tokens_of(self, prompt, continuation=""):
        return len(self.inner.rendered(prompt)) + len(continuation)

    def __getattr__(self, name):
        return getattr(self.inner, name)


SHORT, LONG = Item("2+2", answer="4"), Item("2+2" + " " * 50, answer="4")


def test_an_item_that_is_too_long_is_one_line_before_anything_is_asked():
    model = Limited(20)
    tasks = [
        Task("first", "generate", (SHORT,), "exact", Decoding(8)),
        Task("second", "generate", (SHORT, LONG, LONG), "exact", Decoding(8)),
    ]
    with pytest.raises(UsageError) as caught:
        evaluate_tasks(model, tasks, "r")
    assert str(caught.value).startswith(
        f"task second, item 2 ({LONG.id}): has 53 tokens, and 8 to generate, where the model reads 20; 1 more"
    )
    assert model.inner.requests == []


def test_an_item_that_is_too_long_counts_as_an_error_where_that_is_wanted_and_is_told():
    notes: list[str] = []
    task = Task("t", "generate", (SHORT, LONG, SHORT), "exact", Decoding(8, temperature=1.0, samples=2))
    outcomes = evaluate_tasks(Limited(20), [task], "r", too_long="error", heard=notes.append)
    assert [(one.status, one.score, one.sample) for one in outcomes] == [
        ("ok", 1.0, 0), ("ok", 1.0, 1), ("error", None, 0), ("error", None, 1), ("ok", 1.0, 0), ("ok", 1.0, 1),
    ]  # fmt: skip
    assert notes == [f"t, item {LONG.id}: has 53 tokens, and 8 to generate, where the model reads 20"]


def test_the_last_token_of_a_choice_is_predicted_and_not_read():
    item = Item("ab", (" c", " de"), " c")
    assert evaluate_task(Limited(4), Task("t", "choice", (item,), "acc"), "r")[0].status == "ok"
    with pytest.raises(UsageError, match="has 4 tokens with its longest choice where the model reads 3"):
        evaluate_task(Limited(3), Task("t", "choice", (item,), "acc"), "r")


def test_acc_norm_divides_by_the_choice_without_its_space_as_lm_eval_does():
    # −4/1 against −7/2: with the space counted −4/2 against −7/3, the other way round.
    model = ScriptedModel(score=lambda context, choice: {" a": -4.0, " bb": -7.0}[choice])
    item = Item("q", (" a", " bb"), " bb")
    assert evaluate_task(model, Task("t", "choice", (item,), "acc_norm"), "r")[0].score == 1.0
    assert evaluate_task(model, Task("t", "choice", (item,), "acc"), "r")[0].score == 0.0


def test_acc_bytes_divides_by_bytes():
    # "é" has 2 bytes: −5/2 against −3/1.
    model = ScriptedModel(score=lambda context, choice: {" é": -5.0, " a": -3.0}[choice])
    item = Item("q", (" é", " a"), " é")
    assert evaluate_task(model, Task("t", "choice", (item,), "acc_bytes"), "r")[0].score == 1.0
    assert evaluate_task(model, Task("t", "choice", (item,), "acc_norm"), "r")[0].score == 0.0


def test_a_choice_item_without_a_right_choice_is_unscored():
    (one,) = evaluate_task(ScriptedModel(), Task("t", "choice", (Item("q", (" a", " bb")),), "acc"), "r")
    assert (one.status, one.score, one.output) == ("unscored", None, " a")


@pytest.mark.parametrize(
    "task",
    [Task("t", "choice", (Item("q", (" a", " b"), " a"),), "acc"), Task("t", "rolling", (Item("q"),), "bits_per_byte")],
)
def test_a_likelihood_that_is_not_finite_is_an_error_and_no_score(task):
    model = ScriptedModel(score=lambda context, choice: math.nan)
    (one,) = evaluate_task(model, task, "r")
    assert (one.status, one.score) == ("error", None)


def test_a_scorer_that_fails_on_an_item_is_that_items_error(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import time\n"
        "def score(output, row):\n"
        "    if row.answer == 'hang':\n"
        "        time.sleep(60)\n"
        "    return 1 / (len(output) - 2)\n"
    )
    items = (Item("abc", answer="x"), Item("ab", answer="x"), Item("abc", answer="y"))
    notes: list[str] = []
    model = ScriptedModel(lambda prompt, sample: prompt)
    task = Task("t", "generate", items, f"{tmp_path}/mine.py:score", Decoding(8))
    outcomes = evaluate_tasks(model, [task], "r", heard=notes.append)
    assert [(one.status, one.score) for one in outcomes] == [("ok", 1.0), ("error", None), ("ok", 1.0)]
    assert len(notes) == 1
    assert "ZeroDivisionError" in notes[0]


def test_an_item_whose_metadata_the_scorer_lacks_is_an_error():
    task = Task("t", "generate", (Item("a"),), "format", Decoding(8))
    (one,) = evaluate_task(ScriptedModel(lambda prompt, sample: "a"), task, "r")
    assert (one.status, one.score) == ("error", None)


def test_an_unfinished_answer_is_scored_only_where_the_task_says_so():
    items = (Item("q", answer="good"),)
    model = ScriptedModel(lambda prompt, sample: "a good day is long")
    cut = Task("t", "generate", items, "contains", Decoding(8))
    assert [(one.status, one.score) for one in evaluate_task(model, cut, "r")] == [("parse_failed", 0.0)]
    scored = Task("t", "generate", items, "contains", Decoding(8, score_unfinished=True))
    assert [(one.status, one.score) for one in evaluate_task(model, scored, "r")] == [("ok", 1.0)]


def test_progress_counts_requests_over_all_tasks():
    calls = []
    tasks = [
        Task("a", "choice", (Item("q", (" a", " b", " c"), " a"),), "acc"),
        Task("b", "generate", (Item("q", answer="x"),), "exact", Decoding(8, temperature=1.0, samples=2)),
        Task("c", "rolling", (Item("text"),), "bits_per_byte"),
    ]
    assert [requests_of(task) for task in tasks] == [3, 2, 1]
    evaluate_tasks(ScriptedModel(), tasks, "r", lambda done, total: calls.append((done, total)))
    assert calls == [(3, 6), (5, 6), (6, 6)]


def test_a_rolling_conversation_is_its_rendered_text():
    task = Task("t", "rolling", (Item((Message("user", "é"),)),), "bits_per_byte")
    model = ScriptedModel(score=lambda context, text: -8 * math.log(2))
    (one,) = evaluate_task(model, task, "r")
    assert one.score == pytest.approx(8 / len("user: é\nassistant:".encode()))


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Task("t", "choice", (Item("q"),), "acc"), "task t, item 1: has no choices"),
        (Task("t", "choice", (Item("q", (" a", ""), " a"),), "acc"), "task t, item 1: has an empty choice"),
        (Task("t", "choice", (Item("q", (" a",), " b"),), "acc"), "which is none of its choices"),
        (Task("t", "choice", (Item("q", (" a",), " a"),), "exact"), "'exact' is no scorer of a choice task"),
        (Task("t", "generate", (Item("q"),), ""), "task t: has no scorer"),
        (Task("t", "generate", (), "exact"), "task t: has no items"),
        (Task("t", "rolling", (Item(""),), "bits_per_byte"), "task t, item 1: is an empty text"),
    ],
)
def test_what_cannot_be_asked_is_one_line_before_any_other_task_is(task, message):
    model = ScriptedModel()
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        evaluate_tasks(model, [Task("good", "generate", (Item("q"),), "exact"), task], "r")
    assert model.requests == []


def test_two_tasks_of_one_name_are_refused():
    task = Task("t", "generate", (Item("q"),), "exact")
    with pytest.raises(UsageError, match="task t: is there twice"):
        evaluate_tasks(ScriptedModel(), [task, task], "r")
