"""What the live probe of the noise scale costs: SFT steps that it looks at against the steps between them.

Every second step is looked at, in one process, on the same rows, so both kinds are measured under the same load. One
look costs the difference of the medians; the value is that cost by the probe's own interval, as a share of a step.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.measure import Clock, peak_memory

FULL: dict[str, Any] = {"model": "smollm2-135m", "batch": 8, "lengths": (64, 256), "looks": 3}
"""Rows of 64 tokens are one micro-batch a step, a quarter of which runs twice; of 256 they are several."""
QUICK: dict[str, Any] = {**FULL, "batch": 4, "looks": 1}


@dataclass(frozen=True)
class Same:
    """A source that gives the same samples in every step."""

    samples: tuple[Any, ...]

    steps_per_draw = 1

    def draw(self, step: int, _carried: Any) -> Any:
        from trimpot.core.samples import Draw

        return Draw(self.samples)


def run(peer: str, model: str, batch: int, lengths: Sequence[int], looks: int) -> dict[str, Any]:
    """The share of a run's time that the probe takes at its own interval; the larger of all lengths of rows."""
    from trimpot.models.allocator import keep_freed_memory
    from trimpot.models.load import load

    keep_freed_memory()
    policy = load(model)
    clock = Clock()
    curves = []
    for length in lengths:
        first = len(clock.seconds)
        for _ in _steps(policy, length, batch, 2 * looks + 2):
            clock.tick()
        # The first look and the first plain step touch the memory that later ones use again.
        curves.append({"length": length, **_shares(clock.seconds[first + 2 :])})
    return {
        "value": max(point["share"] for point in curves),
        "seconds": sum(clock.seconds),
        "peak_memory_bytes": peak_memory(),
        "work": {"steps": len(clock.seconds)},
        "details": {"length": curves},
    }


def _steps(policy: Any, length: int, batch: int, steps: int) -> Iterator[Any]:
    from trimpot.core.samples import Branch, Sample
    from trimpot.models.adapters import TrainableSettings, choose_trainable
    from trimpot.objectives import OBJECTIVES
    from trimpot.training.loop import Plan, TrainState, train
    from trimpot.training.settings import LoopSettings, OptimizerSettings

    choose_trainable(policy, TrainableSettings())
    supervised = (False,) * (length // 2) + (True,) * (length - length // 2)
    ids = [tuple(100 + (row * length + place) % 150 for place in range(length)) for row in range(batch)]
    samples = tuple(Sample(str(row), (), (Branch(own, supervised),)) for row, own in enumerate(ids))
    optimizer = OptimizerSettings(warmup=0.0)
    loop = LoopSettings(steps=steps, batch=batch, probes=("noise_scale",), probe_every=2)
    return train(TrainState.new(policy, optimizer), Plan(OBJECTIVES["sft"](), Same(samples), loop, optimizer))


def _shares(seconds: Sequence[float]) -> dict[str, float]:
    """Of steps that are looked at and not in turn, the first of them looked at."""
    from trimpot.probes.noise_scale_live import EVERY

    looked, plain = statistics.median(seconds[::2]), statistics.median(seconds[1::2])
    return {"looked_seconds": looked, "plain_seconds": plain, "share": (looked - plain) / plain / EVERY}
