"""What a forward pass looks like from inside: activations, dead units, attention. Hooks that read and change nothing.

Shape suffixes: T packed tokens, U units of a feed-forward layer, A heads, Q queries, K keys, D head size.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trimpot.models.attention import AttentionPlan, Call, PackedPlan
from trimpot.models.decoder import decoder_layers

AFTER_UNITS = ("down_proj", "c_proj", "fc2", "w2", "dense_4h_to_h")
"""The matrix that reads a feed-forward layer's units, by the names that model families give it."""
FEED_FORWARD = ("mlp", "feed_forward", "ffn", "")
DEAD = 1e-3
"""A unit is dead that stays, at every token, below this share of its layer's root mean square. A ReLU's is 0; SiLU and
GELU go to 0 without reaching it. Ours."""
QUERIES = 32
"""Queries of a pass whose attention is computed again to see its entropy. Ours."""


class ForwardLook:
    """Sums over the forward passes with gradient between ``attach`` and ``detach``.

    Passes without gradient (a reference's, a rollout's) do not count. Results and gradients are bitwise what they are
    without it: hooks return nothing, and attention goes through the same plan.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._hooks: list[Any] = []
        self.layers = decoder_layers(model.base_model)
        self._squares: dict[int, list[tuple[Tensor, int]]] = {}
        self._units: dict[int, list[tuple[Tensor, Tensor, int]]] = {}
        self._entropies: dict[int, list[Tensor]] = {}
        self.documents: list[int] = []

    def attach(self) -> None:
        """Registers the hooks, and forgets what was seen before."""
        self.detach()
        self._squares, self._units, self._entropies, self.documents = {}, {}, {}, []
        for number, layer in enumerate(self.layers):
            self._hooks.append(layer.register_forward_hook(functools.partial(self._layer, number)))
            reader = unit_reader(layer)
            if reader is not None:
                self._hooks.append(reader.register_forward_pre_hook(functools.partial(self._unit, number)))
        self._hooks.append(self._model.base_model.register_forward_pre_hook(self._plan, with_kwargs=True))

    def detach(self) -> None:
        """Removes the hooks; what was seen stays."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def activations(self) -> dict[int, float]:
        """√(mean h²) of every layer's output over tokens; NaN or infinite where an output is."""
        return {
            number: math.sqrt(sum(float(square) for square, _ in found) / sum(count for _, count in found))
            for number, found in self._squares.items()
        }

    def dead(self) -> dict[int, float]:
        """The share of dead units (DEAD) of every layer; empty where no feed-forward layer is known."""
        shares = {}
        for number, found in self._units.items():
            highest_U = torch.stack([highest for highest, _, _ in found]).amax(0)
            square = sum(float(square) for _, square, _ in found) / sum(count for _, _, count in found)
            # NaN is not below anything: a layer that is not finite has no dead units.
            shares[number] = float((highest_U <= DEAD * math.sqrt(square)).double().mean())
        return shares

    def entropies(self) -> dict[int, Tensor]:
        """Of every layer the mean entropy of each head's attention, as a share of that of equal weights: [A]."""
        return {number: torch.stack(found).mean(0) for number, found in self._entropies.items()}

    def _layer(self, number: int, layer: nn.Module, inputs: Any, output: Any) -> None:
        if torch.is_grad_enabled():
            hidden = (output if isinstance(output, Tensor) else output[0]).detach()
            square = torch.linalg.vector_norm(hidden.float()).double() ** 2
            self._squares.setdefault(number, []).append((square, hidden.numel()))

    def _unit(self, number: int, reader: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if torch.is_grad_enabled():
            units_TU = inputs[0].detach().flatten(0, -2)
            low_U, high_U = torch.aminmax(units_TU, dim=0)
            highest_U = torch.maximum(-low_U, high_U).float()
            square = torch.linalg.vector_norm(units_TU.float()).double() ** 2
            self._units.setdefault(number, []).append((highest_U, square, units_TU.numel()))

    def _plan(self, trunk: nn.Module, inputs: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        plan = named.get("attention_plan")
        if not torch.is_grad_enabled() or not isinstance(plan, PackedPlan):
            return None
        self.documents += [high - low for low, high in _documents(plan)]
        return inputs, {**named, "attention_plan": _SeenPlan(plan, self._entropies)}


def unit_reader(layer: nn.Module) -> nn.Module | None:
    """The matrix of a decoder layer that reads its feed-forward units; None in families that are not known here."""
    for part in FEED_FORWARD:
        found = getattr(layer, part, None) if part else layer
        for name in AFTER_UNITS if found is not None else ():
            reader = getattr(found, name, None)
            if isinstance(reader, nn.Module):
                return reader
    return None


def _documents(plan: PackedPlan) -> list[tuple[int, int]]:
    """Spans that attend to themselves: a call whose keys lie before it belongs to the document of those keys."""
    return [(min(low for low, _ in call.keys), call.query[1]) for call in plan.calls]


class _SeenPlan:
    """The plan itself, with a look at what goes in."""

    def __init__(self, plan: AttentionPlan, entropies: dict[int, list[Tensor]]) -> None:
        self._plan, self._entropies = plan, entropies
        self.calls = plan.calls  # type: ignore[attr-defined]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        with torch.no_grad():
            found = attention_entropy(self.calls, query, key, scaling)
        if found is not None:
            self._entropies.setdefault(layer, []).append(found)
        return self._plan.attend(layer, query, key, value, scaling)


def attention_entropy(
    calls: tuple[Call, ...], query: Tensor, key: Tensor, scaling: float | None, queries: int = QUERIES
) -> Tensor | None:
    """The mean entropy of attention by head, as a share of its maximum, over evenly spaced queries of the longest call.

    Equation: mean over queries of −Σ_j p_j ln p_j / ln m, p the weights on the m ≥ 2 keys that the query sees.
    Shapes: query [1, A, T, D], key [1, A', T, D] -> [A]. Range: 0 (one key takes all) to 1 (all alike).
    Edge cases: None where no query sees two keys.
    Source: attention entropy as in arXiv 2303.06296, section 3; its division by ln m is ours, so that long and short
        documents compare.

    Example: weights (0.5, 0.5): ln 2 / ln 2 = 1; weights (0.9, 0.1): 0.325 / 0.693 = 0.469.
    """
    call = max(calls, key=lambda one: one.query[1] - one.query[0])
    low, high = call.query
    chosen = torch.linspace(0, high - low - 1, min(queries, high - low), device=query.device).long().unique()
    keys = torch.cat([key[0, :, first:last] for first, last in call.keys], dim=1)
    repeated = keys.repeat_interleave(query.shape[1] // keys.shape[0], dim=0).float()
    asked = query[0, :, low:high].index_select(1, chosen).float()
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    seen_QK = _seen(call, chosen, keys.shape[1])
    scores_AQK = (asked @ repeated.transpose(1, 2) * scale).masked_fill(~seen_QK, -math.inf)
    logs_AQK = scores_AQK.log_softmax(-1)
    entropy_AQ = -(logs_AQK.exp() * logs_AQK.clamp_min(-1e4)).sum(-1)
    counts_Q = seen_QK.sum(1)
    several = counts_Q >= 2
    if not bool(several.any()):
        return None
    return (entropy_AQ[:, several] / counts_Q[several].float().log()).mean(1)


def _seen(call: Call, chosen: Tensor, keys: int) -> Tensor:
    if call.mask is not None:
        return call.mask[chosen].bool()
    return torch.arange(keys, device=chosen.device) <= chosen[:, None]


def spread(values: Mapping[int, float], name: str) -> dict[str, float]:
    """Metrics of a value by layer: ``name/layer_00`` and so on."""
    return {f"{name}/layer_{number:02d}": value for number, value in values.items()}
