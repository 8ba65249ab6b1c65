"""The gradient is far too large, or not there."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import AXOLOTL, find, follows_reward, latest, make_window


@dataclass(frozen=True)
class GradientNorm:
    """The gradient norm stays in a range where training is unstable, or is exactly 0: the weights are frozen.

    What: median of grad_norm (before clipping) over the last ``steps`` steps; and whether all of them are 0.
    Threshold: above 100; or 0.0 in every one of the ``steps`` steps.
    Source: axolotl docs/training_stability.qmd at 674650dab80b (SFT: healthy 0.1–10, > 100 unstable); three steps:
        its loss watchdog's patience.
    Mend: too large: lower learning_rate, lengthen warmup, lower max_grad_norm. Zero: check that something is trainable
        (trainable) and in the loss.
    Edge cases: NaN and infinity are loss_spike's. A zero gradient is ordinary where advantages cancel (a run with a
        ``reward`` and no rewards/margins; see zero_variance_groups), and is not said there.
    Fails when: see card optimizer.learning_rate. The norm grows with the sums in a loss (sequence log-probs of
        preferences), so that a healthy run of that kind may lie above the cut. axolotl's cut of 10 for GRPO holds for
        token means alone and is not used.
    """

    threshold: float = 100.0
    steps: int = 3

    name: ClassVar[str] = "gradient_norm"
    metrics: ClassVar[tuple[str, ...]] = ("grad_norm", "reward", "rewards/margins")
    source: ClassVar[str] = AXOLOTL
    mend: ClassVar[str] = (
        "Too large: lower learning_rate, lengthen warmup, lower max_grad_norm. Zero: check that something is trainable "
        "and in the loss."
    )
    card: ClassVar[str] = "optimizer.learning_rate"

    @property
    def trips_on(self) -> Window:
        return make_window(grad_norm=[2.0, 5.0, 150.0, 300.0, 240.0])

    @property
    def silent_on(self) -> Window:
        return make_window(grad_norm=[9.0, 4.0, 150.0, 2.0, 0.0, 0.0, 1.0, 1.2, 0.9])

    def scan(self, window: Window) -> Finding | None:
        """Looks at the newest steps."""
        values = latest(window, "grad_norm", self.steps)
        if len(values) < self.steps:
            return None
        value = median(values)
        if value > self.threshold:
            return find(self, window, "grad_norm", value, f"the gradient norm is {value:.3g} before clipping")
        if any(values) or follows_reward(window):
            return None
        text = f"the gradient has been exactly 0 for {self.steps} steps: no weight moves"
        return find(self, window, "grad_norm", 0.0, text, threshold=0.0)
