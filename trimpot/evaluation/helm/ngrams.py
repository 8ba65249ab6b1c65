"""A text as hashed character n-grams, and a logistic regression on them: a small classifier without a library."""

from __future__ import annotations

import math
import re
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

SIZES = (3, 4, 5)
_WORD = re.compile(r"[^\W_]+(?:['’*][^\W_]+)*")


def ngrams(text: str, dimension: int) -> list[int]:
    """The places, in order, of the n-grams of 3 to 5 characters in the words of a text, a space at either end of each.

    Words are lower-cased (NFKC); an n-gram's place is its CRC-32 modulo ``dimension``; each place is listed once.
    Example: "Ab" is the word " ab ": " ab", "ab ", and " ab ".

    Edge cases: a text without letters or digits has none.
    """
    tokens = {f" {word} " for word in _WORD.findall(unicodedata.normalize("NFKC", text).lower())}
    found = {word[start : start + size] for word in tokens for size in SIZES for start in range(len(word) - size + 1)}
    return sorted({zlib.crc32(one.encode()) % dimension for one in found})


@dataclass(frozen=True)
class Classifier:
    """p(x) = σ(b + Σ_{j ∈ x} w_j / √|x|), x the n-grams of a text: each counts once, and the vector has length 1.

    Shapes: weights [dimension].
    """

    weights: Sequence[float]
    intercept: float

    def probability(self, text: str) -> float:
        """In (0, 1). Edge cases: a text without n-grams: σ(b)."""
        places = ngrams(text, len(self.weights))
        total = math.fsum(self.weights[place] for place in places) / math.sqrt(max(len(places), 1))
        logit = max(min(self.intercept + total, 500.0), -500.0)
        return 1 / (1 + math.exp(-logit))
