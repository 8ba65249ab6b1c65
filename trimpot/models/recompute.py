"""Recomputation: a layer's activations are dropped in the forward pass and computed again in the backward pass."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trimpot.models.attention import AttentionPlan

MODES = ("none", "full", "every", "selective")
Forward = Callable[..., Any]


def recomputed(
    layers: Iterable[nn.Module], mode: str = "full", every: int = 1, keep_random_state: bool = False
) -> dict[nn.Module, Forward]:
    """Forwards of the modules that compute again in the backward pass (see ``replaced_forwards``): same results, bit by
    bit.

    ``mode``: none; full, every layer by itself; every, segments of ``every`` layers; selective, each layer's attention
    alone: scores, softmax and their product with the values, the projections being kept.

    Memory: of L layers of hidden size H, full keeps L · H numbers a token and the activations A of one layer at a time;
    every k keeps ⌈L/k⌉ · H and those of k layers, which is least, of order √L, at k = √(L · H / A); selective keeps all
    but what attention keeps, which is little where its kernel already computes the softmax again (torch's own do).
    Time: full and every: one more forward pass of the layers, of three that forward and backward take; selective:
    that of attention. The random state is not kept, as dropout is off: ``keep_random_state`` is for layers that draw
    (see ``trimpot.probes.recompute.check``).
    Raises: ValueError: an unknown mode, segments of no layers, a layer without one attention module (selective); in
        the pass, layers of one segment that are given different masks or positions.
    Source: arXiv 1604.06174, section 4 (segments); arXiv 2205.05198, section 5 (selective); torch.utils.checkpoint.
        transformers' own switch acts only on models in training mode, which ours never are.
    """
    if mode not in MODES or every < 1:
        raise ValueError(f"recomputation {mode!r} of every {every} layers is not one of {', '.join(MODES)}")
    again: Forward = functools.partial(checkpoint, use_reentrant=False, preserve_rng_state=keep_random_state)
    layers = list(layers)
    if mode == "none":
        return {}
    if mode == "selective":
        return {core: functools.partial(_attention_again, again, core.forward) for core in map(attention_of, layers)}
    if mode == "full" or every == 1:
        return {layer: functools.partial(again, layer.forward) for layer in layers}
    forwards: dict[nn.Module, Forward] = {}
    for start in range(0, len(layers), every):
        part = layers[start : start + every]
        segment = _Segment(tuple(layer.forward for layer in part), again)
        forwards[part[0]] = segment.first
        forwards.update({layer: segment.later for layer in part[1:]})
    return forwards


def attention_of(layer: nn.Module) -> nn.Module:
    """The attention module of a decoder layer: the one whose class name ends so.

    Raises:
        ValueError: there is none, or more than one (cross attention).
    """
    found = [one for one in layer.modules() if one is not layer and type(one).__name__.endswith("Attention")]
    if len(found) != 1:
        raise ValueError(f"{type(layer).__name__} has {len(found)} attention modules; selective needs one")
    return found[0]


@dataclass(frozen=True)
class _AgainPlan:
    """An attention plan whose calls keep queries, keys and values alone."""

    plan: AttentionPlan
    again: Forward

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        output: Tensor = self.again(self.plan.attend, layer, query, key, value, scaling)
        return output


def _attention_again(again: Forward, own: Forward, *args: Any, **named: Any) -> Any:
    """A module that is handed a plan keeps its projections; one without is attention and nothing else."""
    if named.get("attention_plan") is None:
        return again(own, *args, **named)
    return own(*args, **{**named, "attention_plan": _AgainPlan(named["attention_plan"], again)})


@dataclass
class _Segment:
    """Layers that keep the input of the first alone: the first runs them all, the others pass on what it gives."""

    own: Sequence[Forward]
    again: Forward
    given: tuple[Any, ...] = field(default=(), init=False)
    waiting: int = field(default=0, init=False)

    def first(self, hidden: Any, *args: Any, **named: Any) -> Any:
        self.given, self.waiting = (args, named), len(self.own) - 1
        return self.again(self._run, hidden, *args, **named)

    def later(self, hidden: Any, *args: Any, **named: Any) -> Any:
        if not self.waiting or not _same(self.given, (args, named)):
            raise ValueError("layers of one segment are given different arguments: recompute each layer by itself")
        self.waiting -= 1
        if not self.waiting:
            self.given = ()
        return hidden

    def _run(self, hidden: Any, *args: Any, **named: Any) -> Any:
        for forward in self.own:
            hidden = forward(hidden, *args, **named)
        return hidden


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    return not isinstance(one, Tensor) and not isinstance(other, Tensor) and bool(one == other)
