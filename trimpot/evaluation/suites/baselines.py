"""What a task gives to a model that reads no question: chance, and the best answer that never changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trimpot.evaluation.task import Item, Scorer, Task

NO_ANSWERS = ("", "Yes.", "No.", "I can't help with that.", "Sure, here it is.")
"""Constant answers that are tried beside the right answers of the task's own items."""


@dataclass(frozen=True)
class Baselines:
    """Mean scores of a task's items in [0, 1].

    Args:
        chance: a choice at random; None where answers are generated.
        constant: the best of the answers, or rules (first, last, shortest, longest), that do not read the question.
        answer: that answer or rule.
        gold: the items' own answers; 1 where the task can be solved.
    """

    chance: float | None
    constant: float
    answer: str
    gold: float


def baselines(task: Task, scorers: Mapping[str, Scorer]) -> Baselines:
    """The baselines of a choice or generate task.

    Of a generate task every item's right answer is tried as the answer to all items, so the cost is the square of the
    number of different answers and items.

    Raises:
        ValueError: a rolling task, or one whose scorer gives no scores.

    Example: two items with the choices (" a", " bb"), answers " a" and " bb": chance 1/2, always the first 1/2.
    """
    if task.kind == "choice":
        found = {name: _mean([float(rule(one) == one.answer) for one in task.items]) for name, rule in _RULES.items()}
        best = max(found, key=found.__getitem__)
        return Baselines(_mean([1 / len(one.choices) for one in task.items]), found[best], best, 1.0)
    if task.kind != "generate":
        raise ValueError(f"{task.name} is a {task.kind} task: it has no answers")
    scorer = scorers[task.scorer]
    tried = dict.fromkeys((*NO_ANSWERS, *map(_example, task.items)))
    scores = {answer: _mean([_score(scorer, answer, one) for one in task.items]) for answer in tried}
    best = max(scores, key=scores.__getitem__)
    return Baselines(None, scores[best], best, _mean([_score(scorer, _example(one), one) for one in task.items]))


def _example(item: Item) -> str:
    """A right output: the item's ``example``, where its answer is only a word for what is right, else its answer."""
    return str(item.metadata.get("example", item.answer))


def _score(scorer: Scorer, answer: str, item: Item) -> float:
    scored = scorer(answer, item)
    if scored.score is None:
        raise ValueError(f"the scorer gives no score ({scored.note})")
    return scored.score


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


_RULES: Mapping[str, Callable[[Item], str]] = {
    "first": lambda item: item.choices[0],
    "last": lambda item: item.choices[-1],
    "shortest": lambda item: min(item.choices, key=len),
    "longest": lambda item: max(item.choices, key=len),
}
