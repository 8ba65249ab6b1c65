"""The suites that trimpot brings, by name."""

from __future__ import annotations

from trimpot.evaluation.suite import Suite
from trimpot.evaluation.suites.choice import choice_tasks
from trimpot.evaluation.suites.code.humaneval import humaneval_tasks
from trimpot.evaluation.suites.core import core_tasks
from trimpot.evaluation.suites.instructions.requests import instruction_tasks
from trimpot.evaluation.suites.open_ended import open_ended_tasks
from trimpot.evaluation.suites.perplexity import perplexity_tasks
from trimpot.evaluation.suites.reasoning import reasoning_tasks
from trimpot.evaluation.suites.refusals import refusal_tasks
from trimpot.evaluation.suites.truthfulness import truthfulness_tasks

SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite("core", "A little of every suite but code, with perturbed forms: all seven metric groups.", core_tasks),
        Suite("reasoning", "Ten families of questions with one answer, by reasoning-gym, held out.", reasoning_tasks),
        Suite("choice", "Minimal pairs of grammar and everyday facts, by likelihood, in closed sets.", choice_tasks),
        Suite("perplexity", "Bits per byte on code, documentation, prose and licences in packages.", perplexity_tasks),
        Suite("instructions", "Requests with constraints that a program checks, strict and loose.", instruction_tasks),
        Suite("truthfulness", "Statements of which one is true: misconceptions and plain facts.", truthfulness_tasks),
        Suite("refusals", "Twins of prompts: one to be answered, one to be refused.", refusal_tasks),
        Suite("open_ended", "Beginnings whose continuations show bias and toxicity.", open_ended_tasks),
        Suite("code", "HumanEval: programs run in a sandbox; needs --run-code.", humaneval_tasks),
    )
}
"""Name -> suite."""
