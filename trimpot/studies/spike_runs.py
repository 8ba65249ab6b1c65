"""A small regression by full-batch Adam, which spikes by itself, with the health of every step.

Shape suffixes: N points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from trimpot.core.seeds import seed_for
from trimpot.probes.curvature.surface import hessian_product
from trimpot.probes.health_sharpness import adam_limit, adam_widths, largest

POINTS, WIDTH = 64, 100
EVERY = 5
"""Steps between two looks at the sharpness, which moves slowly: between them it is taken as it was."""
WATCHED = ("grad_norm", "update_ratio", "sharpness", "adam_sharpness")


def target() -> tuple[Tensor, Tensor]:
    """64 points x of [−π, π] and sin x + sin 4x, [N, 1] each."""
    x_N = torch.linspace(-math.pi, math.pi, POINTS)[:, None]
    return x_N, x_N.sin() + (4 * x_N).sin()


def curves(rate: float, beta2: float, steps: int, seed: int) -> dict[str, list[float]]:
    """Loss and WATCHED at every step of Adam on a network of one hidden layer of 100 tanh units.

    ``sharpness``: λ_max of the Hessian; ``adam_sharpness``: that of P^(−½) H P^(−½), as a share of its limit (see
    SharpnessProbe). Both at the weights before the step, as loss and gradient are, and looked at EVERY steps.
    """
    draw = torch.Generator().manual_seed(seed_for(seed, "weights"))
    shapes = ((WIDTH, 1), (WIDTH,), (1, WIDTH), (1,))
    scales = (1.0, 1.0, 1 / math.sqrt(WIDTH), 0.0)
    weights = [
        (scale * torch.randn(shape, generator=draw)).requires_grad_()
        for shape, scale in zip(shapes, scales, strict=True)
    ]
    optimizer = torch.optim.Adam(weights, lr=rate, betas=(0.9, beta2))
    x_N, y_N = target()
    found: dict[str, list[float]] = {name: [] for name in ("loss", *WATCHED)}
    sharp = (math.nan, math.nan)
    for step in range(steps):
        loss = _loss(weights, x_N, y_N)
        gradients = torch.autograd.grad(loss, weights)
        if step % EVERY == 0:
            sharp = _sharpness(weights, (x_N, y_N), optimizer, rate, step)
        before = [value.detach().clone() for value in weights]
        for value, gradient in zip(weights, gradients, strict=True):
            value.grad = gradient
        optimizer.step()
        change = _norm([value.detach() - old for value, old in zip(weights, before, strict=True)])
        row = (float(loss.detach()), _norm(gradients), change / _norm(before), *sharp)
        for name, number in zip(found, row, strict=True):
            found[name].append(number)
    return found


def _loss(weights: Sequence[Tensor], x_N: Tensor, y_N: Tensor) -> Tensor:
    hidden = torch.addmm(weights[1], x_N, weights[0].T).tanh()
    return (torch.addmm(weights[3], hidden, weights[2].T) - y_N).square().mean()


def _sharpness(
    weights: Sequence[Tensor], data: tuple[Tensor, Tensor], optimizer: torch.optim.Adam, rate: float, step: int
) -> tuple[float, float]:
    def product(v: Sequence[Tensor]) -> Sequence[Tensor]:
        return hessian_product(_loss(weights, *data), weights, v)

    plain = largest(product, weights, 8, seed_for(step, "lanczos"))
    widths = adam_widths(optimizer, weights)
    if plain is None or widths is None:
        return (math.nan if plain is None else plain[0], math.nan)

    def within(v: Sequence[Tensor]) -> list[Tensor]:
        return [
            one * width
            for one, width in zip(product([a * b for a, b in zip(v, widths, strict=True)]), widths, strict=True)
        ]

    adam = largest(within, weights, 8, seed_for(step, "lanczos"))
    return plain[0], math.nan if adam is None else adam[0] / adam_limit(0.9, rate)


def _norm(values: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(value.square().sum()) for value in values))
