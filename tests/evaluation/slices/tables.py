"""Outcome tables for tests of slices, drawn from a seed."""

import numpy as np

from tests.evaluation.helm.outcomes import outcome

TOPICS = ("river ocean ship wave island", "piano violin song dance singer", "apple bread soup cheese kitchen")


def table(seed, n=160, low=None, size=1):
    """Items of kinds a to d, easy or hard, on three topics; right with probability 0.7, or 0.1 where ``low`` holds.

    ``size`` items share a cluster, and with it a difficulty of their own.
    """
    generator, made = np.random.default_rng(seed), []
    own = generator.normal(0, 0.25 if size > 1 else 0, n)
    for number in range(n):
        kind, level = str(generator.choice(list("abcd"))), str(generator.choice(["easy", "hard"]))
        topic = int(generator.integers(3))
        words = " ".join(generator.choice(TOPICS[topic].split(), 4))
        right = 0.1 if low and low(kind, level, topic) else float(np.clip(0.7 + own[number // size], 0, 1))
        fields = {"slices": {"kind": kind, "level": level}, "cluster": str(number // size)}
        made.append(outcome(number, float(generator.random() < right), prompt=f"Question: {words}\nAnswer:", **fields))
    return made
