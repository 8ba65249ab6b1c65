"""From the runs' numbers to verdicts, by the rule written before the runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from scipy import stats

from trimpot.core.stats import Estimate
from trimpot.knobs.evidence import ClaimTest, Control, Results, Verdict
from trimpot.knobs.schema import Claim, Direction
from trimpot.statistics.intervals import mean_interval
from trimpot.statistics.multiple import holm
from trimpot.studies.measures import Measure
from trimpot.studies.study import Budget, Study

LEVEL, CONTROL_LEVEL, POWER = 0.95, 0.99, 0.8


def decide(
    study: Study, budget: Budget, results: Results, seeds: Sequence[int], claims: Mapping[str, Claim]
) -> tuple[dict[str, ClaimTest], Control | None]:
    """The verdict on every claim whose test the budget runs, and the control."""
    control = _control(study, budget, results, seeds)
    tests = study.tests_of(budget)
    values = {name: _values(test, budget, results, seeds) for name, test in tests.items()}
    p_values = {name: p for name in tests if (p := p_value(values[name])) is not None}
    adjusted = dict(zip(p_values, holm(p_values.values()), strict=True))
    tested = {}
    for name, test in study.claims.items():
        if test not in tests:
            continue
        effect, p = mean_interval(values[test], LEVEL), adjusted.get(test)
        word = "inconclusive" if control and not control.passed else verdict(effect, p, claims[name].direction)
        tested[name] = ClaimTest(
            claims[name].statement, tests[test].words, effect, p, smallest_effect(values[test]), word
        )  # fmt: skip
    return tested, control


def verdict(effect: Estimate, p_value: float | None, direction: Direction) -> Verdict:
    """Confirmed or refuted when the adjusted p-value is at most 0.05, by the sign; else inconclusive."""
    if p_value is None or effect.value is None or p_value > 1 - LEVEL:
        return "inconclusive"
    return "confirmed" if (effect.value > 0) == (direction == "up") else "refuted"


def p_value(values: Sequence[float]) -> float | None:
    """The two-sided p-value of Student's t for a mean of 0: t = x̄ / (s/√n), n − 1 degrees of freedom.

    Edge cases: fewer than two values: None. No spread at all: 1 for a mean of 0, else 0.
    """
    n = len(values)
    if n < 2:
        return None
    mean, error = _mean_and_error(values)
    if error == 0:
        return float(mean == 0)
    return float(2 * stats.t.sf(abs(mean) / error, n - 1))


def smallest_effect(values: Sequence[float]) -> float | None:
    """The true mean that the test finds with probability 0.8: (t_{0.975} + t_{0.8}) · s/√n, n − 1 degrees of freedom.

    Edge cases: fewer than two values: None.
    Source: the usual approximation with t in place of z, which at five seeds is 1.3 times the normal one; ours.
    """
    n = len(values)
    if n < 2:
        return None
    factor = stats.t.ppf((1 + LEVEL) / 2, n - 1) + stats.t.ppf(POWER, n - 1)
    return float(factor) * _mean_and_error(values)[1]


def _control(study: Study, budget: Budget, results: Results, seeds: Sequence[int]) -> Control | None:
    if study.control is None or not study.control.applies(budget.arms):
        return None
    effect = mean_interval(_values(study.control, budget, results, seeds), CONTROL_LEVEL)
    return Control(study.control.words, effect, not effect.excludes(0.0))


def _values(test: Measure, budget: Budget, results: Results, seeds: Sequence[int]) -> list[float]:
    found = []
    for seed in seeds:
        metrics = {arm: by_seed[str(seed)] for arm, by_seed in results.items() if str(seed) in by_seed}
        value = test.value(budget.arms, metrics)
        if value is not None:
            found.append(value)
    return found


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    mean = math.fsum(values) / len(values)
    spread = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, math.sqrt(spread / len(values))
