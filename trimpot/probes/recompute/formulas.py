"""Bytes of activations a transformer layer keeps: the published formulas, and what segments make of them.

Symbols: s sequence length, b sequences in a pass, h hidden size, a attention heads, t tensor-parallel processes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

NUMBER, MASK = 2, 1
"""Bytes of a number and of an entry of a dropout mask, as in the paper. On a CPU torch keeps a dropout's noise as
numbers, so there a mask has the bytes of a number."""


@dataclass(frozen=True)
class LayerShape:
    """The sizes that the formulas read: s, b, h and a."""

    tokens: int
    sequences: int
    hidden: int
    heads: int

    @property
    def numbers(self) -> int:
        """s · b · h."""
        return self.tokens * self.sequences * self.hidden

    @property
    def scores(self) -> float:
        """a · s / h: entries of the attention's matrix for each entry of the hidden states."""
        return self.heads * self.tokens / self.hidden


def layer_bytes(
    shape: LayerShape,
    recompute: str = "none",
    parallel: int = 1,
    sequence_parallel: bool = False,
    number: int = NUMBER,
    mask: int = MASK,
) -> float:
    """Bytes that one layer keeps for the backward pass, on one of t tensor-parallel processes.

    Equation, in the paper's 2 and 1 bytes: none sbh(34 + 5as/h); with tensor parallelism sbh(10 + 24/t + 5as/(ht)),
        and with sequence parallelism as well sbh(34 + 5as/h)/t; selective the same without the term of as/h; full 2sbh,
        as the layer's input is what is kept (with sequence parallelism its share, 2sbh/t: ours).
        With n bytes a number and m a mask: 34 becomes 16n + 2m, of which 4n + 2m are not split by t; 5 becomes 2n + m.
    Where it comes from: two norms' inputs 2n; inputs of the projections of queries, keys and values n, and these
        three 3n; softmax, its dropout and what the dropout gives n + m + n (times as/h); input of the output projection
        n; dropout m; feed-forward n, 4n, 4n; dropout m. Sum: 16n + 2m, and (2n + m)as/h.
    Shapes: hidden size h, feed-forward 4h, GELU, dropout after softmax and both blocks, h a multiple of a and t.
    Units: bytes. Raises: ValueError: an unknown ``recompute``, or t below 1.
    Source: arXiv 2205.05198, section 4.1 and table 2; m = n on a CPU is measured here (tests/probes/recompute).

    Example: GPT-3, s = 2048, b = 1, h = 12288, a = 96: as/h = 16, so 34 + 80 = 114 bytes for each of 25,165,824.

        >>> layer_bytes(LayerShape(2048, 1, 12288, 96)) / (2048 * 12288)
        114.0
        >>> layer_bytes(LayerShape(2048, 1, 12288, 96), mask=2) / (2048 * 12288)  # 36 + 6 · 16
        132.0
    """
    if recompute not in ("none", "selective", "full") or parallel < 1:
        raise ValueError(f"no formula for recompute {recompute!r} on {parallel} processes")
    split = 1 / parallel
    whole = split if sequence_parallel else 1.0
    if recompute == "full":
        return shape.numbers * number * whole
    whole_bytes = (4 * number + 2 * mask) * whole
    attention = 0.0 if recompute == "selective" else (2 * number + mask) * shape.scores * split
    return shape.numbers * (whole_bytes + 12 * number * split + attention)


def segmented_bytes(layers: int, every: int, layer: float, border: float) -> float:
    """The most that is kept at one time with segments of ``every`` layers: ⌈L/k⌉ inputs and one segment's layers.

    Equation: ⌈L/k⌉ · I + k · A, where a layer keeps A and its input takes I bytes (a part of A). It is least at
        k = √(L · I / A), where it is 2√(L · I · A): of order √L.
    Raises: ValueError: no layers, or segments of none.
    Edge cases: k above L: one segment of L layers.
    Source: arXiv 1604.06174, section 4.1, which has I = A and so 2√L.

    Example: 64 layers of A = I = 1 in segments of 8: 8 inputs and 8 layers, 16 in place of 64.

        >>> segmented_bytes(64, 8, layer=1.0, border=1.0)
        16.0
    """
    if layers < 1 or every < 1:
        raise ValueError(f"{layers} layers in segments of {every}")
    return math.ceil(layers / every) * border + min(every, layers) * layer


def best_segment(layers: int, layer: float, border: float) -> int:
    """The segment for which ``segmented_bytes`` is least; of equal ones the shortest, which recomputes no more.

    Example: 64 layers whose input is 1/16 of what they keep: √(64/16) = 2.

        >>> best_segment(64, layer=16.0, border=1.0)
        2
    """
    return min(range(1, layers + 1), key=lambda every: segmented_bytes(layers, every, layer, border))
