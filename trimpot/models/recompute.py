"""Recomputation: a layer's activations are dropped in the forward pass and computed again in the backward pass."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


def recomputed(layers: Iterable[nn.Module]) -> dict[nn.Module, Callable[..., Any]]:
    """For each layer a forward that keeps its inputs only (see ``replaced_forwards``): same results, bit by bit.

    Memory: of L layers of hidden size H, L · H numbers a token are kept, and the activations of one layer at a time.
    Time: one more forward pass of the layers, of three that forward and backward take. The random state is not kept,
    as dropout is off.
    Source: arXiv 1604.06174, with one layer as the segment; torch.utils.checkpoint. transformers' own switch acts only
        on models in training mode, which ours never are.
    """
    return {
        layer: functools.partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)
        for layer in layers
    }
