"""Gradient norms and the size of updates against weights, by groups of layers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

MOST = 2**16
"""Numbers of a tensor of which a copy is kept over the update; of larger ones evenly spaced ones. Ours: the share that
they give of a norm is within about 1/√(2·65,536) = 0.3% for entries that are alike."""

EMBEDDINGS = re.compile(r"(^|\.)(embed_tokens|wte|wpe|word_embeddings|embed_in|embed_positions)\.")
HEADS = re.compile(r"(^|\.)(lm_head|head|score|classifier|embed_out)\.")


def group_of(name: str) -> str:
    """The group of a weight: ``layer_07`` by the first number in its name, else embedding, head or other.

    Example:

        >>> names = ("model.layers.7.mlp.up_proj.weight", "model.embed_tokens.weight", "model.norm.weight")
        >>> [group_of(one) for one in names]
        ['layer_07', 'embedding', 'other']
    """
    number = re.search(r"\.(\d+)\.", name)
    if number is not None:
        return f"layer_{int(number.group(1)):02d}"
    return "embedding" if EMBEDDINGS.search(name) else "head" if HEADS.search(name) else "other"


def gradient_norms(parameters: Mapping[str, Tensor]) -> dict[str, float]:
    """|g| of every group that has a gradient, before clipping."""
    squares: dict[str, list[Tensor]] = {}
    for name, value in parameters.items():
        if value.grad is not None:
            squares.setdefault(group_of(name), []).append(torch.linalg.vector_norm(value.grad.float()).double() ** 2)
    return {group: math.sqrt(float(torch.stack(found).sum())) for group, found in squares.items()}


class Updates:
    """What an update changes, relative to the weights.

    Equation: |Δw| / |w| over the weights of a group, Δw = w after − w before, both norms from up to MOST evenly spaced
        numbers of each tensor.
    Memory: those numbers.
    Edge cases: None for a group whose weights are all 0 (LoRA's second factors before the first step, by themselves).
    Source: Karpathy's notes of CS231n, "Ratio of weights:updates" (about 1e-3 is usual); sampling: ours.

    Example: w = (3, 4), Δw = (0.003, 0.004): 0.005 / 5 = 1e-3.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        """Keeps what is compared, for all weights that have a gradient."""
        self._parameters = {name: value for name, value in parameters.items() if value.grad is not None}
        self._before = {name: _sample(value).clone() for name, value in self._parameters.items()}

    def ratios(self) -> dict[str, float | None]:
        """After the update: the ratio of every group, and that of all weights under ``all``."""
        squares: dict[str, list[float]] = {"all": [0.0, 0.0]}
        for name, before in self._before.items():
            value = self._parameters[name]
            share = value.numel() / max(1, before.numel())
            change = share * float((_sample(value) - before).double().square().sum())
            size = share * float(before.double().square().sum())
            for group in ("all", group_of(name)):
                sums = squares.setdefault(group, [0.0, 0.0])
                squares[group] = [sums[0] + change, sums[1] + size]
        return {group: math.sqrt(change / size) if size else None for group, (change, size) in squares.items()}


def _sample(value: Tensor) -> Tensor:
    """A view of at most MOST numbers, evenly spaced, and through all columns of a matrix alike."""
    whole = value.detach().flatten()
    step = -(-len(whole) // MOST)
    while step > 1 and math.gcd(step, value.shape[-1]) > 1:
        step += 1
    return whole[::step]
