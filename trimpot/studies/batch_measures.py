"""What a study measures of a sweep over batch sizes: the hyperbola of steps and examples, and the noise scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from trimpot.statistics.critical_batch import FEWEST_BATCHES, fit_critical_batch
from trimpot.studies.measures import Arms, Metrics, has, select


@dataclass(frozen=True)
class NoiseOverCriticalBatch:
    """ln of a measured noise scale over the critical batch that is fitted to the steps of the arms.

    Example: a noise scale of 40 and steps 500, 200, 125 at 4, 16, 64 (critical batch 16): ln 2.5.
    Edge cases: None where an arm has no steps or the fit is outside its batches' reach (a factor of 100).
    """

    noise: str
    steps: str
    words: str
    where: Mapping[str, float | str] = field(default_factory=dict)

    def applies(self, arms: Arms) -> bool:
        return len({arms[name]["batch"] for name in select(arms, self.where)}) >= FEWEST_BATCHES

    def value(self, arms: Arms, metrics: Metrics) -> float | None:
        names = select(arms, self.where)
        measured = [metrics[name][self.noise] for name in names if self.noise in metrics.get(name, {})]
        if not has(metrics, names, self.steps) or len(measured) != 1 or measured[0] <= 0:
            return None
        batches = [float(arms[name]["batch"]) for name in names]
        critical = fit_critical_batch(batches, [metrics[name][self.steps] for name in names]).critical_batch.value
        if critical is None or not min(batches) / 100 < critical < max(batches) * 100:
            return None
        return math.log(measured[0] / critical)

    def describe(self) -> dict[str, Any]:
        return {"kind": "noise scale over critical batch", **asdict(self)}


@dataclass(frozen=True)
class HyperbolaProduct:
    """ln (S/S_min − 1)(E/E_min − 1) of one arm, S_min and E_min fitted to the steps of the others: 0 on the hyperbola.

    Example: 200 steps at 16, and others from which S_min is 100 and E_min 1600: (200/100 − 1)(3200/1600 − 1) = 1, ln 0.
    Edge cases: None where the arm has fewer steps or examples than the others' asymptotes.
    """

    steps: str
    batch: int
    words: str
    where: Mapping[str, float | str] = field(default_factory=dict)

    def applies(self, arms: Arms) -> bool:
        batches = {arms[name]["batch"] for name in select(arms, self.where)}
        return self.batch in batches and len(batches) > FEWEST_BATCHES

    def value(self, arms: Arms, metrics: Metrics) -> float | None:
        names = select(arms, self.where)
        if not has(metrics, names, self.steps):
            return None
        runs = [(float(arms[name]["batch"]), metrics[name][self.steps]) for name in names]
        others = [run for run in runs if run[0] != self.batch]
        fit = fit_critical_batch([run[0] for run in others], [run[1] for run in others])
        (own,) = (steps for batch, steps in runs if batch == self.batch)
        least = (fit.fewest_steps.value, fit.fewest_examples.value)
        if least[0] is None or least[1] is None:
            return None
        factors = (own / least[0] - 1, own * self.batch / least[1] - 1)
        return math.log(factors[0] * factors[1]) if min(factors) > 0 else None

    def describe(self) -> dict[str, Any]:
        return {"kind": "product on the hyperbola", **asdict(self)}
