"""Bits per byte on text that packages carry: code, documentation, prose and licences."""

from __future__ import annotations

import functools

from trimpot.core.errors import UsageError
from trimpot.core.seeds import stream
from trimpot.evaluation.suites.packaged_text import DOMAINS, Passage
from trimpot.evaluation.task import Item, Task

ITEMS = 40
"""Passages of a domain where nobody says how many."""


def perplexity_tasks(seed: int, items: int | None) -> list[Task]:
    """``perplexity/code``, ``/documentation``, ``/prose`` and ``/legal``: passages of 300 to 1200 characters.

    The score of a passage is −log₂ p(text) / bytes; a coin for every bit scores 8. Slices: ``domain`` and ``source``,
    the package with its version: texts change with versions, so scores compare only where the sources agree. A document
    (module, story, licence) is a cluster.

    Raises:
        UsageError: more passages wanted than a domain has.
    """
    return [perplexity_task(domain, seed, ITEMS if items is None else items) for domain in DOMAINS]


def perplexity_task(domain: str, seed: int, items: int) -> Task:
    """The task of one domain; see ``perplexity_tasks``."""
    passages = list(_passages(domain))
    stream(seed, "suite", "perplexity", domain).shuffle(passages)
    # Round after round every document gives one, so that no large module is half of the task.
    turns: dict[str, int] = {}
    ordered = []
    for passage in passages:
        turns[passage.document] = turns.get(passage.document, 0) + 1
        ordered.append((turns[passage.document], passage))
    ordered.sort(key=lambda one: one[0])
    if len(ordered) < items:
        mend = f"Ask for at most {len(ordered)} items per task."
        raise UsageError(f"suite perplexity: {domain}", f"has {len(ordered)} passages and no more", mend)
    chosen = tuple(
        Item(passage.text, cluster=passage.document, slices={"domain": domain, "source": passage.source})
        for _, passage in ordered[:items]
    )
    return Task(f"perplexity/{domain}", "rolling", chosen, "bits_per_byte")


@functools.cache
def _passages(domain: str) -> tuple[Passage, ...]:
    """All passages of a domain; of equal texts the first."""
    return tuple({passage.text: passage for passage in reversed(list(DOMAINS[domain]()))}.values())[::-1]
