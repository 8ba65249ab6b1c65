"""Every pair is told apart without doubt, and nothing is left to learn from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import find, latest_mean, make_window

NAMES = (("rewards/margins", "rewards/accuracies"), ("margin", "accuracy"))
"""Margin and accuracy, of a preference objective and of a reward model; TRL has the same names."""


@dataclass(frozen=True)
class MarginSaturation:
    """The margin of every pair is so large that its loss is gone: more steps only push both answers apart.

    What: means over the last ``steps`` steps of rewards/margins and rewards/accuracies (a reward model's margin and
        accuracy) and of loss.
    Threshold: margin above 10, accuracy 1.0 in every step, and loss below ``loss``.
    Source: trl#1236 (accuracy 1.0, loss 0.0, margins of 13 to 23); loss < 0.01 and the window of 5 steps are ours.
    Mend: stop earlier by a held-out score (preference.steps), lower preference.learning_rate, or use harder pairs; in
        DPO, IPO or label smoothing bounds the margin (preference.objective).
    Edge cases: a loss with a second term (DPO + SFT, ORPO) stays above the cut, and the detector is silent: it
        still learns.
    Fails when: see card dpo.loss. Blind to objectives whose loss does not go to 0 with the margin (IPO),
        and to margins that are divided by length (SimPO).
    """

    threshold: float = 10.0
    loss: float = 0.01
    steps: int = 5

    name: ClassVar[str] = "margin_saturation"
    metrics: ClassVar[tuple[str, ...]] = ("rewards/margins", "rewards/accuracies", "margin", "accuracy", "loss")
    source: ClassVar[str] = "github.com/huggingface/trl/issues/1236; the loss of 0.01 and the window are ours"
    mend: ClassVar[str] = (
        "Stop earlier by a held-out score (steps), lower learning_rate, use harder pairs, or bound the margin by IPO "
        "or label smoothing (preference.objective)."
    )
    card: ClassVar[str] = "dpo.loss"

    @property
    def trips_on(self) -> Window:
        return make_window(
            rewards__margins=[0.0, 2.0, 6.0, 9.0, 11.0, 13.0, 14.0, 15.0, 16.0],
            rewards__accuracies=[0.0, 0.9, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
            loss=[0.69, 0.2, 0.03, 0.01, 0.004, 0.002, 0.001, 0.001, 0.0],
        )

    @property
    def silent_on(self) -> Window:
        return make_window(
            rewards__margins=[0.1, 2.0, 6.0, 9.0, 11.0, 13.0, 12.0, 14.0, 13.0],
            rewards__accuracies=[0.8, 0.9, 1.0, 0.95, 1.0, 1.0, 0.95, 1.0, 1.0],
            loss=[0.69, 0.4, 0.3, 0.31, 0.29, 0.3, 0.31, 0.28, 0.3],
        )

    def scan(self, window: Window) -> Finding | None:
        """Looks at the means of the newest steps."""
        loss = latest_mean(window, "loss", self.steps)
        for margin_name, accuracy_name in NAMES:
            margin = latest_mean(window, margin_name, self.steps)
            accuracy = latest_mean(window, accuracy_name, self.steps)
            if margin is None or accuracy is None or loss is None:
                continue
            if margin > self.threshold and accuracy >= 1 and loss < self.loss:
                text = f"every pair is right by a mean margin of {margin:.1f}, and the loss is {loss:.2g}"
                return find(self, window, margin_name, margin, text)
        return None
