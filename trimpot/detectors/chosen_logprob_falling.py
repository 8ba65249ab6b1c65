"""The chosen answers become less likely while the preference margin grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import find, is_finite, latest, latest_mean, make_window, mean, third_changes


@dataclass(frozen=True)
class ChosenLogprobFalling:
    """Likelihood displacement: the margin grows because both answers become unlikely, the rejected one faster.

    What: with a reference, fall = −mean(logratio/chosen), else −mean(rewards/chosen)/β, over the last ``steps``
        steps: both compare the same rows under policy and reference, free of the noise between batches. Without,
        fall = mean of the first − mean of the last third of the last 3·``steps`` values of logps/chosen.
    Threshold: fall > 1 nat per sequence (the chosen answer is e times less likely) and rewards/margins > 0 and
        −rewards/chosen > 0.25·rewards/margins (the chosen answer paid more than a quarter of the margin); without
        a reference fall > 1 nat, fall > 4 standard errors, and the margin rose over the same thirds.
    Source: arXiv 2410.08847 (likelihood displacement), trl#800; the thresholds are ours.
    Mend: add a likelihood term on the chosen answer, raise preference.beta or lower preference.learning_rate, or
        drop pairs whose answers are near copies of each other.
    Edge cases: logs without logratio/chosen (TRL's) are read at beta = ``beta``, which must be the run's own (the
        default is the paper's and TRL's). rewards/chosen in constant proportion to logps/chosen
        has no reference in it (CPO, SimPO, ORPO in TRL), and the second rule holds.
    Fails when: see card dpo.beta. A fall is expected to some degree when SFT was on the chosen answers. The rule
        without a reference takes rows sorted by length for a fall, and needs 3·``steps`` steps; for SimPO and ORPO,
        whose logps/chosen is per token, its cut of 1 nat is far too high. Silent on
        trimpot's KTO, which logs no rewards/margins (TRL's does).
    """

    threshold: float = 1.0
    beta: float = 0.1
    share: float = 0.25
    steps: int = 10
    errors: float = 4.0

    name: ClassVar[str] = "chosen_logprob_falling"
    metrics: ClassVar[tuple[str, ...]] = ("rewards/chosen", "logratio/chosen", "rewards/margins", "logps/chosen")
    source: ClassVar[str] = "arXiv 2410.08847; github.com/huggingface/trl/issues/800; thresholds ours"
    mend: ClassVar[str] = (
        "Add a likelihood term on the chosen answer, raise preference.beta or lower preference.learning_rate, or drop "
        "pairs whose two answers are near copies."
    )
    card: ClassVar[str] = "dpo.beta"

    @property
    def trips_on(self) -> Window:
        falling = [-0.05 * step for step in range(15)]
        return make_window(
            rewards__chosen=falling,
            rewards__margins=[0.06 * step for step in range(15)],
            logps__chosen=[-40.0 + 10 * value + (step * 7 % 5) for step, value in enumerate(falling)],
        )

    @property
    def silent_on(self) -> Window:
        return make_window(
            rewards__chosen=[0.0, -0.02, 0.01, -0.04, 0.02, 0.05, 0.01, 0.06, 0.03, 0.08, -0.02, 0.1, 0.07, 0.12, 0.1],
            rewards__margins=[0.05 * step for step in range(15)],
            logps__chosen=[-40.0 - (step * 7 % 11) for step in range(15)],
        )

    def scan(self, window: Window) -> Finding | None:
        """Looks at the newest steps' chosen reward, or at the chosen log-prob where there is no reference."""
        rewards = latest(window, "rewards/chosen", self.steps)
        if len(rewards) == self.steps and not self._reference_free(window):
            return self._against_reference(window, mean(rewards))
        return self._against_start(window)

    def _against_reference(self, window: Window, reward: float) -> Finding | None:
        margin = latest_mean(window, "rewards/margins", self.steps)
        nats = latest_mean(window, "logratio/chosen", self.steps)
        fall = -reward / self.beta if nats is None else -nats
        if margin is None or margin <= 0 or fall <= self.threshold or -reward <= self.share * margin:
            return None
        assumed = f" (at beta {self.beta:g})" if nats is None else ""
        text = f"chosen answers lost {fall:.3g} nats against the reference{assumed} while the margin is {margin:.3g}"
        return find(self, window, "rewards/chosen", reward, text)

    def _against_start(self, window: Window) -> Finding | None:
        chosen = latest(window, "logps/chosen", 3 * self.steps)
        margins = latest(window, "rewards/margins", 3 * self.steps)
        changes = next(third_changes((chosen, margins), self.steps), None)
        if changes is None:
            return None
        logp, margin = changes
        if margin.size <= 0 or -logp.size <= self.threshold or -logp.in_errors <= self.errors:
            return None
        text = f"the log-prob of chosen answers fell by {-logp.size:.3g} nats while the margin rose"
        return find(self, window, "logps/chosen", logp.late, text)

    def _reference_free(self, window: Window) -> bool:
        """True when the reward is the log-prob times a constant within 1%: no reference is subtracted."""
        pairs = zip(window.get("rewards/chosen", ()), window.get("logps/chosen", ()), strict=False)
        recent = list(pairs)[-self.steps :]
        ratios = [reward / logp for reward, logp in recent if is_finite(reward) and is_finite(logp) and logp]
        if len(ratios) < 2 or min(ratios) <= 0:
            return False
        return max(ratios) <= 1.01 * min(ratios)
