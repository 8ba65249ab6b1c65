"""The decoder's layers: which they are, from which on they train, and other ways to compute them for one pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn


def decoder_layers(trunk: nn.Module) -> list[nn.Module]:
    """The decoder's blocks, first to last: the longest of the module lists that lie least deep in the trunk."""
    lists = [(name.count("."), -len(found), found) for name, found in trunk.named_modules()
             if isinstance(found, nn.ModuleList)]  # fmt: skip
    return list(min(lists, key=lambda one: one[:2])[2])


def first_trained_layer(model: Any) -> int | None:
    """The index of the first decoder layer that trains; the number of layers if none does.

    None where something of the trunk trains that is no decoder layer (embeddings, virtual tokens, the last norm), so
    that not all below that layer is known to be frozen.
    """
    layers = decoder_layers(model.base_model)
    trained = [any(value.requires_grad for value in layer.parameters()) for layer in layers]
    inside = {id(value) for layer in layers for value in layer.parameters()}
    outside = [value for value in model.base_model.parameters() if id(value) not in inside]
    if any(value.requires_grad for value in outside) or hasattr(model, "virtual_tokens"):
        return None
    return trained.index(True) if any(trained) else len(layers)


@contextlib.contextmanager
def replaced_forwards(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Within it each of these layers computes by its entry in place of its own ``forward``."""
    before = {layer: vars(layer).get("forward") for layer in forwards}
    for layer, forward in forwards.items():
        layer.forward = forward
    try:
        yield
    finally:
        for layer, own in before.items():
            if own is None:
                del layer.forward
            else:
                layer.forward = own
