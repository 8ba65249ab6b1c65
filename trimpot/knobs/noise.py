"""What differs when nothing differs: the spread of a metric between arms of a study that are one recipe run again.

Arms are one recipe run again when all their knobs are equal but ``order``, which names streams of random numbers only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from trimpot.knobs.evidence import Evidence

ORDER = "order"
"""The knob that names which order of rows and which samples an arm has."""


def repeats(evidence: Evidence, where: Mapping[str, float | str] | None = None) -> dict[str, list[str]]:
    """The arms that repeat one recipe, by the name of the first; a recipe that was run once is left out.

    ``where``: only arms whose knobs have these values.
    """
    recipes: dict[str, list[str]] = {}
    for name, knobs in evidence.arms.items():
        if ORDER in knobs and all(knobs.get(knob) == value for knob, value in (where or {}).items()):
            rest = repr(sorted((knob, value) for knob, value in knobs.items() if knob != ORDER))
            recipes.setdefault(rest, []).append(name)
    return {names[0]: names for names in recipes.values() if len(names) > 1}


def floor(evidence: Evidence, where: Mapping[str, float | str] | None = None) -> dict[str, float]:
    """The standard deviation of every metric between runs of one recipe on one base model.

    s² = Σ (x − x̄)² / Σ (k − 1): x̄ is the mean of the k repeats of a recipe on a seed; sums run over recipes and seeds.

    Units: those of the metric. ``where``: only arms whose knobs have these values, such as one family.
    Edge cases: no arm is repeated: empty. A repeat that failed, or lacks the metric, does not count.
    Source: the pooled estimate of one variance from several samples.
    Example: a recipe that ends at 0.5 and 0.7 on one seed and at 0.6 and 0.6 on another: √((0.02 + 0) / 2) = 0.1.
    """
    squares: dict[str, float] = {}
    freedom: dict[str, int] = {}
    for arms in repeats(evidence, where).values():
        for seed in map(str, evidence.seeds):
            for metric, values in _by_metric(evidence, arms, seed).items():
                if len(values) > 1:
                    mean = math.fsum(values) / len(values)
                    squares[metric] = squares.get(metric, 0.0) + math.fsum((value - mean) ** 2 for value in values)
                    freedom[metric] = freedom.get(metric, 0) + len(values) - 1
    return {metric: math.sqrt(square / freedom[metric]) for metric, square in squares.items()}


def of_mean_difference(deviation: float, seeds: int) -> float:
    """How far the mean difference of two arms over ``seeds`` seeds strays from 0 when nothing differs: s · √(2 / n).

    Units: those of ``deviation``, which is what ``floor`` gives. A standard error, not an interval.
    Raises:
        ValueError: fewer than one seed.
    Example: s = 0.1 over 8 seeds: 0.1 · √(2 / 8) = 0.05.
    """
    if seeds < 1:
        raise ValueError(f"{seeds} seeds: there is no mean")
    return deviation * math.sqrt(2 / seeds)


def _by_metric(evidence: Evidence, arms: Sequence[str], seed: str) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for arm in arms:
        for metric, value in evidence.results.get(arm, {}).get(seed, {}).items():
            values.setdefault(metric, []).append(value)
    return values
