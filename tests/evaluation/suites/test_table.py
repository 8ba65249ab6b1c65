"""What holds of every suite: the same items for the same seed, each once, clustered, solvable, with known baselines."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.evaluation.scripted import ScriptedModel
from trimpot.evaluation.lint import lint_tasks
from trimpot.evaluation.runner import evaluate_task
from trimpot.evaluation.scorers import SCORERS
from trimpot.evaluation.suites.baselines import baselines
from trimpot.evaluation.suites.core import MAX_TOKENS, core_tasks
from trimpot.evaluation.suites.scorers import SUITE_SCORERS
from trimpot.evaluation.suites.table import SUITES
from trimpot.evaluation.task import Item, Task

UNSCORED = ("open_ended", "humaneval_not_run")


@pytest.fixture(scope="module")
def built():
    return {name: suite.build(0, 24) for name, suite in SUITES.items()}


def scored_tasks(built):
    """Tasks with right answers, each once."""
    found = {(task.name, len(task.items)): task for tasks in built.values() for task in tasks}
    return [task for task in found.values() if task.kind != "rolling" and task.scorer not in UNSCORED]


def test_the_table_names_every_suite_once_and_says_what_it_is():
    assert list(SUITES) == [suite.name for suite in SUITES.values()]
    assert len({suite.about for suite in SUITES.values()}) == len(SUITES) == 9
    assert all(suite.about.endswith(".") and len(suite.about) < 120 for suite in SUITES.values())


@pytest.mark.parametrize("name", SUITES)
def test_the_same_seed_gives_the_same_items_and_another_seed_others(name, built):
    again, other = SUITES[name].build(0, 24), SUITES[name].build(1, 24)
    ids = [[item.id for item in task.items] for task in built[name]]
    assert [[item.id for item in task.items] for task in again] == ids
    assert [[item.id for item in task.items] for task in other] != ids


@pytest.mark.parametrize("name", SUITES)
def test_fewer_items_are_the_first_of_more(name, built):
    for few, many in zip(SUITES[name].build(0, 8), built[name], strict=True):
        assert few.name == many.name
        own = [item.id for item in few.items if item.perturbation == "none"]
        assert own == [item.id for item in many.items if item.perturbation == "none"][: len(own)]
        assert 4 <= len(own) <= 8


@pytest.mark.parametrize("name", SUITES)
def test_items_are_unique_and_have_slices(name, built):
    for task in built[name]:
        asked = [(item.id, item.perturbation) for item in task.items]
        assert len(set(asked)) == len(asked), task.name
        assert all(item.slices for item in task.items), task.name


def test_clusters_are_set_where_items_share_something(built):
    """Questions of reasoning-gym are drawn one by one; all other items have a template, a pair or a document."""
    for tasks in built.values():
        for task in tasks:
            if not task.name.startswith("reasoning/"):
                assert all(item.cluster for item in task.items), task.name


def test_the_linter_finds_no_error(built):
    for tasks in built.values():
        assert [str(one) for one in lint_tasks(tasks) if one.level == "error"] == []


def test_right_answers_score_one(built):
    for task in scored_tasks(built):
        assert baselines(task, SCORERS).gold == 1, task.name


def test_a_scripted_model_that_always_says_the_same_gets_the_stated_score(built):
    for task in scored_tasks(built):
        if task.kind == "generate":
            found = baselines(task, SCORERS)
            # The scripted model counts bytes as tokens, so the answer has to be short enough to end.
            if len(found.answer.encode()) < task.decoding.max_tokens:
                outcomes = evaluate_task(ScriptedModel(lambda *_, answer=found.answer: answer), task, "r")
                assert sum(one.score for one in outcomes) / len(outcomes) == pytest.approx(found.constant)


def test_baselines_by_hand():
    items = (Item("a?", (" x", " yy"), " x"), Item("b?", (" zzz", " w", " v"), " zzz"))
    found = baselines(Task("t", "choice", items, "acc"), SCORERS)
    assert (found.chance, found.constant, found.answer) == (pytest.approx((1 / 2 + 1 / 3) / 2), 1.0, "first")
    said = tuple(Item(str(n), answer=answer) for n, answer in enumerate(["3", "3", "5"]))
    found = baselines(Task("t", "generate", said, "exact"), SCORERS)
    assert (found.chance, found.constant, found.answer, found.gold) == (None, pytest.approx(2 / 3), "3", 1.0)


@pytest.mark.parametrize(("kind", "scorer"), [("rolling", "bits_per_byte"), ("generate", "open_ended")])
def test_tasks_without_right_answers_have_no_baselines(kind, scorer):
    with pytest.raises(ValueError, match=r"no answers|no score"):
        baselines(Task("t", kind, (Item("a"),), scorer), SCORERS)


def test_core_is_small_and_covers_every_group():
    tasks = core_tasks(0, None)
    generated = [task for task in tasks if task.kind == "generate"]
    answers = sum(len(task.items) * task.decoding.samples for task in generated)
    assert 250 <= answers <= 400
    assert max(task.decoding.max_tokens for task in generated) == MAX_TOKENS == 48
    choices = [task for task in tasks if task.kind == "choice"]
    # The calibration error warns below 300 items.
    assert sum(item.perturbation == "none" for task in choices for item in task.items) >= 300
    assert {task.metric_group for task in tasks} == {"accuracy", "bias", "toxicity"}
    assert any(task.kind == "rolling" for task in tasks)
    assert not any(task.name.startswith("code") for task in tasks)


def test_core_asks_perturbed_forms_of_items_that_it_asks_as_they_stand():
    tasks = core_tasks(0, None)
    kinds = {item.perturbation for task in tasks for item in task.items}
    assert len(kinds) > 2
    originals = {item.id for task in tasks for item in task.items if item.perturbation == "none"}
    assert all(item.parent in originals for task in tasks for item in task.items if item.perturbation != "none")


def test_the_names_of_scorers_do_not_hide_those_of_training():
    from trimpot.rollout.verifiers import VERIFIERS

    assert not set(SUITE_SCORERS) & set(VERIFIERS)
    assert SUITE_SCORERS.items() <= SCORERS.items()


def test_the_table_imports_no_torch():
    heavy = "{'torch', 'transformers', 'reasoning_gym'}"
    script = f"import sys, trimpot.evaluation.suites.table; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_baselines_in_the_documentation_are_those_of_the_suites():
    page = (Path(__file__).parents[3] / "docs" / "suites.md").read_text(encoding="utf-8")
    names = [name for name in SUITES if name != "core"]
    tasks = [task for name in names for task in SUITES[name].build(0, None)]
    told = [line for line in page.splitlines() if line.startswith("| ") and "/" in line.split("|")[1]]
    assert told == [_row(task) for task in tasks if task.kind != "rolling" and task.scorer not in UNSCORED]


def _row(task: Task) -> str:
    found = baselines(task, SCORERS)
    chance = "" if found.chance is None else f"{found.chance:.3f}"
    return f"| {task.name} | {len(task.items)} | {chance} | {found.constant:.3f} |"


@pytest.mark.parametrize("name", ["core", "reasoning"])
def test_a_suite_is_the_same_in_every_process(name):
    """Sets of strings have another order in another process, which generators must not follow."""
    script = (
        "from trimpot.evaluation.suites.table import SUITES\n"
        f"print([[item.id for item in task.items] for task in SUITES[{name!r}].build(0, 12)])"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": number}, capture_output=True, text=True, check=True,
        ).stdout
        for number in ("1", "2")
    ]  # fmt: skip
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) > 1000
