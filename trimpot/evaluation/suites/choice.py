"""Multiple choice by likelihood: grammar (minimal pairs) and everyday facts, in closed sets."""

from __future__ import annotations

from collections.abc import Callable

from trimpot.core.errors import UsageError
from trimpot.core.seeds import stream
from trimpot.evaluation.suites.closed_sets import closed_set
from trimpot.evaluation.suites.facts import RELATIONS
from trimpot.evaluation.suites.grammar import PHENOMENA
from trimpot.evaluation.task import Item, Task

GRAMMAR_ITEMS, FACT_ITEMS = 260, 132
"""Items where nobody says how many: 10 pairs of every phenomenon, 3 sets of every relation."""
CHOICES = 4
"""Choices of a fact."""
TRIES = 1000


def choice_tasks(seed: int, items: int | None) -> list[Task]:
    """``choice/grammar`` (slice ``phenomenon``, chance 1/2) and ``choice/facts`` (slice ``relation``, chance 1/4).

    Only whole closed sets are asked, so there may be up to a set fewer items than wanted; a set is a cluster.

    Raises:
        UsageError: fewer items wanted than one set has, or more than there are sets.
    """
    return [grammar_task(seed, items), facts_task(seed, items)]


def grammar_task(seed: int, items: int | None) -> Task:
    """Minimal pairs: see ``choice_tasks``."""
    names = list(PHENOMENA)

    def pair(number: int, attempt: int) -> list[Item]:
        name = names[number % len(names)]
        draw = stream(seed, "suite", "grammar", number, attempt)
        return closed_set(PHENOMENA[name](draw), f"{name} {number}", {"phenomenon": name}, draw)

    return Task("choice/grammar", "choice", _sets("choice/grammar", items or GRAMMAR_ITEMS, 2, pair), "acc")


def facts_task(seed: int, items: int | None) -> Task:
    """Everyday facts: see ``choice_tasks``. The four facts of a set are of one relation."""
    names = list(RELATIONS)

    def group(number: int, attempt: int) -> list[Item]:
        name = names[number % len(names)]
        template, pairs = RELATIONS[name]
        draw = stream(seed, "suite", "facts", number, attempt)
        chosen = [(template.format(first), f" {second}") for first, second in draw.sample(pairs, CHOICES)]
        return closed_set(chosen, f"{name} {number}", {"relation": name}, draw)

    return Task("choice/facts", "choice", _sets("choice/facts", items or FACT_ITEMS, CHOICES, group), "acc")


def _sets(task: str, items: int, size: int, make: Callable[[int, int], list[Item]]) -> tuple[Item, ...]:
    """As many whole sets as fit, none of which repeats an item; ``make(number, attempt)`` draws one."""
    if items < size:
        raise UsageError(f"suite choice: {task}", f"{items} items are less than a set of {size}", f"Ask for {size}.")
    found: list[Item] = []
    seen: set[str] = set()
    for number in range(items // size):
        for attempt in range(TRIES):
            some = make(number, attempt)
            if not seen & {item.id for item in some}:
                break
        else:
            mend = f"Ask for at most {len(found)} items per task."
            raise UsageError(f"suite choice: {task}", f"has {len(found)} items and no more", mend)
        seen |= {item.id for item in some}
        found += some
    return tuple(found)
