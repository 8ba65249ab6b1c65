"""What competes in the arena: ways to spend operations on learning to write four letters backwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trimpot.models.noise import NoisyPolicy
from trimpot.models.policy import Policy
from trimpot.training.streams import Trainee


def as_given(word: str, answer: str) -> tuple[str, str]:
    """The word and its answer as they are."""
    return word, answer


def as_written(text: str) -> str:
    """What the model wrote, as it is."""
    return text


def numbered(word: str, answer: str) -> tuple[str, str]:
    """Every letter after its number: ``abcd`` is shown as ``1a2b3c4d``, to be answered ``4d3c2b1a``."""
    places = range(1, len(word) + 1)
    there = [f"{place}{letter}" for place, letter in zip(places, word, strict=True)]
    back = [f"{place}{letter}" for place, letter in zip(reversed(places), answer, strict=True)]
    return "".join(there), "".join(back)


def letters(text: str) -> str:
    """What was written, without numbers."""
    return "".join(letter for letter in text if not letter.isdigit())


def bare(policy: Policy, seed: int) -> Trainee:
    """The policy itself."""
    return policy


def noisy(policy: Policy, seed: int) -> Trainee:
    """The policy with NEFTune's noise on its embeddings, of the smallest size that the paper tries."""
    return NoisyPolicy(policy, 5.0, seed)


@dataclass(frozen=True)
class Trick:
    """A way to spend a budget; what is not given is as in plain fine-tuning.

    ``what`` says it in a few words. ``shown`` makes of a word and its answer what the model reads and writes, ``read``
    makes an answer of what it wrote. ``optimizer`` are settings that differ from a constant rate without warm-up;
    ``trainee`` makes what trains of policy and seed. ``search``: this share of the budget pays for further answers to
    every question, drawn at temperature 1, of which the verifier picks a right one; 0: one greedy answer.
    """

    what: str
    shown: Callable[[str, str], tuple[str, str]] = as_given
    read: Callable[[str], str] = as_written
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    trainee: Callable[[Policy, int], Trainee] = bare
    search: float = 0.0


PLAIN = "plain"
TRICKS: dict[str, Trick] = {
    PLAIN: Trick("fine-tuning at a constant rate, one greedy answer"),
    "numbered": Trick("a prior made by hand: letters with their numbers", shown=numbered, read=letters),
    "cosine": Trick("warm-up and cosine decay", optimizer={"schedule": "cosine", "warmup": 0.1}),
    "neftune": Trick("noise on the embeddings while training", trainee=noisy),
    "best-of-n": Trick("an eighth of the budget for answers to pick from", search=1 / 8),
}
"""Name -> trick. Plain is what the others are measured against."""
