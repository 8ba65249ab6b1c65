"""The live probe of the gradient noise scale: a step's micro-batches are its small batches, the step the big one."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

import torch
import torch.distributed as distributed
from torch import Tensor

from trimpot.statistics.noise_scale import Moments, moments_from_squares, noise_scale

EVERY = 10
"""Steps between two looks. A step of one micro-batch runs a quarter of its samples twice when it is looked at: at this
interval about 3% of the time (benchmarks/noise_scale.py)."""
WINDOW = 20
"""Newest looks that are averaged: the noise scale rises as the loss falls, so old ones stop being true. Ours."""
TRACE, SQUARED = "noise_scale/trace", "noise_scale/squared_gradient"


class NoiseScaleProbe:
    """Measures B_simple = S/|G|² from the norms of the gradients of a step's micro-batches and of the whole step.

    Equation: ``statistics.noise_scale.moments_from_parts``; the weight of a micro-batch is its share in what the loss
        is divided by (for SFT: of the target tokens), so packed batches of unequal size count rightly. S and |G|² are
        averaged over the newest WINDOW looks, then divided.
    Metrics: ``noise_scale/squared_gradient`` and ``noise_scale/trace`` of this look; ``noise_scale/simple`` with
        ``noise_scale/low`` and ``noise_scale/high`` (95%) over the looks; ``noise_scale/over_batch``, B_simple as a
        multiple of this step's batch. Units: samples (rows, pairs, groups) of the step.
    Memory: one more gradient, from the first look on.
    Edge cases: None where a step has one sample, no gradient, or one that is not finite; see NoiseScale for B_simple
        and its interval. With LoRA or the last layers alone it is the noise scale of what trains. The gradient is that
        before clipping; what Adam makes of it is not measured.
    Source: arXiv 1812.06162, appendix A.1.
    """

    # With two parts of shares w and 1 − w the spread of a look goes with 1/(w(1 − w)): 15% above that of halves, for
    # half of their cost.
    part = 1 / 4

    def __init__(self, every: int = EVERY, window: int = WINDOW) -> None:
        self.every = every
        self._looks: deque[Moments] = deque(maxlen=window)
        self._parameters: Mapping[str, torch.nn.Parameter] = {}
        self._before: dict[str, Tensor] = {}
        self._sums = [0.0] * 5
        self._share = 0.0
        self._look: Moments | None = None

    def recall(self, metrics: Mapping[str, float | None]) -> None:
        """Takes a look from a logged step."""
        trace, squared = metrics.get(TRACE), metrics.get(SQUARED)
        if trace is not None and squared is not None and math.isfinite(trace) and math.isfinite(squared):
            self._looks.append(Moments(squared, trace))

    def begin(self, step: int, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        self._parameters, self._sums, self._look = parameters, [0.0] * 5, None
        for before in self._before.values():
            before.zero_()

    def weigh(self, share: float) -> None:
        self._share = share

    @torch.no_grad()
    def after_batch(self, samples: int) -> None:
        squares = []
        for name, value in self._parameters.items():
            if value.grad is None:
                continue
            before = self._before.get(name)
            if before is None:
                squares.append(_squared_norm(value.grad))
                self._before[name] = value.grad.detach().clone()
            else:
                squares.append(_squared_norm(before.sub_(value.grad)))
                before.copy_(value.grad)
        own = (float(torch.stack(squares).sum()) if squares else 0.0, self._share, self._share**2, samples, 1.0)
        self._sums = [old + new for old, new in zip(self._sums, own, strict=True)]

    @torch.no_grad()
    def before_update(self, learning_rate: float) -> None:
        squares = [_squared_norm(value.grad) for value in self._parameters.values() if value.grad is not None]
        whole = float(torch.stack(squares).sum()) if squares else 0.0
        parts, share, share_squares, samples, count = _over_processes(self._sums)
        self._sums = [parts, share, share_squares, samples, count]
        if count >= 2 and 0 < share_squares < share**2 and math.isfinite(whole) and math.isfinite(parts) and whole > 0:
            # Idle samples have a share and no gradient: the shares of the others are taken to sum to 1.
            self._look = moments_from_squares(parts, share_squares / share**2, whole, samples)

    def after_update(self) -> Mapping[str, float | None]:
        if self._look is None:
            names = (SQUARED, TRACE, "noise_scale/simple", "noise_scale/low", "noise_scale/high")
            return dict.fromkeys((*names, "noise_scale/over_batch"))
        self._looks.append(self._look)
        simple = noise_scale(tuple(self._looks)).simple
        return {
            SQUARED: self._look.squared_gradient,
            TRACE: self._look.trace,
            "noise_scale/simple": simple.value,
            "noise_scale/low": simple.low,
            "noise_scale/high": simple.high,
            "noise_scale/over_batch": None if simple.value is None else simple.value / self._sums[3],
        }


def _squared_norm(gradient: Tensor) -> Tensor:
    """|g|² in float64 (the sum of a tensor's squares stays in its own width, as in the clipping of gradients)."""
    return torch.linalg.vector_norm(gradient.float()).double() ** 2


def _over_processes(sums: list[float]) -> list[float]:
    """The sums over all processes; one process: as they are."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return sums
    everyone: list[list[float]] = [[] for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(everyone, sums)
    return [sum(column) for column in zip(*everyone, strict=True)]
