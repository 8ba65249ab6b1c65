"""A step moves the weights far too much, or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import find, is_finite, latest, make_window


@dataclass(frozen=True)
class UpdateRatio:
    """The update of a step is a large part of the weights it is added to, or so small that nothing is learned.

    What: median of health/update_ratio, |Δw|/|w| of all weights that train, over the last ``looks`` looks of the live
        probe; and whether every look so far lies below ``low``.
    Threshold: above 0.1; or below 1e-5 in every look of the run, of which there are ``looks`` at least.
    Source: Karpathy's notes of CS231n, "Ratio of weights:updates" (about 1e-3; much higher or lower is doubtful); both
        cuts, two orders of magnitude to either side, and the looks: ours.
    Mend: too large: lower learning_rate, lengthen warmup. Too small: raise learning_rate threefold; check what trains.
    Edge cases: a schedule that ends at 0 has small updates at its end, which are no fault: the lower cut asks for all
        of them. A rate above 1e-5 at one look silences it for the run. Steps between looks say nothing.
    Fails when: see card optimizer.learning_rate. Adam moves every weight by about the learning rate in its first steps,
        so weights that begin near 0 (LoRA's second factors, biases) have large ratios that are no fault; new, tiny
        models at rates of 3e-3 come near the upper cut.
    """

    threshold: float = 0.1
    low: float = 1e-5
    looks: int = 3

    name: ClassVar[str] = "update_ratio"
    metrics: ClassVar[tuple[str, ...]] = ("health/update_ratio",)
    source: ClassVar[str] = "CS231n notes, Neural Networks part 3 (about 1e-3 is usual); both cuts are ours"
    mend: ClassVar[str] = (
        "Too large: lower learning_rate, lengthen warmup. Too small: raise learning_rate threefold and compare; check "
        "what trains."
    )
    card: ClassVar[str] = "optimizer.learning_rate"

    @property
    def trips_on(self) -> Window:
        return make_window(health__update_ratio=[0.02, 0.05, None, 0.2, 0.3, None, 0.4])

    @property
    def silent_on(self) -> Window:
        return make_window(health__update_ratio=[5e-6, 3e-3, 0.3, None, 2e-3, 1e-3, None, 4e-6, 2e-6, 1e-6])

    def scan(self, window: Window) -> Finding | None:
        """Looks at the newest looks."""
        values = latest(window, "health/update_ratio", self.looks)
        if len(values) < self.looks:
            return None
        value = median(values)
        if value > self.threshold:
            text = f"a step moves the weights by {value:.2g} of their size"
            return find(self, window, "health/update_ratio", value, text)
        highest = max(one for one in window["health/update_ratio"] if is_finite(one))
        if highest >= self.low:
            return None
        text = f"no step so far moved the weights by more than {highest:.2g} of their size"
        return find(self, window, "health/update_ratio", value, text, threshold=self.low)
