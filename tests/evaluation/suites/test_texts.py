"""Refusals, open-ended beginnings and perplexity."""

import math
from collections import Counter

import pytest

from tests.evaluation.scripted import ScriptedModel
from trimpot.core.errors import UsageError
from trimpot.evaluation.runner import evaluate_task
from trimpot.evaluation.suites.open_ended import open_ended_tasks
from trimpot.evaluation.suites.perplexity import perplexity_task, perplexity_tasks
from trimpot.evaluation.suites.refusals import REFUSAL_SCORERS, refusal_tasks
from trimpot.evaluation.task import Item

REFUSAL = "I'm sorry, but I can't help with that."


@pytest.mark.parametrize("answer", [REFUSAL, "Sure, here is how to do it.", "I cannot do that.", "No."])
def test_refusing_always_or_never_scores_one_half(answer):
    task = refusal_tasks(0, None)[0]
    outcomes = evaluate_task(ScriptedModel(lambda *_: answer), task, "r")
    assert math.fsum(one.score for one in outcomes) / len(outcomes) == 0.5


def test_twins_are_scored_by_their_side():
    task = refusal_tasks(0, 20)[0]
    harmless = {item.prompt[0].content for item in task.items if item.slices["side"] == "harmless"}

    def right(prompt, _):
        return "Here you are." if any(text in prompt for text in harmless) else REFUSAL

    def wrong(prompt, sample):
        return "Here you are." if right(prompt, sample) == REFUSAL else REFUSAL

    assert {one.score for one in evaluate_task(ScriptedModel(right), task, "r")} == {1.0}
    assert {one.score for one in evaluate_task(ScriptedModel(wrong), task, "r")} == {0.0}


def test_there_are_64_twins_and_both_of_a_pair_are_asked():
    task = refusal_tasks(0, None)[0]
    assert len(task.items) == 128
    assert Counter(item.slices["side"] for item in task.items) == {"harmless": 64, "refusable": 64}
    assert set(Counter(item.cluster for item in task.items).values()) == {2}
    assert len(refusal_tasks(0, 7)[0].items) == 6


def test_an_unreadable_answer_is_a_parse_failure_on_both_sides():
    score = REFUSAL_SCORERS["refusal"]
    for expected in ("answer", "refuse"):
        for output in ("", " \n", "???"):
            found = score(output, Item("q", answer=expected))
            assert (found.status, found.score) == ("parse_failed", 0)


def test_a_refusal_that_is_cut_still_counts():
    task = refusal_tasks(0, 2)[0]
    outcomes = evaluate_task(ScriptedModel(lambda *_: REFUSAL + " Really." * 50), task, "r")
    assert [one.score for one in outcomes] == [0.0, 1.0]
    assert {one.status for one in outcomes} == {"ok"}


def test_open_ended_beginnings_have_no_score_of_their_own():
    bias, toxicity = open_ended_tasks(0, None, samples=1)
    assert (bias.metric_group, toxicity.metric_group) == ("bias", "toxicity")
    assert (len(bias.items), len(toxicity.items)) == (96, 36)
    outcomes = evaluate_task(ScriptedModel(lambda *_: " he left."), bias, "r")
    assert {(one.status, one.score, one.output) for one in outcomes} == {("unscored", None, " he left.")}


def test_beginnings_about_people_name_every_occupation_in_every_scene_and_no_gender():
    bias = open_ended_tasks(0, None)[0]
    assert Counter((item.slices["occupation"], item.slices["scene"]) for item in bias.items).most_common(1)[0][1] == 1
    gendered = {"he", "she", "him", "her", "his", "hers", "man", "woman", "mr", "mrs"}
    assert not any(gendered & set(item.prompt.casefold().replace(",", "").split()) for item in bias.items)


def test_neutral_beginnings_are_there_however_few_are_taken():
    for items in (8, 20, None):
        kinds = Counter(item.slices["kind"] for item in open_ended_tasks(0, items)[1].items)
        assert set(kinds) == {"annoyance", "people", "online", "neutral"}
        assert max(kinds.values()) - min(kinds.values()) <= 2


@pytest.fixture(scope="module")
def texts():
    return {task.name.split("/")[1]: task for task in perplexity_tasks(0, None)}


def test_a_coin_for_every_bit_scores_eight_bits_per_byte(texts):
    model = ScriptedModel(score=lambda _, text: -math.log(256) * len(text.encode()))
    for task in texts.values():
        outcomes = evaluate_task(model, task, "r")
        assert {round(one.score, 9) for one in outcomes} == {8.0}
        assert {one.better for one in outcomes} == {"lower"}


def test_passages_name_their_domain_document_and_version(texts):
    import platform
    from importlib.metadata import version

    assert set(texts) == {"code", "documentation", "prose", "legal"}
    sources = {name: {item.slices["source"] for item in task.items} for name, task in texts.items()}
    assert sources["code"] == {f"Python {platform.python_version()}"}
    assert sources["documentation"] <= {f"numpy {version('numpy')}", f"scipy {version('scipy')}"}
    for name, task in texts.items():
        assert {item.slices["domain"] for item in task.items} == {name}
        assert len({item.cluster for item in task.items}) >= 7
        assert all(300 <= len(item.prompt) <= 1200 for item in task.items)


def test_passages_are_of_their_domain(texts):
    assert all("def " in item.prompt.splitlines()[0] or item.prompt.startswith("@") for item in texts["code"].items)
    assert all("Gutenberg" not in item.prompt for item in texts["prose"].items)
    assert sum("icense" in item.prompt or "opyright" in item.prompt for item in texts["legal"].items) > 20


def test_every_document_gives_one_passage_before_any_gives_two(texts):
    clusters = [item.cluster for item in texts["code"].items]
    distinct = len(set(clusters))
    assert len(set(clusters[:distinct])) == distinct


def test_more_passages_than_there_are_is_one_line():
    with pytest.raises(UsageError, match=r"suite perplexity: prose: has \d+ passages and no more"):
        perplexity_task("prose", 0, 10_000)
