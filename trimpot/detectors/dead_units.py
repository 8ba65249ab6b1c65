"""Many units of the feed-forward layers do nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import find, latest_mean, make_window


@dataclass(frozen=True)
class DeadUnits:
    """A large share of the feed-forward units stays near 0 at every token of a step.

    What: mean of health/dead_units, the share of units below a thousandth of their layer's root mean square at every
        token, mean over layers, over the last ``looks`` looks of the live probe.
    Threshold: above 0.2.
    Source: ours.
    Mend: lower learning_rate or lengthen warmup (a step that was too large leaves units below zero for good); check the
        initialisation; use a smooth activation.
    Edge cases: a step of few tokens has more units that no token moves: looks of less than about a hundred tokens
        count too many.
    Fails when: see card optimizer.learning_rate. Blind to units that are alike, and in families whose feed-forward
        layers the probe does not know.
    """

    threshold: float = 0.2
    looks: int = 2

    name: ClassVar[str] = "dead_units"
    metrics: ClassVar[tuple[str, ...]] = ("health/dead_units",)
    source: ClassVar[str] = "ours (a fifth of the units)"
    mend: ClassVar[str] = "Lower learning_rate or lengthen warmup; check the initialisation; use a smooth activation."
    card: ClassVar[str] = "optimizer.learning_rate"

    @property
    def trips_on(self) -> Window:
        return make_window(health__dead_units=[0.0, 0.05, None, 0.3, 0.4])

    @property
    def silent_on(self) -> Window:
        return make_window(health__dead_units=[0.0, 0.1, 0.25, None, 0.1, 0.02, 0.0])

    def scan(self, window: Window) -> Finding | None:
        """Looks at the mean of the newest looks."""
        value = latest_mean(window, "health/dead_units", self.looks)
        if value is None or value <= self.threshold:
            return None
        return find(self, window, "health/dead_units", value, f"{value:.0%} of the feed-forward units stay near 0")
