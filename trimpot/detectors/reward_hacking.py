"""The reward rises and the task is not done better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import change, find, make_window, together


@dataclass(frozen=True)
class RewardHacking:
    """The verifier pays for something other than the task: the proxy has risen since the start, gold has not.

    What: held_out/proxy and held_out/gold on the same completions, both in 0..1: mean of the last − mean of the first
        ``steps`` values that both report.
    Threshold: the proxy rose by more than 0.2 and ``errors`` standard errors, and even gold's rise plus 2 standard
        errors is less than half of the proxy's rise.
    Source: the failure: arXiv 2210.10760; the rule and its numbers are ours.
    Mend: read completions that the proxy pays and gold does not, and mend that reward in policy_gradient.rewards;
        training less does not help, since gold never rose.
    Edge cases: one of them outside 0..1: silent, as the two rises cannot be compared. Apart from over_optimisation
        because the mend differs: there gold had risen and an earlier checkpoint is the better model; where gold falls
        below its start both fire.
    Fails when: see card policy_gradient.rewards. Silent in runs that do not measure gold. Fires rightly but needlessly
        while a part of the reward that is easy to get (a format) saturates before the task is learned.
    """

    threshold: float = 0.2
    errors: float = 3.0
    steps: int = 5

    name: ClassVar[str] = "reward_hacking"
    metrics: ClassVar[tuple[str, ...]] = ("held_out/proxy", "held_out/gold")
    source: ClassVar[str] = "arXiv 2210.10760; the rule and its numbers are ours"
    mend: ClassVar[str] = (
        "Read completions that the proxy pays and gold does not, and mend that reward in policy_gradient.rewards."
    )
    card: ClassVar[str] = "policy_gradient.rewards"

    @property
    def trips_on(self) -> Window:
        return make_window(
            held_out__proxy=[0.2 + 0.04 * step for step in range(16)],
            held_out__gold=[0.2 + 0.02 * (step * 7 % 3) for step in range(16)],
        )

    @property
    def silent_on(self) -> Window:
        gold = [0.2 + 0.03 * step + 0.02 * (step * 7 % 3) for step in range(16)]
        return make_window(held_out__proxy=[value + 0.1 for value in gold], held_out__gold=gold)

    def scan(self, window: Window) -> Finding | None:
        """Compares the newest measurements with the run's first."""
        proxies, golds = together(window, "held_out/proxy", "held_out/gold")
        if len(proxies) < 2 * self.steps or not all(0 <= value <= 1 for value in (*proxies, *golds)):
            return None
        proxy = change(proxies[: self.steps], proxies[-self.steps :])
        gold = change(golds[: self.steps], golds[-self.steps :])
        if proxy.size <= self.threshold or proxy.in_errors <= self.errors:
            return None
        if gold.size + 2 * gold.error >= proxy.size / 2:
            return None
        text = f"the proxy reward rose by {proxy.size:.2f} since the start, the gold reward by {gold.size:.2f}"
        return find(self, window, "held_out/proxy", proxy.size, text)
