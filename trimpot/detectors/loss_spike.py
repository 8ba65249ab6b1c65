"""The loss jumps, or stops being a number."""

from __future__ import annotations

import math
from bisect import insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import find, first, follows_reward, is_finite, make_window, mean, newest, reported

MARGINS = ("rewards/margins", "margin")


@dataclass(frozen=True)
class LossSpike:
    """The loss jumps far above its recent level, or the loss or gradient norm is NaN or infinite.

    What: z = (loss − median) / max(1.4826·MAD, 0.01·median) over the last 50 earlier finite losses that were
        not flagged themselves; MAD is the median of |loss − median|. Upward only.
    Threshold: z > 6 and loss ≥ 2·median, with at least 8 earlier steps; in a run that reports margins of pairs
        (rewards/margins, a reward model's margin) also a loss of at least half of the run's first 8; NaN or infinity
        at once.
    Source: factor 2: axolotl ("jumps by 2–10x"); z > 6, the baseline of 50 steps and the half: ours.
    Mend: look at the rows of this step in batches.jsonl; lower learning_rate, lengthen warmup or lower max_grad_norm.
    Edge cases: flagged steps never enter the baseline, so a level that stays high stays flagged. In a run with
        a ``reward`` and no rewards/margins (online preferences have both) the policy-gradient loss has no level (it
        lies around 0), and only NaN and infinity count.
        A baseline median ≤ 0: likewise.
    Fails when: see card optimizer.learning_rate. Blind to a slow rise (each step is judged by the last 50). Fires on
        healthy pair losses of few pairs, where one hard pair makes a batch: simulated over 60 steps whose margins grow
        to a mean of 4 with standard deviation 2, in 14% of 300 runs of 8 pairs a step, and in none of 64 pairs; at a
        mean margin of 8 in 1 and in none.
    """

    threshold: float = 6.0
    factor: float = 2.0
    of_start: float = 0.5
    baseline: int = 50
    at_least: int = 8

    name: ClassVar[str] = "loss_spike"
    metrics: ClassVar[tuple[str, ...]] = ("loss", "grad_norm", "reward", *MARGINS)
    source: ClassVar[str] = (
        "ours (robust z over 50 steps); factor 2: axolotl docs/training_stability.qmd at 674650dab80b"
    )
    mend: ClassVar[str] = (
        "Look at this step's rows in batches.jsonl; lower the stage's learning_rate, lengthen its warmup or lower "
        "max_grad_norm."
    )
    card: ClassVar[str] = "optimizer.learning_rate"

    @property
    def trips_on(self) -> Window:
        return make_window(loss=[2.0, 2.1, 1.9, 2.0, 1.8, 1.9, 2.0, 1.8, 1.9, 1.8, 9.0])

    @property
    def silent_on(self) -> Window:
        return make_window(
            loss=[3.0, 2.6, 2.4, 2.1, 2.0, 1.8, 1.9, 1.7, 1.8, 1.6, 1.7, 1.5, 1.9, 1.6, 0.4, 1.6],
            grad_norm=[4.0, 3.0, 2.0, 2.0, 1.5, 1.0, 1.2, 9.0, 1.0, 1.1, 0.9, 1.0, 1.1, 1.0, 1.0, 1.0],
        )

    def scan(self, window: Window) -> Finding | None:
        """Looks at the newest step's loss and gradient norm."""
        for metric in ("loss", "grad_norm"):
            value = newest(window, metric)
            if value is not None and not math.isfinite(value):
                return find(self, window, metric, None, f"{metric} is {value}")
        if not is_finite(newest(window, "loss")) or follows_reward(window):
            return None
        jump = self._jump([value for value in window["loss"] if is_finite(value)])
        if jump is None:
            return None
        loss, median, z = jump
        # Near 0 one hard pair multiplies a batch's mean.
        start = mean(first(window, "loss", self.at_least))
        if any(reported(window, name) for name in MARGINS) and loss < self.of_start * start:
            return None
        text = f"loss {loss:.4g} is {loss / median:.1f} times the median {median:.4g} of the steps before (z = {z:.1f})"
        return find(self, window, "loss", loss, text)

    def _jump(self, losses: Sequence[float]) -> tuple[float, float, float] | None:
        """(loss, median, z) when the newest loss is flagged. Replays the flags, since they shape the baseline."""
        recent: deque[float] = deque()
        ordered: list[float] = []
        jump = None
        for loss in losses:
            jump = self._judge(loss, ordered)
            if jump is not None:
                continue
            recent.append(loss)
            insort(ordered, loss)
            if len(recent) > self.baseline:
                ordered.remove(recent.popleft())
        return jump

    def _judge(self, loss: float, ordered: list[float]) -> tuple[float, float, float] | None:
        """(loss, median, z) when a loss stands out from the sorted losses before it."""
        if len(ordered) < self.at_least:
            return None
        median = _median(ordered)
        if median <= 0 or loss < self.factor * median:
            return None
        deviation = _median(sorted(abs(value - median) for value in ordered))
        # 1.4826·MAD estimates the standard deviation of normal data; the floor keeps a flat baseline usable.
        z = (loss - median) / max(1.4826 * deviation, 0.01 * median)
        return (loss, median, z) if z > self.threshold else None


def _median(ordered: Sequence[float]) -> float:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
