"""Requests × constraints as tasks, and the scorers that check answers strictly and loosely."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.core.rows import Message
from trimpot.core.seeds import stream
from trimpot.evaluation.suites.instructions.checks import CHECKS, EXAMPLE, ORDER
from trimpot.evaluation.task import Decoding, Item, Scored, Scorer, Task

SYSTEM = Message("system", "Be brief.")
ITEMS = 126
"""Items where nobody says how many: every constraint six times, twice each alone, with one other and with two."""
SUBJECTS = (
    *("a cat", "a bicycle", "the sea", "a teacher", "winter", "a library", "breakfast", "a train station", "the moon"),
    *("a kitchen", "an old tree", "a football match", "a letter", "rain", "a market", "music", "a bridge", "sleep"),
    *("a farm", "a birthday", "the desert", "a clock", "bread", "a holiday", "an island", "a neighbour"),
)
REQUESTS = ("Describe {}.", "Write something about {}.", "What do people like about {}?", "Tell a child about {}.")
TRIES = 1000


def instruction_tasks(seed: int, items: int | None, max_tokens: int = 128) -> list[Task]:
    """``instructions/strict`` and ``instructions/loose``: the same requests under two scorers.

    Slices: ``check`` (the constraint whose turn it is), ``group`` of it and ``constraints`` (how many, 1 to 3). The
    cluster is the request without its constraints. ``answer`` is an example that keeps them all, made by program.
    """
    chosen = _items(seed, ITEMS if items is None else items)
    # As in IFEval an answer that is cut is checked as it stands: it may have used the words, and it has no end.
    how = Decoding(max_tokens=max_tokens, score_unfinished=True)
    names = {"strict": "instructions", "loose": "instructions_loose"}
    return [Task(f"instructions/{name}", "generate", chosen, scorer, how) for name, scorer in names.items()]


def kept(output: str, item: Item, loose: bool = False) -> dict[str, bool]:
    """Which constraints of an item an output keeps.

    Loosely, one is kept if any of eight readings keeps it: the output as it is, without its first line, without its
    last, without both, each also without asterisks.

    Source: IFEval (arXiv 2311.07911, section 2.2).
    Raises:
        UsageError: the item has no constraints in its metadata, or an unknown one.
    """
    constraints = item.metadata.get("constraints")
    if not isinstance(constraints, Mapping) or not constraints or not set(constraints) <= set(CHECKS):
        mend = f'Give metadata {{"constraints": {{NAME: settings}}}} with names of {", ".join(CHECKS)}.'
        raise UsageError(f"item {item.id}", "has no known constraints in its metadata", mend)
    readings = _readings(output) if loose else (output,)
    return {
        name: any(reading.strip() and CHECKS[name].holds(reading, settings) for reading in readings)
        for name, settings in constraints.items()
    }


def _readings(output: str) -> tuple[str, ...]:
    lines = output.strip().split("\n")
    cut = ("\n".join(some).strip() for some in (lines, lines[1:], lines[:-1], lines[1:-1]))
    return tuple(form for text in cut for form in (text, text.replace("*", "")))


def _score(output: str, item: Item, loose: bool) -> Scored:
    found = kept(output, item, loose)
    if not output.strip():
        return Scored(0.0, "parse_failed", "empty answer")
    broken = [name for name, held in found.items() if not held]
    return Scored(float(not broken), note=f"not kept: {', '.join(broken)}" if broken else "")


INSTRUCTION_SCORERS: dict[str, Scorer] = {
    "instructions": lambda output, item: _score(output, item, loose=False),
    "instructions_loose": lambda output, item: _score(output, item, loose=True),
}
"""Name -> scorer: 1 if an answer keeps every constraint of its request, else 0; ``note`` names those it does not."""


def _items(seed: int, count: int) -> tuple[Item, ...]:
    names, found, seen = list(CHECKS), [], set[str]()
    stream(seed, "suite", "instructions", "order").shuffle(names)
    for number in range(count):
        turn, place = divmod(number, len(names))
        for attempt in range(TRIES):
            item = _item(names[place], 1 + turn % 3, stream(seed, "suite", "instructions", number, attempt))
            if item.id not in seen:
                break
        else:
            mend = f"Ask for at most {number} items per task."
            raise UsageError("suite instructions", f"has no more requests with {names[place]}", mend)
        seen.add(item.id)
        found.append(item)
    return tuple(found)


def _item(first: str, wanted: int, draw: random.Random) -> Item:
    chosen = [first]
    others = [name for name in CHECKS if name != first]
    draw.shuffle(others)
    for name in others:
        taken = frozenset().union(*(CHECKS[one].claims for one in chosen))
        if len(chosen) < wanted and not CHECKS[name].claims & taken:
            chosen.append(name)
    settings: dict[str, dict[str, Any]] = {name: CHECKS[name].draw(draw) for name in chosen}
    request = draw.choice(REQUESTS).format(draw.choice(SUBJECTS))
    text = " ".join([request, *(CHECKS[name].say(settings[name]) for name in chosen)])
    example = EXAMPLE
    for name in sorted(chosen, key=ORDER.index):
        example = CHECKS[name].meet(example, settings[name])
    slices = {"check": first, "group": CHECKS[first].group, "constraints": str(len(chosen))}
    return Item(
        (SYSTEM, Message("user", text)),
        answer=example,
        cluster=request,
        slices=slices,
        metadata={"constraints": settings},
    )
