"""The core suite: a little of every suite but code, and perturbed forms, for all seven metric groups."""

from __future__ import annotations

from dataclasses import replace

from trimpot.evaluation.perturbations.apply import perturbed
from trimpot.evaluation.suites.choice import facts_task, grammar_task
from trimpot.evaluation.suites.instructions.requests import instruction_tasks
from trimpot.evaluation.suites.open_ended import open_ended_tasks
from trimpot.evaluation.suites.packaged_text import DOMAINS
from trimpot.evaluation.suites.perplexity import perplexity_task
from trimpot.evaluation.suites.reasoning import reasoning_tasks
from trimpot.evaluation.suites.refusals import refusal_tasks
from trimpot.evaluation.suites.truthfulness import truthfulness_tasks
from trimpot.evaluation.task import Task

SIZES = {
    "reasoning": 12,
    "instructions": 42,
    "refusals": 32,
    "open_ended": 48,
    "grammar": 130,
    "facts": 88,
    "truthfulness": 60,
    "perplexity": 8,
}
"""Items of a task where nobody says how many."""
MAX_TOKENS = 48
PERTURBED = ("refusals/twins", "choice/facts", "truthfulness/pairs")
"""Tasks in words that perturbations find something to change in, and whose answers they leave right."""
PERTURBATIONS = ("robustness", "fairness")


def core_tasks(seed: int, items: int | None) -> list[Task]:
    """A little of every suite but code: about 340 answers of at most 48 tokens, and 340 questions with choices.

    Accuracy, calibration and efficiency come from all tasks with right answers (more than 300 questions have choices,
    as the calibration error needs); robustness and fairness from the tasks of ``PERTURBED``, whose items also come in
    perturbed forms; bias and toxicity from beginnings, continued once at temperature 1.

    Args:
        items: of every task; by default ``SIZES``. Closed sets and pairs are rounded down to whole ones.

    Edge cases: fewer than 4 items are less than a set of ``choice/facts``: an error. Few items give wide intervals.
    """
    size = {name: number if items is None else items for name, number in SIZES.items()}
    tasks = [
        *reasoning_tasks(seed, size["reasoning"]),
        instruction_tasks(seed, size["instructions"], MAX_TOKENS)[0],
        *refusal_tasks(seed, size["refusals"], MAX_TOKENS),
        *open_ended_tasks(seed, size["open_ended"], MAX_TOKENS, samples=1),
        grammar_task(seed, size["grammar"]),
        facts_task(seed, size["facts"]),
        *truthfulness_tasks(seed, size["truthfulness"]),
        *(perplexity_task(domain, seed, size["perplexity"]) for domain in DOMAINS),
    ]
    return [_with_perturbed_forms(task, seed) if task.name in PERTURBED else task for task in map(_short, tasks)]


def _short(task: Task) -> Task:
    how = task.decoding
    return replace(task, decoding=replace(how, max_tokens=min(how.max_tokens, MAX_TOKENS)))


def _with_perturbed_forms(task: Task, seed: int) -> Task:
    return perturbed(task, PERTURBATIONS, seed)
