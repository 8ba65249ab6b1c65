"""Facts asked in prompt templates that mean the same, and what templates and checkpoints are worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trimpot.core.seeds import stream
from trimpot.evaluation.likelihood import choice_scores, encode_question, most_likely
from trimpot.evaluation.suites.closed_sets import closed_set
from trimpot.evaluation.suites.facts import RELATIONS
from trimpot.evaluation.task import Item
from trimpot.models.policy import Policy

TEMPLATES: tuple[tuple[str, str], ...] = (
    ("Question: {}\nAnswer:", "\n\n"),
    ("Q: {}\nA:", "\n\n"),
    ("QUESTION: {}\nANSWER:", "\n\n"),
    ("question: {} answer:", "\n"),
    ("Question:: {} || Answer::", "\n\n"),
    ("Question - {};\nAnswer -", "\n\n"),
)
"""Template of a question, behind which an answer follows after a space, and what stands between examples.

Descriptor, separator, casing and spacing differ, by which FormatSpread (arXiv 2310.11324) makes formats of one meaning;
these six are ours.
"""
SET = 4
"""Questions that share their choices, each of which is right once: see ``closed_set``."""

Scores = NDArray[np.float64]


def drawn_facts(count: int, examples: int, seed: int) -> tuple[list[tuple[str, str]], list[Item]]:
    """Examples (question, answer), and ``count`` items in closed sets; no question stands twice.

    The facts of a relation are dealt into sets; those that fill none are left for the examples.

    Raises:
        ValueError: there are fewer sets or facts left over.
    """
    draw = stream(seed, "facts")
    sets: list[list[Item]] = []
    left: list[tuple[str, str]] = []
    for name, (template, pairs) in RELATIONS.items():
        facts = [(template.format(first), f" {second}") for first, second in draw.sample(pairs, len(pairs))]
        whole = len(facts) // SET * SET
        sets += [closed_set(facts[n : n + SET], f"{name} {n}", {"relation": name}, draw) for n in range(0, whole, SET)]
        left += facts[whole:]
    if count > SET * len(sets) or examples > len(left):
        raise ValueError(f"{count} items and {examples} examples of {SET * len(sets)} and {len(left)}")
    chosen = draw.sample(sets, count // SET)
    return draw.sample(left, len(left))[:examples], [item for some in chosen for item in some]


def answers(
    policy: Policy, way: tuple[str, str], examples: Sequence[tuple[str, str]], items: Sequence[Item]
) -> list[float]:
    """1 for every item whose right choice is the likeliest after the examples and the question, else 0."""
    asked, between = way
    before = "".join(asked.format(question) + answer + between for question, answer in examples)
    questions = [encode_question(policy.tokenizer, before + asked.format(item.prompt), item.choices) for item in items]
    found = [most_likely(scores) for scores in choice_scores(policy, questions)]
    return [float(item.choices[place] == item.answer) for item, place in zip(items, found, strict=True)]


def measured(scores: Scores) -> dict[str, float]:
    """What templates and checkpoints are worth; ``scores`` [2 checkpoints, template, item].

    The largest difference of noisy means is above 0 even where nothing differs. So which template is best and which
    worst, or which checkpoint is better, is read on one half of the items (every other set) and the difference is
    measured on the other half; both ways round, then the mean: without a true difference its expectation is 0.

    ``spread``: best less worst template, mean over checkpoints. ``gap``: better less worse checkpoint, mean over
    templates. ``shift``: how far the second checkpoint is ahead in the template where it is most, less where it is
    least. ``range``: best less worst on all items, as it is usually read, mean over checkpoints. ``first`` and
    ``second``: accuracy of the checkpoints.

    Example: two sets; in the first template the first checkpoint is right in half of each set, else nothing ever is.
    Its spread is ½ and that of the other 0: ¼; the gap ½ in one template and 0 in the other: ¼; the second checkpoint
    is ahead by −½ and by 0: a shift of ½.
    """
    half = np.arange(scores.shape[2]) // SET % 2 == 0
    halves = (scores[:, :, half].mean(axis=2), scores[:, :, ~half].mean(axis=2))
    found = []
    for read, other in (halves, halves[::-1]):
        ahead, measured_ahead = read[1] - read[0], other[1] - other[0]
        rows = np.arange(2)
        spread = (other[rows, read.argmax(axis=1)] - other[rows, read.argmin(axis=1)]).mean()
        gap = (np.sign(ahead) * measured_ahead).mean()
        found.append((spread, gap, measured_ahead[ahead.argmax()] - measured_ahead[ahead.argmin()]))
    spread, gap, shift = np.mean(found, axis=0)
    means = scores.mean(axis=2)
    return {
        "spread": float(spread),
        "gap": float(gap),
        "shift": float(shift),
        "range": float(np.ptp(means, axis=1).mean()),
        "first": float(means[0].mean()),
        "second": float(means[1].mean()),
    }
