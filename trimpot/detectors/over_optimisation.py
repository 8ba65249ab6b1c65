"""The proxy reward rises while what it stands for falls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import find, make_window, third_changes, together


@dataclass(frozen=True)
class OverOptimisation:
    """The policy goes on gaining proxy reward and loses gold reward: it is past the best model of the run.

    What: held_out/gold (the trusted verifier's mean) and held_out/proxy (the trained-on reward's mean on the same
        completions), each as mean of the last − mean of the first third of the newest 3·``steps``, 6·``steps``, …
        values that both report.
    Threshold: in one such window gold falls by more than 3 standard errors of the difference and proxy rises by more
        than as many.
    Source: the failure and its law: arXiv 2210.10760; the rule and the 3 standard errors are ours.
    Mend: keep the checkpoint at which gold was highest; raise policy_gradient.kl, stop at fewer policy_gradient.steps,
        or judge by an ensemble (policy_gradient.combine: worst).
    Edge cases: only steps that report both count; the scales of gold and proxy need not agree. Standard errors take
        the steps as independent.
    Fails when: see card grpo.kl. Silent in runs that do not measure gold. A fall that is small beside the
        noise between steps needs a longer window. reward_hacking sees a gold reward that never rose.
    """

    threshold: float = 3.0
    steps: int = 5

    name: ClassVar[str] = "over_optimisation"
    metrics: ClassVar[tuple[str, ...]] = ("held_out/gold", "held_out/proxy")
    source: ClassVar[str] = "arXiv 2210.10760; the rule is ours"
    mend: ClassVar[str] = (
        "Keep the checkpoint with the highest gold reward; raise policy_gradient.kl, lower policy_gradient.steps, or "
        "judge by an ensemble (policy_gradient.combine: worst)."
    )
    card: ClassVar[str] = "grpo.kl"

    @property
    def trips_on(self) -> Window:
        rising = [0.2 + 0.02 * step + 0.01 * (step * 7 % 3) for step in range(24)]
        gold = [0.2 + 0.02 * step for step in range(8)] + [0.36 - 0.015 * step for step in range(16)]
        return make_window(held_out__gold=gold, held_out__proxy=rising)

    @property
    def silent_on(self) -> Window:
        noise = [0.03 * (step * 7 % 5) for step in range(24)]
        gold = [0.2 + 0.015 * step + noise[step] for step in range(24)]
        return make_window(held_out__gold=gold, held_out__proxy=[value + 0.05 for value in gold])

    def scan(self, window: Window) -> Finding | None:
        """Looks at windows that end at the newest step."""
        columns = together(window, "held_out/gold", "held_out/proxy")
        for gold, proxy in third_changes(columns, self.steps):
            if -gold.in_errors > self.threshold and proxy.in_errors > self.threshold:
                text = (
                    f"gold reward fell from {gold.early:.3g} to {gold.late:.3g} while the proxy rose from "
                    f"{proxy.early:.3g} to {proxy.late:.3g}"
                )
                return find(self, window, "held_out/gold", -gold.in_errors, text)
        return None
