"""The critic predicts returns worse than their mean does."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import find, first, latest, make_window


@dataclass(frozen=True)
class CriticWorseThanConstant:
    """The critic's values explain less of the returns than a constant would: they add noise to the advantages.

    What: median of value/explained_variance = 1 − Var(return − value)/Var(return) over the last ``steps`` steps. The
        median, since one step with nearly equal returns has an arbitrarily negative value.
    Threshold: below -0.05, from ``after`` reported steps on: a critic that has learned nothing yet lies around 0.
    Source: openai/baselines#454 (below 0: worse than predicting nothing); the margin of 0.05 and the windows are ours.
    Mend: raise the critic's learning rate or train it alone first (ppo.critic), scale the returns; or take an objective
        without a critic (policy_gradient.objective: rloo).
    Edge cases: the first ``after`` steps are the critic's warm-up. TRL has no critic any more and logs no such metric.
    Fails when: see card ppo.critic. Blind to a critic that is off by a constant, which explained variance does not see.
    """

    threshold: float = -0.05
    steps: int = 10
    after: int = 20

    name: ClassVar[str] = "critic_worse_than_constant"
    metrics: ClassVar[tuple[str, ...]] = ("value/explained_variance",)
    source: ClassVar[str] = "github.com/openai/baselines/issues/454; the margin and the windows are ours"
    mend: ClassVar[str] = (
        "Raise the critic's learning rate or train it alone first, or take an objective without a critic "
        "(policy_gradient.objective: rloo)."
    )
    card: ClassVar[str] = "ppo.critic"

    @property
    def trips_on(self) -> Window:
        return make_window(value__explained_variance=[-0.3 - 0.1 * (step % 4) for step in range(22)])

    @property
    def silent_on(self) -> Window:
        values = [-9.0 + 0.9 * step for step in range(10)] + [0.1, 0.2, -20.0, 0.3, 0.3, -0.1, 0.4, 0.3, 0.4, 0.5, 0.4]
        return make_window(value__explained_variance=[*values, 0.5])

    def scan(self, window: Window) -> Finding | None:
        """Looks at the median of the newest steps."""
        values = latest(window, "value/explained_variance", self.steps)
        seen = first(window, "value/explained_variance", self.after)
        if len(values) < self.steps or len(seen) < self.after or median(values) >= self.threshold:
            return None
        value = median(values)
        text = f"the critic explains {value:.2f} of the returns' variance; their mean explains 0"
        return find(self, window, "value/explained_variance", value, text)
