"""trimpot's loop on given samples, for jobs that look at the loop itself: scaling and the profile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class InOrder:
    """A source that gives these samples, so many a step."""

    samples: Sequence[Any]
    batch: int

    steps_per_draw = 1

    def draw(self, step: int, _carried: Any) -> Any:
        from trimpot.core.samples import Draw

        return Draw(tuple(self.samples[(step - 1) * self.batch : step * self.batch]))


def steps_of(policy: Any, samples: Sequence[Any], batch: int) -> Iterator[Any]:
    """Supervised fine-tuning of all weights on the samples in their order; yields after every step."""
    from trimpot.models.adapters import TrainableSettings, choose_trainable
    from trimpot.objectives import OBJECTIVES
    from trimpot.training.loop import Plan, TrainState, train
    from trimpot.training.settings import LoopSettings, OptimizerSettings

    choose_trainable(policy, TrainableSettings())
    optimizer = OptimizerSettings(warmup=0.0)
    loop = LoopSettings(steps=len(samples) // batch, batch=batch)
    return train(TrainState.new(policy, optimizer), Plan(OBJECTIVES["sft"](), InOrder(samples, batch), loop, optimizer))
