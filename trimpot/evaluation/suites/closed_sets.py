"""Choice items in closed sets: whatever a model prefers whatever the question, it scores exactly chance."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from trimpot.evaluation.task import Item


def closed_set(
    pairs: Sequence[tuple[str, str]], cluster: str, slices: Mapping[str, str], draw: random.Random
) -> list[Item]:
    """k questions with the same k choices, each of them right once.

    A score that depends on the choice alone ranks the choices alike in all k items, so its argmax is right in exactly
    one: 1/k. The same holds for "always the first" or "always the shortest". What is above 1/k comes from the question.

    Args:
        pairs: (question, answer); answers differ, and begin with the space that parts them from the question.
        draw: orders the choices, alike in all items.

    Raises:
        ValueError: two answers are equal, or two questions are.

    Example: ("The key", " is here.") and ("The keys", " are here.") make two items with both choices. A model that
        finds " is here." likelier everywhere is right in the first and wrong in the second: 1/2.
    """
    answers = [answer for _, answer in pairs]
    if len(set(answers)) < len(answers) or len({question for question, _ in pairs}) < len(pairs):
        raise ValueError(f"{cluster}: questions and answers of a closed set must differ")
    choices = tuple(draw.sample(answers, len(answers)))
    return [Item(question, choices, answer, cluster, dict(slices)) for question, answer in pairs]
