"""The probes of a run, called as the loop goes: each at the steps that it looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from trimpot.core.tensors import LossOut
from trimpot.probes.step import ComparesBatches, Recalls, StepProbe


class Looks:
    """Calls those probes that look at the step at hand. ``parameters`` are what trains, by name.

    Steps 1, 1 + every, 1 + 2·every, … are looked at. ``past``: the metrics that the run has logged so far, for probes
    that average over looks.
    """

    def __init__(
        self, probes: Sequence[StepProbe], parameters: Mapping[str, Any], past: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        self._probes, self._parameters = tuple(probes), parameters
        self._looking: tuple[StepProbe, ...] = ()
        recalling = [probe for probe in self._probes if isinstance(probe, Recalls)]
        for metrics in past if recalling else ():
            for probe in recalling:
                probe.recall(metrics)

    def begin(self, step: int) -> None:
        """Before the first backward pass of a step: the probes that compare batches begin."""
        self._looking = tuple(probe for probe in self._probes if (step - 1) % probe.every == 0)
        self._begin(step, comparing=True)

    def begin_others(self, step: int) -> None:
        """After the samples that were run by themselves: the other probes begin, and see the step alone."""
        self._begin(step, comparing=False)

    def _begin(self, step: int, comparing: bool) -> None:
        for probe in self._looking:
            if isinstance(probe, ComparesBatches) == comparing:
                probe.begin(step, self._parameters)

    def part_of(self, samples: int) -> int:
        """How many of the samples of a step of one micro-batch must be run by themselves first; 0: none."""
        parts = [probe.part for probe in self._looking if isinstance(probe, ComparesBatches)]
        return min(samples - 1, max(1, round(max(parts) * samples))) if parts and samples > 1 else 0

    def after_part(self, samples: int, share: float) -> None:
        """After the backward pass of the samples that were run by themselves; the others are one call too."""
        for probe in self._looking:
            if isinstance(probe, ComparesBatches):
                probe.weigh(share)
                probe.after_batch(samples)

    def after_batch(self, samples: int, share: float, part: tuple[int, float] = (0, 0.0)) -> None:
        """After the backward pass of a micro-batch, ``part`` samples and share of which had run by themselves."""
        for probe in self._looking:
            if isinstance(probe, ComparesBatches):
                probe.weigh(share - part[1])
                probe.after_batch(samples - part[0])
            else:
                probe.after_batch(samples)

    def before_update(self, learning_rate: float) -> None:
        """Gradients are complete, and summed over processes; not clipped."""
        for probe in self._looking:
            probe.before_update(learning_rate)

    def after_update(self) -> dict[str, float | None]:
        """The metrics of the step; empty where no probe looked."""
        return {name: value for probe in self._looking for name, value in probe.after_update().items()}


def share_of(out: LossOut, counts: Mapping[str, float]) -> float:
    """The share of a micro-batch in what the step's loss is divided by: the mean over terms, by |weight|.

    Example: 30 of a step's 120 target tokens: 0.25. Edge cases: a step without any count: 0.
    """
    parts = [(abs(term.weight), term.count / counts[term.name]) for term in out.terms if counts[term.name]]
    whole = sum(weight for weight, _ in parts)
    return sum(weight * share for weight, share in parts) / whole if whole else 0.0


def run_apart(backward: Callable[[], LossOut], device: torch.device) -> LossOut:
    """Runs passes that the step does not know of: the random state is afterwards what it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        return backward()
