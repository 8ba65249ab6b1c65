"""Several steps on one draw: passes over its samples, each cut into minibatches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from trimpot.core.errors import UsageError
from trimpot.core.samples import Draw
from trimpot.core.seeds import stream


class Drawing(Protocol):
    """A source whose every step is a draw of its own."""

    def draw(self, step: int, carried: Mapping[str, float]) -> Draw: ...


class ReusedDraws:
    """Trains ``epochs`` passes of ``minibatches`` steps on every draw of a source.

    Each pass shuffles the draw's samples (a sample is a whole group) by a stream named by draw and pass, and cuts them
    into minibatches whose sizes differ by at most one. The source counts draws, not steps, so that no prompt is passed
    over. Statistics and records of a draw come with its first step.

    Edge cases: fewer samples than minibatches (dynamic sampling) leave steps without samples.
    """

    def __init__(self, source: Drawing, epochs: int, minibatches: int, seed: int) -> None:
        if epochs < 1 or minibatches < 1:
            raise ValueError(f"{epochs} epochs of {minibatches} minibatches: no step")
        self.source, self.minibatches, self.seed = source, minibatches, seed
        self.steps_per_draw = epochs * minibatches
        self._number, self._draw = 0, Draw(())

    def draw(self, step: int, carried: Mapping[str, float]) -> Draw:
        """The samples of one step.

        Raises:
            UsageError: the step is in the middle of a draw that this source did not make, as the weights it was
                sampled from are gone.
        """
        number, place = divmod(step - 1, self.steps_per_draw)
        number += 1
        if place == 0:
            self._number, self._draw = number, self.source.draw(number, carried)
        elif number != self._number:
            problem = f"begins in the middle of a draw of {self.steps_per_draw} steps"
            mend = f"Begin at a step after a multiple of {self.steps_per_draw}."
            raise UsageError(f"step {step}", problem, mend)
        epoch, part = divmod(place, self.minibatches)
        order = list(range(len(self._draw.samples)))
        stream(self.seed, "minibatches", number, epoch).shuffle(order)
        low, high = (len(order) * edge // self.minibatches for edge in (part, part + 1))
        chosen = order[low:high]
        idle = frozenset(position for position, sample in enumerate(chosen) if sample in self._draw.idle)
        samples = tuple(self._draw.samples[sample] for sample in chosen)
        return Draw(samples, idle, self._draw.stats, self._draw.records) if place == 0 else Draw(samples, idle)
