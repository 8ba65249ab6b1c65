"""Training steps of one precision mode, on a copy of the model; the model given is left as it is."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trimpot.core.samples import Sample
from trimpot.core.tensors import Batch, Objective, Streams, Wanted, pack, pack_one
from trimpot.models.decoder import decoder_layers
from trimpot.models.policy import Policy
from trimpot.probes.precision.loss_scale import LossScale
from trimpot.probes.precision.magnitudes import (
    DTYPES,
    HIDDEN_STATES,
    LostUpdates,
    Magnitudes,
    add_magnitudes,
    group_of,
    lost_updates,
    magnitudes,
)
from trimpot.probes.precision.modes import PrecisionMode


@dataclass(frozen=True)
class Recipe:
    """What every mode trains in the same way: AdamW at a constant rate, clipping, and the size of a pass."""

    objective: Objective
    learning_rate: float
    max_grad_norm: float
    token_budget: int


@dataclass(frozen=True)
class StepRecord:
    """One step: its loss as the mode computes it, the scale, and the norm of the gradient before clipping.

    ``overflow``: a gradient was not finite, so the step was not taken. Units: nats per target token (SFT).
    """

    loss: float
    scale: float
    norm: float
    overflow: bool


@dataclass(frozen=True)
class Look:
    """What is seen of one step, by group: magnitudes of the gradients (fp32 alone), and updates lost in each format."""

    gradients: Mapping[str, Magnitudes]
    lost: Mapping[str, Mapping[str, LostUpdates]]


class Trainer:
    """A model that trains in one mode, step by step.

    ``exact`` computes in float32; what trains of it are the optimiser's weights, so in fp32 it is also what runs.
    Otherwise ``worker`` runs, with weights rounded from those.
    """

    def __init__(self, policy: Policy, mode: PrecisionMode, recipe: Recipe, scale: LossScale) -> None:
        self.mode, self.recipe, self.scale = mode, recipe, scale
        self.exact = copy.deepcopy(policy)
        self.exact.model.float()
        self.weights = self.exact.trainable()
        self.worker = self.exact
        if mode.dtype != "float32":
            self.worker = copy.deepcopy(policy)
            self.worker.model.to(DTYPES[mode.dtype])
        self.optimizer = torch.optim.AdamW(
            list(self.weights.values()), lr=recipe.learning_rate, weight_decay=0.0, fused=True
        )
        self._settle()

    def step(self, samples: Sequence[Sample], look: bool = False) -> tuple[StepRecord, Look | None]:
        """Takes one step; with ``look`` also a Look: in fp32 of updates that either half format would lose, in a mode
        without master weights of those it did lose.
        """
        histograms = look and self.mode.dtype == "float32"
        with self._watched(histograms) as seen:
            loss = self._backward(samples)
        norm = self._unscale()
        overflow = not math.isfinite(norm)
        if histograms:
            seen += [magnitudes(group_of(name), grad) for name, grad in self.gradients().items()]
        lost = {} if overflow else self._update(norm, look)
        scale, self.scale = self.scale.scale, self.scale.after(overflow)
        return StepRecord(loss, scale, norm, overflow), Look(add_magnitudes(seen), lost) if look else None

    def gradients(self) -> dict[str, Tensor]:
        """The last step's gradients, divided by the scale, in float32; clipped if the step was taken and clipped."""
        return {name: value.grad for name, value in self.weights.items() if value.grad is not None}

    @torch.no_grad()
    def loss_of(self, samples: Sequence[Sample]) -> float:
        """The loss of the optimiser's weights on these rows, computed in float32."""
        counts, total = counts_of(self.recipe.objective, samples), 0.0
        for batch in pack(samples, self.recipe.token_budget, str(self.exact.device)):
            total += float(self._loss(self.exact, batch, counts))
        return total

    def _loss(self, policy: Policy, batch: Batch, counts: Mapping[str, float]) -> Tensor:
        objective = self.recipe.objective
        streams: dict[str, Any] = {**policy.streams(batch, Wanted(objective.needs)), **batch.streams}
        out = objective(Streams(batch.sequence_N, batch.sequences, **streams))
        terms = [one.weight * one.total / counts[one.name] for one in out.terms if counts[one.name]]
        return torch.stack(terms).sum()

    def _backward(self, samples: Sequence[Sample]) -> float:
        for value in self.worker.trainable().values():
            value.grad = None
        counts, total = counts_of(self.recipe.objective, samples), 0.0
        for batch in pack(samples, self.recipe.token_budget, str(self.worker.device)):
            loss = self._loss(self.worker, batch, counts)
            (loss * self.scale.scale).backward()
            total += float(loss.detach())
        return total

    @torch.no_grad()
    def _unscale(self) -> float:
        """Leaves the gradients, in float32 and divided by the scale, with the optimiser's weights; gives their norm."""
        squares = []
        for value, own in zip(self.weights.values(), self.worker.trainable().values(), strict=True):
            value.grad = None if own.grad is None else own.grad.float().div_(self.scale.scale)
            if value.grad is not None:
                squares.append(torch.linalg.vector_norm(value.grad))
        return float(torch.linalg.vector_norm(torch.stack(squares))) if squares else 0.0

    @torch.no_grad()
    def _update(self, norm: float, look: bool) -> dict[str, dict[str, LostUpdates]]:
        if norm > self.recipe.max_grad_norm:
            for value in self.weights.values():
                if value.grad is not None:
                    value.grad.mul_(self.recipe.max_grad_norm / (norm + 1e-6))
        before = {name: value.detach().clone() for name, value in self.weights.items()} if look else {}
        self.optimizer.step()
        lost: dict[str, dict[str, LostUpdates]] = {}
        for name, old in before.items():
            for dtype in self._formats():
                found = lost.setdefault(dtype, {})
                group = group_of(name)
                found[group] = found.get(group, LostUpdates(dtype)) + lost_updates(old, self.weights[name] - old, dtype)
        self._settle()
        return lost

    def _formats(self) -> tuple[str, ...]:
        if self.mode.dtype == "float32":
            return ("float16", "bfloat16")
        return () if self.mode.master else (self.mode.dtype,)

    @torch.no_grad()
    def _settle(self) -> None:
        """The optimiser's weights are new: without a master copy they are rounded; the worker gets them."""
        if self.worker is self.exact:
            return
        for value, own in zip(self.weights.values(), self.worker.trainable().values(), strict=True):
            own.copy_(value)
            if not self.mode.master:
                value.copy_(own)

    @contextmanager
    def _watched(self, look: bool) -> Iterator[list[Magnitudes]]:
        """Counts, while it lasts, the gradients of what the decoder's layers give out."""
        seen: list[Magnitudes] = []

        def watch(_module: Any, _inputs: Any, output: Any) -> None:
            states = output[0] if isinstance(output, tuple) else output
            if states.requires_grad:
                states.register_hook(lambda grad: seen.append(magnitudes(HIDDEN_STATES, grad)))

        layers = decoder_layers(self.worker.model.base_model) if look else []
        hooks = [layer.register_forward_hook(watch) for layer in layers]
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()


def counts_of(objective: Objective, samples: Sequence[Sample]) -> dict[str, float]:
    """What each term of the loss is divided by: its count over these samples, which no model takes part in."""
    batch = pack_one(samples)
    zeros_N = torch.zeros(len(batch.target_ids_N))
    made: dict[str, Any] = {**dict.fromkeys(objective.needs, zeros_N), **batch.streams}
    return {one.name: one.count for one in objective(Streams(batch.sequence_N, batch.sequences, **made)).terms}
