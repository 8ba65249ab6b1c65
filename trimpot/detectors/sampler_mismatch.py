"""Sampler and trainer disagree about the log-probs of the same tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import find, latest_mean, make_window

DIFFERENCE = "sampling/sampling_logp_difference/mean"


@dataclass(frozen=True)
class SamplerMismatch:
    """Sampler and trainer give the sampled tokens different log-probs: the importance ratio is wrong from the start.

    What: mean over the last ``steps`` steps of sampling/sampling_logp_difference/mean: mean |log π_trainer −
        log π_sampler| of the sampled tokens before the first update on them, in nats (TRL's name and definition).
    Threshold: above 0.02.
    Source: NeMo-RL docs/guides/grpo.md at 001759a9acf0: mean exp|Δ| past 1–2% over 1 is a fault; as exp(x) − 1 ≥ x,
        a mean |Δ| of 0.02 is past 2%. Other published cuts are on other scales: KL < 0.01 (tinker), KL < 1e-3
        (NeMo-RL), mean |Δ probability| < 0.005 (verl); on this metric axolotl calls < 0.1 healthy.
    Mend: sample and train with one precision, temperature and attention; else correct the ratio and mask what is too
        far off (policy_gradient.importance).
    Edge cases: trimpot's own engine runs the trainer's forward pass: rounding alone, far below the cut.
    Fails when: see card policy_gradient.importance. Blind to a mismatch in few tokens, which a mean hides. With other
        weights in the sampler it fires beside stale_rollouts, which names the cause.
    """

    threshold: float = 0.02
    steps: int = 3

    name: ClassVar[str] = "sampler_mismatch"
    metrics: ClassVar[tuple[str, ...]] = (DIFFERENCE,)
    source: ClassVar[str] = (
        "NeMo-RL docs/guides/grpo.md at 001759a9acf0 (1–2%), read on TRL's metric; the window is ours"
    )
    mend: ClassVar[str] = (
        "Sample and train with one precision, temperature and attention; else correct the ratio and mask what is too "
        "far off (policy_gradient.importance)."
    )
    card: ClassVar[str] = "policy_gradient.importance"

    @property
    def trips_on(self) -> Window:
        return make_window(sampling__sampling_logp_difference__mean=[0.01, 0.02, 0.03, 0.03, 0.04])

    @property
    def silent_on(self) -> Window:
        return make_window(sampling__sampling_logp_difference__mean=[0.001, 0.04, 0.002, 0.004, 0.003])

    def scan(self, window: Window) -> Finding | None:
        """Looks at the mean of the newest steps."""
        value = latest_mean(window, DIFFERENCE, self.steps)
        if value is None or value <= self.threshold:
            return None
        return find(self, window, DIFFERENCE, value, f"sampler and trainer differ by {value:.3g} nats per token")
