"""The live probe of run health: updates against weights, activations, dead units, attention, gradients, MFU."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import torch

from trimpot.probes.health_compute import measured_peak, step_flops
from trimpot.probes.health_forward import ForwardLook, spread
from trimpot.probes.health_updates import Updates, gradient_norms

EVERY = 10
"""Steps between two looks. Ours; what a look costs: benchmarks/health.py."""


class HealthProbe:
    """Looks into a step: what goes through the layers, and what the update does to the weights.

    Metrics, all under ``health/``; those by layer also as ``…/layer_00`` (gradients and updates also ``…/embedding``,
        ``…/head``, ``…/other``):
        ``update_ratio``: |Δw|/|w| of all that trains, with ``update_ratio_low`` and ``_high``, of groups of layers.
        ``activation_rms``: root mean square of a layer's output, the largest. ``nonfinite_layers``: layers whose
        output held NaN or infinity. ``dead_units``: share of feed-forward units that no token moves.
        ``attention_entropy``: mean over heads, with ``attention_entropy_low``, the lowest head; 0 to 1.
        ``grad_norm``: by layer only (the whole is the loop's ``grad_norm``), before clipping. ``mfu``: share of the
        peak that the model's operations need, of the time from the first pass to the new weights.
    Units: see Updates, ForwardLook, attention_entropy, step_flops.
    Edge cases: None where a step had no pass or no update, and for what the model's family does not show (feed-forward
        layers of another name; attention without a packed plan). Passes without gradient do not count.
    Source: thresholds and forms: the parts. ``peak_flops``: stated; None: measured once, in float32.
    """

    def __init__(self, model: Any, every: int = EVERY, peak_flops: float | None = None) -> None:
        self.every = every
        self._look = ForwardLook(model)
        self._model, self._peak = model, peak_flops
        self._parameters: Mapping[str, torch.nn.Parameter] = {}
        self._norms: dict[str, float] = {}
        self._updates: Updates | None = None
        self._began = 0.0

    def begin(self, step: int, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        if self._peak is None:
            # Before the clock of this step starts.
            device = next(iter(self._model.parameters())).device
            self._peak = measured_peak(str(device), torch.get_num_threads())
        self._parameters, self._norms, self._updates = parameters, {}, None
        self._look.attach()
        self._began = time.perf_counter()

    def after_batch(self, samples: int) -> None:
        """Nothing: hooks see the passes."""

    def before_update(self, learning_rate: float) -> None:
        self._look.detach()
        self._norms = gradient_norms(self._parameters)
        # A gradient that is not finite makes no update.
        if self._norms and all(math.isfinite(norm) for norm in self._norms.values()):
            self._updates = Updates(self._parameters)

    def after_update(self) -> Mapping[str, float | None]:
        seconds = time.perf_counter() - self._began
        ratios = {} if self._updates is None else self._updates.ratios()
        self._updates = None
        entire = ratios.pop("all", None)
        groups = [value for value in ratios.values() if value is not None]
        return {
            "health/update_ratio": entire,
            "health/update_ratio_low": min(groups, default=None),
            "health/update_ratio_high": max(groups, default=None),
            **{f"health/update_ratio/{group}": value for group, value in ratios.items()},
            **{f"health/grad_norm/{group}": value for group, value in self._norms.items()},
            **self._forward(),
            "health/mfu": self._mfu(seconds),
        }

    def _forward(self) -> dict[str, float | None]:
        activations, dead = self._look.activations(), self._look.dead()
        heads = self._look.entropies()
        broken = sum(not math.isfinite(value) for value in activations.values())
        by_layer = {number: float(found.mean()) for number, found in heads.items()}
        return {
            "health/activation_rms": max(activations.values(), default=None),
            "health/nonfinite_layers": float(broken) if activations else None,
            "health/dead_units": sum(dead.values()) / len(dead) if dead else None,
            "health/attention_entropy": sum(by_layer.values()) / len(by_layer) if by_layer else None,
            "health/attention_entropy_low": min((float(found.min()) for found in heads.values()), default=None),
            **spread(activations, "health/activation_rms"),
            **spread(dead, "health/dead_units"),
            **spread(by_layer, "health/attention_entropy"),
        }

    def _mfu(self, seconds: float) -> float | None:
        if not self._look.documents or self._peak is None or seconds <= 0:
            return None
        return step_flops(self._model, self._look.documents) / (seconds * self._peak)


def health(every: int | None, model: Any) -> HealthProbe:
    """The probe as the table of probes builds it; ``every`` None: its own interval."""
    return HealthProbe(model) if every is None else HealthProbe(model, every)
