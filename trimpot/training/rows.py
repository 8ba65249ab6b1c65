"""A fixed set of tokenised rows as a source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trimpot.core.samples import Draw, Sample
from trimpot.core.stats import Stat
from trimpot.data.order import RowSource


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
