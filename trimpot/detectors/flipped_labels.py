"""Chosen and rejected are swapped in a share of the pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import find, first, latest, make_window, mean, reported, standard_error, together

TRUSTED = "held_out/gold_accuracy"
ACCURACIES = ("rewards/accuracies", "accuracy")
NEAR_LN_2 = 0.1
"""A first loss further from ln 2 than this is not that of a coin under a logistic loss."""


@dataclass(frozen=True)
class FlippedLabels:
    """Many pairs have their labels the wrong way round.

    What: h, the mean of held_out/gold_accuracy (accuracy on held-out pairs whose labels are trusted), and t, the mean
        accuracy on the training pairs (rewards/accuracies, a reward model's accuracy), over the last ``steps`` steps
        that report both. A share p of flips makes t = h(1 − p) + (1 − h)p, so that p = (h − t)/(2h − 1).
    Threshold: p above 0.2, |h − t| above ``errors`` standard errors of the paired difference, and |h − 1/2| at
        least ``edge``. Without trusted pairs: no better than a coin, that is, over the last 2·``steps`` of at
        least 3·``steps`` steps t plus 2 standard errors below 0.6 and a mean loss of at least ln 2, in a run whose
        first loss is within 0.1 of ln 2.
    Source: the estimate of p is arithmetic; all cuts are ours.
    Mend: read twenty pairs of preference.data (reward.data), compare with a trusted label, swap or drop; for a known
        share of noise use label smoothing or the robust loss (preference.objective).
    Edge cases: 100% flips leave no trace in the training log: the model learns the opposite equally well, and only
        trusted pairs show it (h near 0, p near 1). 20–40% flips look like hard pairs without them. Near 50% the model
        learns nothing (h near 1/2, so that p is undefined) and the second rule speaks. ln 2 is the loss of a coin in
        logistic losses only: the second rule is silent under losses that do not start there (IPO, hinge, SimPO, CPO,
        ORPO, DPO with SFT).
    Fails when: see card reward.data. Pairs seen in an earlier epoch are memorised, which raises t and hides flips. The
        second rule also fires when the learning rate is far too low, or the pairs differ in nothing.
    """

    threshold: float = 0.2
    edge: float = 0.15
    errors: float = 3.0
    coin: float = 0.6
    steps: int = 10

    name: ClassVar[str] = "flipped_labels"
    metrics: ClassVar[tuple[str, ...]] = (TRUSTED, *ACCURACIES, "loss")
    source: ClassVar[str] = "ours (arithmetic of label noise)"
    mend: ClassVar[str] = (
        "Read twenty pairs of preference.data (reward.data) and swap or drop the wrong ones; for a known share of "
        "noise use label smoothing or the robust loss (preference.objective)."
    )
    card: ClassVar[str] = "reward.data"

    @property
    def trips_on(self) -> Window:
        return make_window(
            held_out__gold_accuracy=[0.5, 0.6, 0.7, *[0.8 + 0.01 * (step % 3) for step in range(12)]],
            accuracy=[0.5, 0.5, 0.6, *[0.6 + 0.05 * (step * 7 % 3) for step in range(12)]],
            loss=[0.69, 0.68, 0.66, *[0.62] * 12],
        )

    @property
    def silent_on(self) -> Window:
        rising = [min(0.5 + 0.04 * step, 0.9) for step in range(15)]
        return make_window(
            held_out__gold_accuracy=rising,
            accuracy=[value + 0.04 * (step * 7 % 3 - 1) for step, value in enumerate(rising)],
            loss=[0.69 - 0.03 * step for step in range(15)],
        )

    def scan(self, window: Window) -> Finding | None:
        """Compares training with trusted pairs; where there are none, with a coin."""
        for name in ACCURACIES:
            finding = self._trusted(window, name) if reported(window, TRUSTED) else self._coin(window, name)
            if finding is not None:
                return finding
        return None

    def _trusted(self, window: Window, name: str) -> Finding | None:
        trusted, training = (values[-self.steps :] for values in together(window, TRUSTED, name))
        if len(trusted) < self.steps:
            return None
        differences = [held - train for held, train in zip(trusted, training, strict=True)]
        held, gap = mean(trusted), mean(differences)
        if abs(held - 0.5) < self.edge or abs(gap) <= self.errors * standard_error(differences):
            return None
        share = gap / (2 * held - 1)
        if share <= self.threshold:
            return None
        text = (
            f"accuracy is {held:.2f} on trusted pairs and {held - gap:.2f} on the training pairs: about "
            f"{min(share, 1.0):.0%} of the labels are flipped"
        )
        return find(self, window, TRUSTED, share, text)

    def _coin(self, window: Window, name: str) -> Finding | None:
        values = latest(window, name, 3 * self.steps)
        losses = latest(window, "loss", 2 * self.steps)
        if len(values) < 3 * self.steps or len(losses) < 2 * self.steps or mean(losses) < math.log(2):
            return None
        start = first(window, "loss", 1)
        if abs(start[0] - math.log(2)) > NEAR_LN_2:
            return None
        recent = values[-2 * self.steps :]
        if mean(recent) + 2 * standard_error(recent) >= self.coin:
            return None
        text = f"accuracy {mean(recent):.2f} and loss {mean(losses):.3f} are those of a coin: the labels may be random"
        return find(self, window, name, mean(recent), text, threshold=self.coin)
