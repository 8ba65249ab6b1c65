"""AdamW, its schedule and gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from trimpot.training.settings import OptimizerSettings


def build_optimizer(
    parameters: Mapping[str, Tensor], settings: OptimizerSettings, factors: Mapping[str, float]
) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; biases and norms (one dimension) get no weight decay.

    Parameters whose name begins with a key of ``factors`` learn at that multiple of the learning rate. The moments are
    there from the beginning: AdamW would make them after the first pass, between what that pass left in memory.
    """
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, value in parameters.items():
        factor = next((factor for prefix, factor in factors.items() if name.startswith(prefix)), 1.0)
        groups.setdefault((factor, settings.weight_decay if value.ndim > 1 else 0.0), []).append(value)
    optimizer = torch.optim.AdamW(
        [{"params": values, "weight_decay": decay, "factor": factor} for (factor, decay), values in groups.items()],
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        fused=True,
    )
    for value in parameters.values():
        optimizer.state[value] = {
            "step": torch.zeros((), dtype=torch.float32, device=value.device),
            "exp_avg": torch.zeros_like(value),
            "exp_avg_sq": torch.zeros_like(value),
        }
    return optimizer


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
