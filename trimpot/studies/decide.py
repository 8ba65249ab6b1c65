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
EQUAL_LEVEL = 0.9
"""The interval whose ends are two one-sided tests at 0.05 each."""


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
        margin = study.margins.get(name) if claims[name].direction == "equal" else None
        effect = mean_interval(values[test], LEVEL)
        if margin is None:
            p, word = adjusted.get(test), verdict(effect, adjusted.get(test), claims[name].direction)
        else:
            p, word = equality_p_value(values[test], margin), equality_verdict(values[test], margin)
        if control and not control.passed:
            word = "inconclusive"
        statement, quantity = claims[name].statement, tests[test].words
        tested[name] = ClaimTest(statement, quantity, effect, p, smallest_effect(values[test]), word, margin)
    return tested, control


def verdict(effect: Estimate, p_value: float | None, direction: Direction) -> Verdict:
    """Confirmed or refuted when the adjusted p-value is at most 0.05, by the sign; else inconclusive.

    Edge cases: a claim of equality has no sign: inconclusive.
    """
    if p_value is None or effect.value is None or p_value > 1 - LEVEL or direction == "equal":
        return "inconclusive"
    return "confirmed" if (effect.value > 0) == (direction == "up") else "refuted"


def equality_verdict(values: Sequence[float], margin: float) -> Verdict:
    """Whether the mean is 0 but for ``margin``, which is above 0 and in the units of the values.

    Confirmed when the 90% t interval lies within ±margin, refuted when the 95% interval lies wholly outside it.

    Example: 0.1, 0.2, 0.3 has mean 0.2 and s/√n 0.0577; the 90% interval, t = 2.920, is [0.031, 0.369], the 95% one,
    t = 4.303, [-0.048, 0.448]: confirmed at a margin of 0.4, inconclusive at 0.3.
    Edge cases: fewer than two values: inconclusive.
    Source: Schuirmann 1987; two one-sided tests.
    """
    inner, outer = mean_interval(values, EQUAL_LEVEL), mean_interval(values, LEVEL)
    if inner.low is None or inner.high is None or outer.low is None or outer.high is None:
        return "inconclusive"
    if -margin <= inner.low and inner.high <= margin:
        return "confirmed"
    return "refuted" if outer.low > margin or outer.high < -margin else "inconclusive"


def equality_p_value(values: Sequence[float], margin: float) -> float | None:
    """The larger p-value of two one-sided t tests, that the mean is above −margin and that it is below margin.

    Edge cases: fewer than two values: None. No spread at all: 2^(−n) for a mean within the margin, else 1; see
        ``p_value``.
    """
    n = len(values)
    if n < 2:
        return None
    mean, error = _mean_and_error(values)
    if error == 0:
        return 1.0 if abs(mean) > margin else 2.0**-n
    return float(stats.t.sf((margin - abs(mean)) / error, n - 1))


def p_value(values: Sequence[float]) -> float | None:
    """The two-sided p-value of Student's t for a mean of 0: t = x̄ / (s/√n), n − 1 degrees of freedom.

    Edge cases: fewer than two values: None. No spread at all: 1 for a mean of 0, else 2^(1 − n), as if only
        signs were known, for a normal distribution without spread would claim too much.
    """
    n = len(values)
    if n < 2:
        return None
    mean, error = _mean_and_error(values)
    if error == 0:
        return 1.0 if mean == 0 else 2.0 ** (1 - n)
    return float(2 * stats.t.sf(abs(mean) / error, n - 1))


def smallest_effect(values: Sequence[float]) -> float | None:
    """The true mean that the test finds with probability 0.8: (t_{0.975} + t_{0.8}) · s/√n, n − 1 degrees of freedom.

    Edge cases: fewer than two values, or values without any spread: None.
    Source: the usual approximation with t in place of z, which at five seeds is 1.3 times the normal one; ours.
    """
    n = len(values)
    if n < 2:
        return None
    factor = stats.t.ppf((1 + LEVEL) / 2, n - 1) + stats.t.ppf(POWER, n - 1)
    return float(factor) * _mean_and_error(values)[1] or None


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
