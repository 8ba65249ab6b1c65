"""A verifier raises, times out or gives no number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import find, is_finite, make_window, newest


@dataclass(frozen=True)
class VerifierErrors:
    """A reward function failed on completions: it raised, overran its time, or returned no number or several.

    What: reward/error_rate of the newest step: the share of completions without a score for that reason.
    Threshold: above 0 (exact).
    Source: NeMo-RL PR#3635 (a verifier that returned two scores shifted every later reward).
    Mend: run the verifier on the completion in samples.jsonl that failed and mend it in policy_gradient.rewards, or
        raise policy_gradient.reward_time_limit.
    Edge cases: an answer that cannot be read is no error; it counts in reward/parse_failed_rate. TRL logs no such
        metric.
    Fails when: see card policy_gradient.rewards. Blind to a verifier that returns a wrong number (reward_hacking).
    """

    threshold: float = 0.0

    name: ClassVar[str] = "verifier_errors"
    metrics: ClassVar[tuple[str, ...]] = ("reward/error_rate",)
    source: ClassVar[str] = "github.com/NVIDIA-NeMo/RL/pull/3635"
    mend: ClassVar[str] = (
        "Run the verifier on the completion in samples.jsonl that failed and mend it in policy_gradient.rewards, or "
        "raise policy_gradient.reward_time_limit."
    )
    card: ClassVar[str] = "policy_gradient.rewards"

    @property
    def trips_on(self) -> Window:
        return make_window(reward__error_rate=[0.0, 0.015625])

    @property
    def silent_on(self) -> Window:
        return make_window(reward__error_rate=[0.0, 0.0, None, 0.0])

    def scan(self, window: Window) -> Finding | None:
        """Looks at the newest step."""
        rate = newest(window, "reward/error_rate")
        if not is_finite(rate) or rate <= self.threshold:
            return None
        return find(self, window, "reward/error_rate", rate, f"a reward function failed on {rate:.1%} of completions")
