"""The items of a comparison side by side: which of a slice are shown, in which order, and what is held of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trimpot.core.hashing import content_hash
from trimpot.evaluation.compare.table import PairTable
from trimpot.site.pages import json_block
from trimpot.site.scores import PARSE_FAILED, RIGHT, WRONG, verdict_of
from trimpot.site.token_boundaries import boundaries
from trimpot.store.outcomes import Outcome

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LOST, GAINED, CHANGED, SAME, APART = "lost", "gained", "changed", "same", "not compared"
CHANGES = (LOST, GAINED, CHANGED, SAME, APART)
"""What became of an item from A to B: score worse, better, same score and another answer, same answer; not paired."""
MOST = 200
"""Samples of a slice that the page holds."""
MOST_BYTES = 4_000_000
"""Of all samples together: above, fewer of each slice are held."""
MOST_CHARACTERS, MOST_IDS, MOST_ANSWERS = 4000, 1000, 4
"""Of a text, of a prompt's ids, and answers (seeds, samples) of one side to one item."""


@dataclass(frozen=True)
class Samples:
    """Items of a table in the order in which any slice shows them.

    Args:
        changes: place in the table -> one of ``CHANGES``.
        rank: place -> its rank: by change, then by the size of the change, then by a hash of the item, not by hand.
        answers: place -> the outcomes of A and of B, by training seed and sample.
        tokenizers: what boundaries of tokens are told by.
    """

    table: PairTable
    changes: tuple[str, ...]
    rank: tuple[int, ...]
    answers: tuple[tuple[tuple[Outcome, ...], tuple[Outcome, ...]], ...]
    tokenizers: tuple[Tokenizer, ...] = field(default=())


def samples_of(
    table: PairTable,
    a: Sequence[Sequence[Outcome]],
    b: Sequence[Sequence[Outcome]],
    tokenizers: Sequence[Tokenizer] = (),
) -> Samples:
    """The answers to every item of a table; ``a`` and ``b`` are what it was made of, a list per training seed."""
    keys = list(zip(table.tasks.tolist(), table.items.tolist(), table.perturbations.tolist(), strict=True))
    places = {key: place for place, key in enumerate(keys)}
    sides = []
    for files in (a, b):
        held: list[list[Outcome]] = [[] for _ in keys]
        for file in files:
            for one in sorted(file, key=lambda outcome: outcome.sample):
                held[places[one.task, one.item, one.perturbation]].append(one)
        sides.append(held)
    answers = tuple((tuple(one), tuple(other)) for one, other in zip(*sides, strict=True))
    gains = (table.sign * (table.b.mean - table.a.mean)).tolist()
    paired = table.paired.tolist()
    changes = tuple(
        APART if not paired[place] else _change(gains[place], *answers[place]) for place in range(len(keys))
    )
    order = sorted(
        range(len(keys)),
        key=lambda place: (
            CHANGES.index(changes[place]),
            -abs(gains[place]) if paired[place] else 0.0,
            content_hash(keys[place]),
        ),
    )
    rank = {place: number for number, place in enumerate(order)}
    return Samples(table, changes, tuple(rank[place] for place in range(len(keys))), answers, tuple(tokenizers))


def _change(gain: float, a: Sequence[Outcome], b: Sequence[Outcome]) -> str:
    if gain:
        return GAINED if gain > 0 else LOST
    return SAME if [(one.output, one.status) for one in a] == [(one.output, one.status) for one in b] else CHANGED


def chosen(samples: Samples, places: Iterable[int], most: int = MOST) -> list[int]:
    """The places that are shown of a slice, in order: at most ``most``, some of every change that there is.

    An eighth of the room is kept for each of changed, same and not compared (or as many as there are); lost and gained
    share the rest equally, and what they leave is filled by the others.
    Example: 300 lost, 10 gained, 500 same, most 200: 25 are kept for the same, so 165 lost, 10 gained, 25 same.
    """
    inside = sorted(places, key=lambda place: samples.rank[place])
    counts = Counter(samples.changes[place] for place in inside)
    others = (CHANGED, SAME, APART)
    kept = sum(min(counts[change], most // 8) for change in others)
    room = _shared({change: counts[change] for change in (LOST, GAINED)}, most - kept)
    room |= _shared({change: counts[change] for change in others}, most - sum(room.values()))
    shown = []
    for place in inside:
        if room[samples.changes[place]]:
            room[samples.changes[place]] -= 1
            shown.append(place)
    return shown


def _shared(counts: Mapping[str, int], room: int) -> dict[str, int]:
    """Room in equal parts, of which none gets more than it has items: {a: 300, b: 10}, 175 -> {a: 165, b: 10}."""
    given: dict[str, int] = {}
    for left, name in zip(range(len(counts), 0, -1), sorted(counts, key=lambda one: counts[one]), strict=True):
        given[name] = min(counts[name], -(-room // left))
        room -= given[name]
    return given


@dataclass(frozen=True)
class Block:
    """What the page holds: the samples, each once, and of every cell the numbers of its own; ``most`` of each."""

    samples: list[dict[str, Any]]
    shown: list[list[int]]
    most: int


def block(samples: Samples, cells: Sequence[Iterable[int]], most_bytes: int = MOST_BYTES) -> Block:
    """The samples of all cells, as many of each (200, then half of that, and so on) as fit ``most_bytes`` together.

    Edge cases: where one of each cell is too much still, that one is kept.
    """
    held = [list(places) for places in cells]
    made: dict[int, tuple[dict[str, Any], int]] = {}
    most = MOST
    while True:
        picked = [chosen(samples, places, most) for places in held]
        union = list(dict.fromkeys(place for places in picked for place in places))
        size = sum(len(str(place)) + 1 for places in picked for place in places)
        for place in union:
            if size > most_bytes and most > 1:
                break
            if place not in made:
                one = sample(samples, place)
                made[place] = one, len(json_block(one).encode())
            size += made[place][1]
        if size <= most_bytes or most == 1:
            numbers = {place: number for number, place in enumerate(union)}
            shown = [[numbers[place] for place in places] for places in picked]
            return Block([made[place][0] for place in union], shown, most)
        most //= 2


def sample(samples: Samples, place: int) -> dict[str, Any]:
    """One item as the page's data: what was asked (text and token ids), what was expected, and the answers.

    ``lengths``: characters of each id (see ``boundaries``); absent where no tokenizer gives these ids, or the prompt is
    cut. ``ids`` are cut after 1000, ``tokens`` counts all. What B was asked is there only where it differs.
    """
    table, (a, b) = samples.table, samples.answers[place]
    first, second = (a or b)[0], (b or a)[0]
    verdicts = [verdict(one) for one in (*a, *b)]
    both = set(verdicts) if a and b else set()
    # What could not be read is not solved, and is found under its own filter too.
    standing = RIGHT if both == {RIGHT} else WRONG if both and both <= {WRONG, PARSE_FAILED} else ""
    return {
        "task": str(table.tasks[place]),
        "item": str(table.items[place]),
        "form": str(table.perturbations[place]),
        "change": samples.changes[place],
        "both": standing,
        "unreadable": PARSE_FAILED in verdicts,
        "expected": ends(first.expected),
        "a": [_answer(one) for one in a[:MOST_ANSWERS]],
        "b": [_answer(one) for one in b[:MOST_ANSWERS]],
        "answers": [len(a), len(b)],
        "means": [_finite(float(side.mean[place])) for side in (table.a, table.b)],
        "asked": _asked(samples, first),
        **({} if _same_prompt(first, second) else {"asked_b": _asked(samples, second)}),
    }


def _same_prompt(first: Outcome, second: Outcome) -> bool:
    return first.prompt == second.prompt and first.prompt_ids == second.prompt_ids


def _asked(samples: Samples, outcome: Outcome) -> dict[str, Any]:
    prompt, ids = outcome.prompt, outcome.prompt_ids
    lengths = boundaries(samples.tokenizers, prompt, ids) if len(prompt) <= MOST_CHARACTERS else None
    asked: dict[str, Any] = {"text": ends(prompt), "ids": list(ids[:MOST_IDS]), "tokens": len(ids)}
    return asked if lengths is None else {**asked, "lengths": lengths[:MOST_IDS]}


def _answer(outcome: Outcome) -> dict[str, Any]:
    return {
        "text": ends(outcome.output),
        "verdict": verdict(outcome),
        "status": outcome.status,
        "score": _finite(outcome.score),
        "confidence": _finite(outcome.confidence),
        "tokens": outcome.tokens,
    }


def _finite(value: float | None) -> float | None:
    """Six significant digits; None for what JSON cannot hold."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def verdict(outcome: Outcome) -> str:
    """right or wrong where the score is 0 or 1, whichever is better; what else kept it from one; "" for a grade.

    Example: score 1 of an attack's success, where lower is better: wrong. 0.71 bits per byte: "".
    """
    said = verdict_of(outcome)
    if said not in (RIGHT, WRONG):
        return said
    if outcome.score not in (0.0, 1.0):
        return ""
    return RIGHT if (outcome.score == 1.0) == (outcome.better == "higher") else WRONG


def ends(text: str, most: int = MOST_CHARACTERS) -> str:
    """The text; of a long one the first quarter and the last three of ``most``, and how much is left out between."""
    if len(text) <= most:
        return text
    head = most // 4
    return f"{text[:head]}\n… {len(text) - most} characters left out …\n{text[head - most :]}"
