"""A loss as a function of one long vector of weights, in float64: value, gradient, Hessian-vector product."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

Floats = NDArray[np.float64]
Weights = Mapping[str, Tensor]
Part = Callable[[Weights], Tensor]
"""A summand of the loss, from the weights by name to a number with gradient."""


@dataclass(frozen=True)
class Surface:
    """The loss f(x) = Σ parts(x) over a flat vector x of n weights.

    ``parts`` run one after the other, so memory is that of one part. ``weights`` are those at which it begins, float64:
    x holds them one after the other in the order of their names here, each row by row.

    Shapes: x, v, gradients [n], float64. Units: those of the loss.
    Edge cases: a weight that the loss does not read has a gradient and curvature of 0.
    Source: products Hv = ∇(∇f·v), Pearlmutter 1994. CPU attention has no double backward in torch 2.13, so attention
        runs by its plain formula (SDPBackend.MATH).

    Example: f = a² + 3ab at a = 2, b = 1: value 10, gradient (2a + 3b, 3a) = (7, 6); with v = (1, 0) the Hessian
        [[2, 3], [3, 0]] gives (2, 3).

        >>> at = {"a": torch.tensor(2.0), "b": torch.tensor(1.0)}
        >>> surface = Surface.of(lambda w: w["a"] ** 2 + 3 * w["a"] * w["b"], at)
        >>> value, gradient = surface.value_and_gradient(surface.point())
        >>> value, gradient.tolist()
        (10.0, [7.0, 6.0])
        >>> surface.product(surface.point(), np.array([1.0, 0.0])).tolist()
        [2.0, 3.0]
    """

    parts: tuple[Part, ...]
    weights: Weights

    @classmethod
    def of(cls, loss: Part, weights: Weights) -> Surface:
        """The surface of one function; weights are copied to float64."""
        return cls((loss,), {name: value.detach().double() for name, value in weights.items()})

    @property
    def size(self) -> int:
        """n, the number of weights."""
        return sum(value.numel() for value in self.weights.values())

    def point(self) -> Floats:
        """x at the weights as they are."""
        return flat(self.weights.values())

    def value(self, x: Floats) -> float:
        """f(x), without gradients."""
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            weights = self._named(x)
            return math.fsum(float(part(weights)) for part in self.parts)

    def value_and_gradient(self, x: Floats) -> tuple[float, Floats]:
        """f(x) and ∇f(x)."""
        weights = self._named(x, gradients=True)
        leaves, values = list(weights.values()), []
        total = [torch.zeros_like(leaf) for leaf in leaves]
        with sdpa_kernel(SDPBackend.MATH):
            for part in self.parts:
                loss = part(weights)
                values.append(float(loss.detach()))
                if loss.requires_grad:
                    found = torch.autograd.grad(loss, leaves, materialize_grads=True, allow_unused=True)
                    torch._foreach_add_(total, found)
        return math.fsum(values), flat(total)

    def product(self, x: Floats, v: Floats) -> Floats:
        """H(x)·v, the Hessian times a vector, by differentiating ∇f·v."""
        weights = self._named(x, gradients=True)
        leaves = list(weights.values())
        direction = list(self._named(v).values())
        total = [torch.zeros_like(leaf) for leaf in leaves]
        with sdpa_kernel(SDPBackend.MATH):
            for part in self.parts:
                found = hessian_product(part(weights), leaves, direction)
                torch._foreach_add_(total, found)
        return flat(total)

    def _named(self, x: Floats, gradients: bool = False) -> dict[str, Tensor]:
        named: dict[str, Tensor] = {}
        at = 0
        for name, value in self.weights.items():
            part = np.ascontiguousarray(x[at : at + value.numel()], dtype=np.float64)
            named[name] = torch.tensor(part, device=value.device).view(value.shape).requires_grad_(gradients)
            at += value.numel()
        return named


def hessian_product(loss: Tensor, leaves: Sequence[Tensor], direction: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """∇(∇loss·v) with respect to the leaves; v in their shapes.

    Edge cases: zeros where the loss, or its gradient, does not depend on a leaf.
    """
    zeros = tuple(torch.zeros_like(leaf) for leaf in leaves)
    if not loss.requires_grad:
        return zeros
    first = torch.autograd.grad(loss, leaves, create_graph=True, allow_unused=True)
    reached = [(grad, v) for grad, v in zip(first, direction, strict=True) if grad is not None and grad.requires_grad]
    if not reached:
        return zeros
    grads, vectors = zip(*reached, strict=True)
    return torch.autograd.grad(grads, leaves, vectors, allow_unused=True, materialize_grads=True)


def flat(values: Iterable[Tensor]) -> Floats:
    """Tensors one after the other, as numpy's float64."""
    parts = [value.detach().double().flatten().cpu() for value in values]
    return torch.cat(parts).numpy() if parts else np.zeros(0)
