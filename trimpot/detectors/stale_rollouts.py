"""Completions were sampled from other weights than those that train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import AXOLOTL, find, is_finite, make_window, newest

MATCH, DIFFERENCE = "sampling/weights_match", "sampling/sampling_logp_difference/mean"


@dataclass(frozen=True)
class StaleRollouts:
    """The sampler has other weights than the trainer: the policy gradient is of completions it would not write.

    What: sampling/weights_match of the newest step: 1.0 when every weight of the sampler at the draw equals the
        trainer's (compared one by one), else 0.0. Where a log lacks it, sampling/sampling_logp_difference/mean (mean
        |Δ log-prob| of the sampled tokens in nats, TRL's name).
    Threshold: weights_match below 1 (exact); else a difference above 1 nat.
    Source: unsloth PR#8701 (rollouts from the wrong weights); 1 nat: axolotl docs/training_stability.qmd at
        674650dab80b ("policy has diverged far from vLLM server weights").
    Mend: load the trainer's weights into the sampler before each draw, or correct for it and mask what is too far off
        (policy_gradient.importance).
    Edge cases: several updates on one draw are no fault: weights are compared at the draw.
    Fails when: see card policy_gradient.importance. Fires rightly but needlessly in asynchronous runs that correct for
        old weights. Weights that match and still differ in log-prob are sampler_mismatch's.
    """

    threshold: float = 1.0

    name: ClassVar[str] = "stale_rollouts"
    metrics: ClassVar[tuple[str, ...]] = (MATCH, DIFFERENCE)
    source: ClassVar[str] = f"github.com/unslothai/unsloth/pull/8701; {AXOLOTL}"
    mend: ClassVar[str] = (
        "Load the trainer's weights into the sampler before each draw, or correct for it and mask what is too far off "
        "(policy_gradient.importance)."
    )
    card: ClassVar[str] = "policy_gradient.importance"

    @property
    def trips_on(self) -> Window:
        return make_window(sampling__weights_match=[1.0, 1.0, 0.0])

    @property
    def silent_on(self) -> Window:
        return make_window(sampling__weights_match=[1.0, 1.0, None, 1.0])

    def scan(self, window: Window) -> Finding | None:
        """Looks at the newest step."""
        matches, difference = newest(window, MATCH), newest(window, DIFFERENCE)
        if is_finite(matches):
            if matches >= self.threshold:
                return None
            return find(
                self, window, MATCH, matches, "completions were sampled from other weights than those that train"
            )
        if not is_finite(difference) or difference <= self.threshold:
            return None
        text = f"sampler and trainer differ by {difference:.2f} nats per token, as with other weights"
        return find(self, window, DIFFERENCE, difference, text)
