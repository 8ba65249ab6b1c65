"""The live probe of sharpness: the largest eigenvalue of the Hessian against what the learning rate allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from trimpot.core.seeds import seed_for

EVERY = 100
"""Steps between two looks: a look takes 4·ITERATIONS passes over a micro-batch. Ours."""
ITERATIONS = 10
STEP = 3e-4
"""Length of the step of a difference, relative to 1 + |w|. Ours: in float32, where rounding and curvature's own change
weigh about the same."""


@runtime_checkable
class NeedsLoss(Protocol):
    """A probe that runs passes of its own over a step's first micro-batch."""

    def use(self, loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer) -> None:
        """Called after ``begin``. ``loss`` runs the micro-batch at the weights as they are and gives its loss with
        gradient; ``optimizer`` is the run's, to be read only.
        """


class SharpnessProbe:
    """λ_max of a micro-batch's loss at the weights before the update, plain and as Adam sees it.

    Equations: gradient descent at rate η diverges along directions with λ > 2/η. Adam with momentum β₁, at a frozen
        preconditioner P, does where the largest eigenvalue of P^(−½) H P^(−½) is above (2 + 2β₁)/((1 − β₁)·η) = 38/η
        at β₁ = 0.9, with P = (1 − β₁ᵗ)·(√(v/(1 − β₂ᵗ)) + ε).
    How: Lanczos with ITERATIONS products Hv = (∇f(w + hv) − ∇f(w − hv))/2h, so fused layers and kernels that cannot be
        differentiated twice serve. Weights are put back bitwise; gradients and random state are not touched.
    Metrics: ``sharpness/lambda_max`` with ``sharpness/residual`` (some eigenvalue lies within it);
        ``sharpness/over_limit``: λ_max·η/2; ``sharpness/adam_lambda_max`` and ``sharpness/adam_over_limit`` likewise.
    Memory: four more copies of what trains. Time: 4·ITERATIONS passes at a look.
    Edge cases: None without a micro-batch, where its loss or a product is not finite, and for Adam before its first
        step. The loss is that of one micro-batch, whose λ_max is above that of all data. Healthy training at full batch
        hovers at the limit (the edge of stability), so a ratio of 1 is no fault.
    Source: arXiv 2103.00065 (2/η); arXiv 2207.14484, section 2 (Adam); differences in place of products: ours.
    """

    def __init__(self, every: int = EVERY, iterations: int = ITERATIONS) -> None:
        self.every = every
        self._iterations = iterations
        self._parameters: Mapping[str, torch.nn.Parameter] = {}
        self._loss: Callable[[], Tensor] | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._found: dict[str, float | None] = {}
        self._step = 0

    def begin(self, step: int, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        self._step, self._parameters, self._loss, self._found = step, parameters, None, {}

    def use(self, loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer) -> None:
        self._loss, self._optimizer = loss, optimizer

    def after_batch(self, samples: int) -> None:
        """Nothing: it runs passes of its own."""

    def before_update(self, learning_rate: float) -> None:
        if self._loss is None:
            return
        values, loss = list(self._parameters.values()), self._loss
        devices = sorted({value.device for value in values if value.is_cuda}, key=str)
        with torch.random.fork_rng(devices=devices), Differences(loss, values) as product:
            found = largest(product, values, self._iterations, seed_for(0, "sharpness", self._step))
            widths = adam_widths(self._optimizer, values)
            adam = None
            if widths is not None:

                def within(v: Sequence[Tensor]) -> list[Tensor]:
                    inner = product([one * width for one, width in zip(v, widths, strict=True)])
                    return [one * width for one, width in zip(inner, widths, strict=True)]

                adam = largest(within, values, self._iterations, seed_for(0, "sharpness", self._step))
        if found is not None:
            self._found = {"lambda_max": found[0], "residual": found[1], "over_limit": found[0] * learning_rate / 2}
        if adam is not None and self._optimizer is not None:
            limit = adam_limit(self._optimizer.param_groups[0]["betas"][0], learning_rate)
            self._found.update({"adam_lambda_max": adam[0], "adam_over_limit": adam[0] / limit})
        self._loss = None

    def after_update(self) -> Mapping[str, float | None]:
        names = ("lambda_max", "residual", "over_limit", "adam_lambda_max", "adam_over_limit")
        return {f"sharpness/{name}": self._found.get(name) for name in names}


class Differences:
    """v ↦ H·v at the weights, by central differences of the gradient, within the ``with`` block that puts them back.

    Error: relative to |Hv| about rounding·|∇f|/(h·|Hv|) + h²·(third derivatives).
    """

    def __init__(self, loss: Callable[[], Tensor], values: Sequence[Tensor]) -> None:
        self._loss, self._values = loss, values
        self._kept: list[Tensor] = []

    def __enter__(self) -> Differences:
        self._kept = [value.detach().clone() for value in self._values]
        self._length = STEP * (1 + float(_norm(self._kept)))
        return self

    def __exit__(self, *_: object) -> None:
        with torch.no_grad():
            for value, kept in zip(self._values, self._kept, strict=True):
                value.copy_(kept)
        self._kept = []

    def __call__(self, v: Sequence[Tensor]) -> list[Tensor]:
        norm = float(_norm(v))
        if not norm > 0 or not math.isfinite(norm):
            return [torch.zeros_like(one) for one in v]
        h = self._length / norm
        upper, lower = self._gradient(v, h), self._gradient(v, -h)
        return [(high - low) / (2 * h) for high, low in zip(upper, lower, strict=True)]

    def _gradient(self, v: Sequence[Tensor], h: float) -> tuple[Tensor, ...]:
        with torch.no_grad():
            for value, kept, one in zip(self._values, self._kept, v, strict=True):
                torch.add(kept, one, alpha=h, out=value.data)
        with torch.enable_grad():
            return torch.autograd.grad(self._loss(), list(self._values), allow_unused=True, materialize_grads=True)


def largest(
    product: Callable[[Sequence[Tensor]], Sequence[Tensor]], like: Sequence[Tensor], iterations: int, seed: int
) -> tuple[float, float] | None:
    """The largest eigenvalue of a symmetric matrix and its residual, by Lanczos without reorthogonalisation.

    Equation: β_{k+1}·q_{k+1} = A·q_k − α_k·q_k − β_k·q_{k−1}; the largest eigenvalue θ of the tridiagonal matrix of α
        and β is at most λ_max, and some eigenvalue lies within β_{K+1}·|s_K| of it, s being θ's eigenvector.
    Memory: three vectors. Copies of eigenvalues, which lost orthogonality makes, leave the largest where it is.
    Edge cases: None where a product is not finite; a zero matrix gives (0, 0).
    Source: Lanczos 1950; residual bound: Parlett, The Symmetric Eigenvalue Problem, section 13.2.
    """
    draw = torch.Generator().manual_seed(seed)
    q = [torch.randn(one.shape, generator=draw).to(one) for one in like]
    q = _scaled(q, 1 / float(_norm(q)))
    before: list[Tensor] | None = None
    alphas: list[float] = []
    betas: list[float] = []
    for _ in range(iterations):
        r = list(product(q))
        alpha = sum(float(torch.dot(a.flatten(), b.flatten())) for a, b in zip(r, q, strict=True))
        r = [a - alpha * b for a, b in zip(r, q, strict=True)]
        if before is not None:
            r = [a - betas[-1] * b for a, b in zip(r, before, strict=True)]
        beta = float(_norm(r))
        if not math.isfinite(alpha) or not math.isfinite(beta):
            return None
        alphas.append(alpha)
        betas.append(beta)
        if beta <= 1e-7 * max(abs(one) for one in (*alphas, *betas, 1e-30)):
            break
        before, q = q, _scaled(r, 1 / beta)
    matrix = np.diag(alphas) + np.diag(betas[:-1], 1) + np.diag(betas[:-1], -1)
    values, vectors = np.linalg.eigh(matrix)
    return float(values[-1]), float(betas[-1] * abs(vectors[-1, -1]))


def adam_limit(momentum: float, learning_rate: float) -> float:
    """The largest eigenvalue of P^(−½) H P^(−½) that Adam with this momentum stands: (2 + 2β₁)/((1 − β₁)·η).

    Example: β₁ = 0.9, η = 0.1: 3.8/0.01 = 380. Source: arXiv 2207.14484, section 2.
    """
    return (2 + 2 * momentum) / ((1 - momentum) * learning_rate)


def adam_widths(optimizer: Any, values: Sequence[Tensor]) -> list[Tensor] | None:
    """P^(−½) of every parameter, with its own factor of the learning rate; None before Adam's first step.

    Equation, shapes: see SharpnessProbe; the shapes of ``values``.
    """
    groups = {id(value): group for group in getattr(optimizer, "param_groups", ()) for value in group["params"]}
    widths = []
    for value in values:
        group, state = groups.get(id(value)), {} if optimizer is None else optimizer.state.get(value, {})
        steps = float(state.get("step", 0))
        if group is None or "exp_avg_sq" not in state or steps < 1:
            return None
        first, second = group["betas"]
        root = (state["exp_avg_sq"] / (1 - second**steps)).sqrt() + group["eps"]
        widths.append((group.get("factor", 1.0) / ((1 - first**steps) * root)).sqrt())
    return widths


def _norm(values: Sequence[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(value).double() for value in values]))


def _scaled(values: Sequence[Tensor], factor: float) -> list[Tensor]:
    return [value * factor for value in values]
