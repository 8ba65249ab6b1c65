"""A fixed set of tokenised rows as a source, and a source that is measured as it is drawn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from trimpot.core.samples import Draw, Sample
from trimpot.core.stats import Stat
from trimpot.data.order import RowSource
from trimpot.training.loop import Source


@dataclass(frozen=True)
class ProbedSource:
    """A source whose draws also report what ``probe`` measures, at the first and then at every ``every``-th step."""

    source: Source
    probe: Callable[[], Mapping[str, Stat]]
    every: int = 1

    @property
    def steps_per_draw(self) -> int:
        return self.source.steps_per_draw

    def draw(self, step: int, carried: Mapping[str, float]) -> Draw:
        draw = self.source.draw(step, carried)
        if (step - 1) % self.every:
            return draw
        return replace(draw, stats={**draw.stats, **self.probe()})


class DatasetSource:
    """Rows in epoch order: every row once an epoch, shuffled anew; a function of seed and step.

    ``stats`` are reported with every draw: what is known of the rows beforehand.
    """

    def __init__(
        self, samples: Sequence[Sample], batch: int, seed: int, stats: Mapping[str, Stat] | None = None
    ) -> None:
        self.stats = dict(stats or {})
        self.order = RowSource(samples, batch, seed)

    steps_per_draw = 1

    def draw(self, step: int, carried: Mapping[str, float]) -> Draw:
        samples = self.order.draw(step - 1)
        return Draw(samples, stats={**self.stats, "epoch": Stat(self.order.epoch(step), 1)})
