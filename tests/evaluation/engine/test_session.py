"""An evaluation into a folder: what it holds, what is refused before the model is asked, and going on after a kill."""

from __future__ import annotations

import json

import pytest

from tests.evaluation.scripted import ScriptedModel
from trimpot.core.errors import UsageError
from trimpot.evaluation.cache import ResponseCache
from trimpot.evaluation.session import Plan, evaluate_into, read_evaluation
from trimpot.evaluation.task import Decoding, Item, Task

ITEMS = tuple(Item(f"{n}?", answer=str(n)) for n in range(6))
TASKS = [
    Task("sums", "generate", ITEMS, "exact", Decoding(max_tokens=8)),
    Task("pick", "choice", (Item("q", (" a", " bb"), " a"),), "acc"),
]
PLAN = Plan("mine", TASKS, 3, 6)


def echo(prompt, sample):
    return prompt.rstrip("?")


def test_the_folder_holds_outcomes_and_a_record_that_reads_back(tmp_path):
    with ResponseCache(tmp_path / "c.sqlite") as cache:
        done = evaluate_into(tmp_path / "out", ScriptedModel(echo), PLAN, cache)
    again = read_evaluation(tmp_path / "out")
    assert again.outcomes == done.outcomes
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert record == again.record == done.record
    assert record["model"]["weights"] == "weights of scripted"
    assert (record["suite"], record["seed"], record["items"]) == ("mine", 3, 6)
    assert [task["name"] for task in record["tasks"]] == ["sums", "pick"]
    assert record["cache"] == {"path": str(tmp_path / "c.sqlite"), "hits": 0, "asked": 8}
    # Six answers of one byte and their end.
    assert record["generated_tokens"] == 12
    assert record["statuses"] == {"ok": 7, "parse_failed": 0, "error": 0, "unscored": 0}
    assert record["environment"]["versions"]["trimpot"]
    assert done.outcomes[0].run == "out"


def test_a_second_evaluation_asks_nothing_and_gives_the_same(tmp_path):
    with ResponseCache(tmp_path / "c.sqlite") as cache:
        first = evaluate_into(tmp_path / "a" / "x", ScriptedModel(echo), PLAN, cache)
        model = ScriptedModel(lambda prompt, sample: pytest.fail("was asked again"))
        second = evaluate_into(tmp_path / "b" / "x", model, PLAN, cache)
    assert second.record["cache"]["hits"] == 8
    assert second.record["generated_tokens"] == 0
    assert second.record["tokens_per_second"] is None
    assert second.outcomes == first.outcomes


def test_a_killed_evaluation_leaves_no_folder_and_goes_on(tmp_path):
    asked = []

    def dying(prompt, sample):
        asked.append(prompt)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return echo(prompt, sample)

    with ResponseCache(tmp_path / "c.sqlite") as cache:
        with pytest.raises(KeyboardInterrupt):
            evaluate_into(tmp_path / "out", ScriptedModel(dying), PLAN, cache, batch=1)
        assert not (tmp_path / "out").exists()
        done = evaluate_into(tmp_path / "out", ScriptedModel(echo), PLAN, cache, batch=1)
    assert done.record["cache"]["hits"] == 3
    assert [one.score for one in done.outcomes] == [1.0] * 7


def test_without_a_cache_everything_is_asked(tmp_path):
    model = ScriptedModel(echo)
    done = evaluate_into(tmp_path / "out", model, PLAN)
    assert len(model.requests) == 6
    assert done.record["cache"] is None
    assert done.record["generated_tokens"] == 12


def test_what_the_linter_refuses_is_never_asked(tmp_path):
    model = ScriptedModel(echo)
    twice = Task("t", "generate", (ITEMS[0], ITEMS[0]), "exact")
    with pytest.raises(UsageError, match="task t, item 2: is the item of task t, item 1"):
        evaluate_into(tmp_path / "out", model, Plan("mine", [*TASKS, twice], 0, None))
    assert model.requests == []
    assert not (tmp_path / "out").exists()


def test_warnings_are_kept(tmp_path):
    pick = Task("t", "choice", (Item("q", (" yes", " yes!"), " yes"),), "acc")
    done = evaluate_into(tmp_path / "out", ScriptedModel(), Plan("mine", [pick], 0, None))
    assert len(done.warnings) == 1
    assert done.record["warnings"][0].startswith("task t, item 1: the choice ' yes!' begins with")


def test_what_had_no_score_is_in_the_record(tmp_path):
    unsure = Task("t", "choice", (Item("q", (" a", " b")),), "acc")
    done = evaluate_into(tmp_path / "out", ScriptedModel(), Plan("mine", [unsure], 0, None))
    assert done.record["notes"] == [f"t, item {unsure.items[0].id}: no choice is said to be right"]
    assert done.record["statuses"]["unscored"] == 1


def test_a_folder_that_holds_an_evaluation_is_left_alone(tmp_path):
    evaluate_into(tmp_path / "out", ScriptedModel(echo), PLAN)
    with pytest.raises(UsageError, match="holds an evaluation already"):
        evaluate_into(tmp_path / "out", ScriptedModel(echo), PLAN)


def test_a_folder_without_an_evaluation_is_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"holds no evaluation\.json"):
        read_evaluation(tmp_path)
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(UsageError, match="is not JSON"):
        read_evaluation(tmp_path)
