"""How different texts are from each other: self-BLEU and distinct-n."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

ORDER = 4


def self_bleu(texts: Sequence[str], order: int = ORDER) -> float | None:
    """The mean over texts of BLEU against all the others: 0 nothing in common, 1 all alike. Lower is more diverse.

    BLEU_i = BP · exp(1/N · Σ_n ln p_n), p_n = Σ min(count in i, largest count in one other) / number of n-grams of i

    N = ``order``; where no n-gram of a text is in another, p_n = 0.1/number (smoothing 1 of Chen and Cherry 2014);
    BP = min(1, exp(1 − r/c)), c the length of i, r the length nearest to it among the others, the shorter of equals.
    Words are runs of letters and digits, casefolded. A text with fewer than N words has its N lowered to its length.
    Example: "a b" and "a c", order 1: p₁ = 1/2 for both, BP = 1: 0.5.

    Shapes: any number of texts. Units: a share in [0, 1].
    Raises:
        ValueError: order below 1.
    Edge cases: fewer than two texts with words: None.
    Source: Zhu et al. 2018 (arXiv 1802.01886); Perez 2022 measures diversity so. The smoothing as nltk's method1.
    """
    if order < 1:
        raise ValueError(f"order is {order}; at least 1 is needed")
    words = [found for found in map(_words, texts) if found]
    if len(words) < 2:
        return None
    grams = [[_grams(one, n) for n in range(1, order + 1)] for one in words]
    # The two largest counts of every n-gram over the texts tell the largest among the others of each.
    highest = [_two_highest([one[n] for one in grams]) for n in range(order)]
    return math.fsum(_bleu(number, words, grams, highest) for number in range(len(words))) / len(words)


def distinct(texts: Sequence[str], n: int = 2) -> float | None:
    """The share of different n-grams among all n-grams of all texts. Higher is more diverse.

    Example: "a b a" and "a b", n = 2: (a b), (b a), (a b): 2/3.

    Raises:
        ValueError: n below 1.
    Edge cases: no text has n words: None.
    Source: Li et al. 2016 (arXiv 1510.03055).
    """
    if n < 1:
        raise ValueError(f"n is {n}; at least 1 is needed")
    counts: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        counts += _grams(_words(text), n)
    return len(counts) / counts.total() if counts else None


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def _grams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))


def _two_highest(counts: Sequence[Counter[tuple[str, ...]]]) -> dict[tuple[str, ...], tuple[int, int, int]]:
    """N-gram -> (largest count, the text that has it, largest count among the other texts)."""
    found: dict[tuple[str, ...], tuple[int, int, int]] = {}
    for number, some in enumerate(counts):
        for gram, count in some.items():
            first, where, second = found.get(gram, (0, -1, 0))
            found[gram] = (count, number, first) if count > first else (first, where, max(second, count))
    return found


def _bleu(
    number: int,
    words: Sequence[Sequence[str]],
    grams: Sequence[Sequence[Counter[tuple[str, ...]]]],
    highest: Sequence[dict[tuple[str, ...], tuple[int, int, int]]],
) -> float:
    own, total = words[number], 0.0
    orders = min(len(highest), len(own))
    for n in range(orders):
        shared = 0
        for gram, count in grams[number][n].items():
            first, where, second = highest[n][gram]
            shared += min(count, second if where == number else first)
        total += math.log((shared or 0.1) / grams[number][n].total())
    lengths = (len(one) for other, one in enumerate(words) if other != number)
    nearest = min(lengths, key=lambda length: (abs(length - len(own)), length))
    return min(1.0, math.exp(1 - nearest / len(own))) * math.exp(total / orders)
