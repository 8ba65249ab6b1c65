"""The order in which a fixed data set is drawn: a function of seed and step alone."""

from __future__ import annotations

from collections.abc import Sequence

from trimpot.core.samples import Sample
from trimpot.core.seeds import stream


class RowSource:
    """Draws a fixed data set without replacement, shuffled anew in every epoch.

    The k-th row ever drawn is permutation_e[k mod n] with e = k div n: a function of (seed, k) only, so a resumed
    run needs nothing but its step. A batch may straddle two epochs; within an epoch every row is drawn once.

    Args:
        samples: the n rows.
        batch_rows: rows per step.
        seed: of the permutations.

    Raises:
        ValueError: no samples, or a batch of no rows.
    """

    def __init__(self, samples: Sequence[Sample], batch_rows: int, seed: int) -> None:
        if not samples or batch_rows < 1:
            raise ValueError(f"{len(samples)} samples in batches of {batch_rows} rows: nothing to draw")
        self._samples = tuple(samples)
        self._batch_rows = batch_rows
        self._seed = seed
        self._permutations: dict[int, list[int]] = {}

    def draw(self, step: int) -> tuple[Sample, ...]:
        """The samples of a step (0-based)."""
        first = self.rows_seen(step)
        return tuple(self._samples[self._index(k)] for k in range(first, first + self._batch_rows))

    def rows_seen(self, step: int) -> int:
        """Rows drawn before this step."""
        return step * self._batch_rows

    def epoch(self, step: int) -> float:
        """Passes over the data before this step: 1.5 is half-way through the second."""
        return self.rows_seen(step) / len(self._samples)

    def _index(self, k: int) -> int:
        epoch, place = divmod(k, len(self._samples))
        if epoch not in self._permutations:
            order = list(range(len(self._samples)))
            stream(self._seed, "order", epoch).shuffle(order)
            # Only the epochs at hand are kept: a long run would else hold one permutation for each.
            self._permutations = {e: kept for e, kept in self._permutations.items() if e == epoch - 1}
            self._permutations[epoch] = order
        return self._permutations[epoch][place]
