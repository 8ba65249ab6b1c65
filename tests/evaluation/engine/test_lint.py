"""The linter: what it finds, where it says it stands, and what it leaves alone. The model is never asked."""

from __future__ import annotations

import json

import pytest

from tests.evaluation.scripted import ScriptedModel
from trimpot.core.errors import UsageError
from trimpot.core.rows import Message
from trimpot.evaluation.lint import lint_tasks, refuse_errors
from trimpot.evaluation.task import Decoding, Item, Task
from trimpot.evaluation.task_file import load_tasks

GOOD = Task("t", "generate", (Item("2+2?", answer="4"), Item("1+1?", answer="2")), "exact", Decoding(stop=("\n",)))


def generate(*items: Item, scorer: str = "exact", **decoding) -> Task:
    return Task("t", "generate", items, scorer, Decoding(**decoding))


def choice(*items: Item, scorer: str = "acc") -> Task:
    return Task("t", "choice", items, scorer)


def found(task: Task, model=None) -> list[str]:
    return [f"{one.level}: {one}" for one in lint_tasks([task], model)]


def test_a_good_task_has_no_problems():
    assert found(GOOD, ScriptedModel()) == []


def test_a_stop_string_that_cuts_a_right_answer():
    (one,) = found(generate(Item("2+2?", answer="4 = 2+2"), Item("a", answer="b"), stop=("=",)))
    assert one.startswith("error: task t: stop: '=' cuts the right answers of 1 of 2 items, such as task t, item 1")


def test_a_stop_string_around_an_answer_does_no_harm():
    assert found(generate(Item("q", answer="word\n"), stop=("\n",))) == []


def test_a_stop_string_in_the_answers_of_examples_is_found_with_its_line(tmp_path):
    # GSM8K at 0.0015 in place of 0.69: lighteval#649.
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"q": f"{n}+1?", "a": str(n + 1), "steps": f"{n}+1={n + 1}"}) + "\n" for n in range(4))
    )
    (tmp_path / "t.yaml").write_text(
        'data: rows.jsonl\nprompt: "{{ q }}"\nanswer: "{{ a }}"\nscorer: exact\nstop: ["="]\n'
        'few_shot: {count: 1, answer: "{{ steps }}"}\n'
    )
    (one,) = lint_tasks(load_tasks(tmp_path / "t.yaml"))
    assert str(one).startswith(f"{tmp_path}/t.yaml:5: stop: '=' stands in the answers of the examples")
    assert one.level == "error"


def test_many_samples_at_temperature_0():
    (one,) = found(generate(Item("a", answer="b"), samples=4))
    assert "error: task t: samples: 4 samples at temperature 0" in one
    assert found(generate(Item("a", answer="b"), samples=4, temperature=1.0)) == []


def test_an_item_that_is_there_twice():
    (one,) = found(generate(Item("a", answer="b"), Item("c", answer="d"), Item("a", answer="b")))
    assert one == "error: task t, item 3: is the item of task t, item 1. Keep one of the two."


def test_a_perturbed_form_that_changed_nothing_is_no_duplicate():
    item = Item("a", answer="b")
    assert found(generate(item, Item("a", answer="b", perturbation="lowercase", parent=item.id))) == []


@pytest.mark.parametrize("scorer", ["", "exat", "acc"])
def test_no_scorer_or_none_of_this_kind(scorer):
    (one,) = found(generate(Item("a"), scorer=scorer))
    assert one.startswith("error: task t: scorer: ")


def test_a_slice_without_values(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"q": "1", "a": "1", "topic": ""}\n{"q": "2", "a": "2", "topic": null}\n')
    (tmp_path / "t.yaml").write_text(
        'data: rows.jsonl\nprompt: "{{ q }}?"\nanswer: "{{ a }}"\nscorer: exact\nslices: [topic]\n'
    )
    (one,) = lint_tasks(load_tasks(tmp_path / "t.yaml"))
    assert str(one) == f"{tmp_path}/t.yaml:5: slices: no row has a value of 'topic'. Name a field that rows have."
    assert one.level == "error"


def test_a_choice_that_begins_with_another_is_a_warning_for_acc_alone():
    item = Item("q", (" yes", " yes, it is"), " yes")
    (one,) = found(choice(item))
    assert one.startswith("warning: task t, item 1: the choice ' yes, it is' begins with the choice ' yes'")
    assert found(choice(item, scorer="acc_norm")) == []
    assert found(choice(Item("q", (" yes", " no"), " yes"))) == []


def test_a_choice_twice_or_an_answer_that_is_none():
    assert "has the choice ' a' twice" in found(choice(Item("q", (" a", " a"), " a")))[0]
    assert "which is none of its choices" in found(choice(Item("q", (" a", " b"), "a")))[0]


def test_an_answer_that_leaks_into_the_prompt():
    leaking = generate(Item("Capital of France (Paris)?", answer="Paris"), Item("Of Italy?", answer="Rome"))
    (one,) = found(leaking)
    assert one.startswith(
        "warning: task t: prompt: the right answer stands in the prompt of 1 of 2 items, first task t"
    )


def test_answers_that_a_prompt_offers_are_no_leak():
    offered = [Item(f"Is {n} even? Answer yes or no.", answer="no" if n % 2 else "yes") for n in range(4)]
    assert found(generate(*offered)) == []
    listed = Item("Which? red or blue", (" red", " blue"), " red")
    assert found(choice(listed)) == []
    within = generate(Item("What is the opposite of paranoid?", answer="no"), Item("x", answer="yes"))
    assert found(within) == []


def test_an_answer_that_its_own_scorer_refuses():
    (one,) = found(generate(Item("q", answer="two\nlines")))
    assert "exact does not accept the item's own answer" in one
    assert "has no answer" in found(generate(Item("q")))[0]


@pytest.mark.parametrize(
    "prompt", ["<s><s>2+2?", (Message("user", "<s>2+2?"),)], ids=["twice in a text", "in a conversation"]
)
def test_two_beginnings(prompt):
    (one,) = found(generate(Item(prompt, answer="4")))
    assert one.startswith("error: task t, item 1: begins with <s>")


def test_one_beginning_that_a_text_brings_is_fine():
    assert found(generate(Item("<s>2+2?", answer="4"))) == []


class Strict:
    """A tokenizer that refuses a prompt and counts 3 tokens a letter; asking the model fails the test."""

    def prompt_ids(self, prompt):
        raise UsageError("chat template", "begins with two beginning-of-sequence tokens", "Take one out.")

    def tokens_of(self, prompt, continuation=""):
        return 3 * len(prompt + continuation)


def test_what_the_tokenizer_refuses_is_found_before_the_model_is_asked():
    (one,) = found(GOOD, Strict())
    assert one.startswith("error: task t, item 1: chat template: begins with two beginning")


def test_a_limit_that_cuts_the_right_answer():
    class Counting(Strict):
        def prompt_ids(self, prompt):
            return (1,)

    task = generate(Item("2+2?", answer="four"), max_tokens=12)
    (one,) = found(task, Counting())
    assert one == (
        "error: task t: max_tokens: 12 tokens cut the right answer of task t, item 1, which has 12. Give at least 13."
    )
    assert found(generate(Item("2+2?", answer="four"), max_tokens=13), Counting()) == []


def test_errors_refuse_and_warnings_do_not():
    refuse_errors(lint_tasks([choice(Item("q", (" yes", " yes!"), " yes"))]))
    with pytest.raises(UsageError, match=r"task t: samples: .*\(1 more: trimpot suite lint\)"):
        refuse_errors(lint_tasks([generate(Item("q", answer="a=b"), samples=2, stop=("=",))]))
