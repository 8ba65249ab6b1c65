"""Perturbed forms of tasks: what is changed, what is left, and what is counted."""

from dataclasses import replace

import pytest

from tests.evaluation.scripted import ScriptedModel
from trimpot.core.errors import UsageError
from trimpot.core.rows import Message
from trimpot.evaluation.perturbations.apply import perturbed, perturbed_with_counts
from trimpot.evaluation.runner import evaluate_task
from trimpot.evaluation.task import Item, Task


def task_of(*items, kind="choice", scorer="acc"):
    return Task("t", kind, items, scorer)


def test_a_form_keeps_answer_choices_and_slices_and_meets_its_original():
    item = Item("The CAPITAL is", (" Lima", " Rome"), " Lima", slices={"kind": "capital"})
    first, form = perturbed(task_of(item), ["lowercase"], 0).items
    assert first == item
    assert (form.prompt, form.perturbation, form.parent) == ("the capital is", "lowercase", item.id)
    assert replace(form, prompt=item.prompt, perturbation="none", parent="") == item
    outcomes = evaluate_task(ScriptedModel(), perturbed(task_of(item), ["lowercase"], 0), "r")
    assert {one.item for one in outcomes} == {item.id}
    assert {one.cluster for one in outcomes} == {item.id}


def test_only_the_last_user_turn_changes():
    prompt = (
        Message("system", "Be BRIEF"),
        Message("user", "FIRST"),
        Message("assistant", "YES"),
        Message("user", "SECOND one"),
    )
    form = perturbed(task_of(Item(prompt, answer="x"), kind="generate", scorer="exact"), ["lowercase"], 0).items[1]
    assert [turn.content for turn in form.prompt] == ["Be BRIEF", "FIRST", "YES", "second one"]


def test_few_shot_examples_in_a_text_stay():
    text = "Question: WHO?\nAnswer: HE\n\nQuestion: WHY Here?\nAnswer:"
    form = perturbed(task_of(Item(text, (" a", " b"), " a")), ["lowercase"], 0).items[1]
    assert form.prompt == "Question: WHO?\nAnswer: HE\n\nQuestion: why here?\nAnswer:"


def test_paragraphs_without_labels_are_all_the_users():
    form = perturbed(task_of(Item("ONE.\n\nTWO", (" a", " b"), " a")), ["lowercase"], 0).items[1]
    assert form.prompt == "one.\n\ntwo"


@pytest.mark.parametrize(
    ("item", "name", "result"),
    [
        (Item("He is a king. What is he?", (" a man", " a woman"), " a man"), "gender_pronouns", "answer would change"),
        (Item("Greg met Todd. Who met Todd?", answer="Greg"), "person_name", "answer would change"),
        (Item("Spell the word because backward", answer="esuaceb"), "misspelling", "answer would change"),
        (Item("How many letters has movie?", answer="5"), "typos", "answer would change"),
        (Item("2 + 2 =", answer="4"), "lowercase", "unchanged"),
        (Item("The king", answer="x"), "contraction", "unchanged"),
        (Item("Greg met Todd. Where?", answer="home"), "person_name", "perturbed"),
        (Item("The capital of Peru", answer="Lima"), "lowercase", "perturbed"),
    ],
)
def test_every_item_is_perturbed_unchanged_or_its_answer_would_change(item, name, result):
    done = perturbed_with_counts(task_of(item, kind="generate", scorer="exact"), [name], 0)
    assert done.counts[name][result] == 1
    assert sum(done.counts[name].values()) == 1
    assert len(done.task.items) == 1 + (result == "perturbed")


def test_a_text_that_is_itself_scored_has_no_form():
    done = perturbed_with_counts(task_of(Item("Some TEXT"), kind="rolling", scorer="bits_per_byte"), ["lowercase"], 0)
    assert done.counts["lowercase"]["answer would change"] == 1
    assert len(done.task.items) == 1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_seed_gives_the_same_forms_whatever_items_stand_beside(seed):
    items = [Item(f"Because they receive {n} movies and believe it", answer="x") for n in range(30)]
    whole = perturbed(task_of(*items, kind="generate", scorer="exact"), ["typos", "mild_mix"], seed)
    again = perturbed(task_of(*reversed(items), kind="generate", scorer="exact"), ["mild_mix", "typos"], seed)
    assert {(one.parent, one.perturbation, one.prompt) for one in whole.items} == {
        (one.parent, one.perturbation, one.prompt) for one in again.items
    }
    other = perturbed(task_of(*items, kind="generate", scorer="exact"), ["typos"], seed + 1)
    assert {one.prompt for one in other.items if one.parent} != {
        one.prompt for one in whole.items if one.perturbation == "typos"
    }


def test_forms_are_not_perturbed_again():
    task = perturbed(task_of(Item("The CAT", (" a", " b"), " a")), ["lowercase"], 0)
    assert [one.perturbation for one in perturbed(task, ["extra_space"], 0).items] == [
        "none",
        "lowercase",
        "extra_space",
    ]


def test_strength_0_makes_no_form():
    assert perturbed(task_of(Item("The CAT", (" a", " b"), " a")), ["robustness"], 0, 0.0).items == (
        Item("The CAT", (" a", " b"), " a"),
    )


def test_a_strength_outside_0_and_1_is_one_line():
    with pytest.raises(UsageError, match=r"task t: strength 1.5 of perturbations. Give a number from 0 to 1"):
        perturbed(task_of(Item("a")), ["typos"], 0, 1.5)
