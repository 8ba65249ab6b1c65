"""AdamW, its schedule and gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from trimpot.training.settings import OptimizerSettings


def build_optimizer(parameters: dict[str, Tensor], settings: OptimizerSettings) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; biases and norms (one dimension) get no weight decay."""
    matrices = [value for value in parameters.values() if value.ndim > 1]
    vectors = [value for value in parameters.values() if value.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        fused=True,
    )


def learning_rate(step: int, steps: int, settings: OptimizerSettings) -> float:
    """The learning rate of a step (1-based). The first warm-up step already moves; the last linear step is above 0."""
    warmup = math.ceil(settings.warmup * steps)
    if step <= warmup:
        return settings.learning_rate * step / (warmup + 1)
    progress = (step - 1 - warmup) / max(1, steps - warmup)
    factor = {
        "constant": 1.0,
        "linear": 1.0 - progress,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
    }[settings.schedule]
    return settings.learning_rate * factor


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> float:
    """Scales gradients to a total 2-norm of at most ``max_norm``; returns the norm before scaling (nan if any is)."""
    gradients = [value.grad for value in parameters if value.grad is not None]
    if not gradients:
        return 0.0
    norm = float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g.float()) for g in gradients])))
    if norm > max_norm:
        torch._foreach_mul_(gradients, max_norm / (norm + 1e-6))
    return norm
