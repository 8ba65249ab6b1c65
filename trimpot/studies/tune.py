"""Equal effort: the runs that tune every arm before the counted ones, and the value that each arm keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.studies.study import Budget, Study, Tuning, Values

PREFIX = "tuning: "
"""Opens the names under which the ledger has these runs."""


@dataclass(frozen=True)
class Job:
    """One run of an arm: the name that the ledger has it under, the values it runs with, and its seed."""

    name: str
    arm: str
    values: Values
    seed: int


def tuning_jobs(study: Study, budget: Budget) -> list[Job]:
    """Every tuned arm with every value on every tuning seed, seed by seed; none without tuning."""
    if study.tuning is None:
        return []
    knob = study.tuning.knob
    return [
        Job(_name(arm, study.tuning, value), arm, {**budget.arms[arm], knob: value}, seed)
        for seed in study.tuning_seeds(budget)
        for arm in budget.arms
        if arm not in _twins(study, budget)
        for value in study.tuning.values
    ]


def counted_jobs(budget: Budget, seeds: Sequence[int], tuning: Tuning | None, tuned: Mapping[str, Any]) -> list[Job]:
    """Every arm on every seed, with the value that it was tuned to."""

    def values(arm: str) -> Values:
        return budget.arms[arm] if tuning is None else {**budget.arms[arm], tuning.knob: tuned[arm]["chosen"]}

    return [Job(arm, arm, values(arm), seed) for seed in seeds for arm in budget.arms]


def choose(study: Study, budget: Budget, runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """For every arm the value that it keeps (``chosen``) and, by each value, the mean of the metric (``tried``).

    The second arm of the control has what the first has. A value of which a run failed has the mean None and is not
    chosen; when all failed, the first one is, and the counted runs show what comes of it.

    Raises:
        UsageError: a run did not measure the metric.
    """
    tuning = study.tuning
    if tuning is None:
        return {}
    twins, found = _twins(study, budget), {}
    for arm in budget.arms:
        if arm in twins:
            continue
        means = {value: _mean(study.id, tuning, _name(arm, tuning, value), runs) for value in tuning.values}
        sign = -1 if tuning.lowest else 1
        best = max(means, key=lambda value: -math.inf if (mean := means[value]) is None else sign * mean)
        found[arm] = {"chosen": best, "tried": {f"{value:g}": mean for value, mean in means.items()}}
    return {arm: found[twins.get(arm, arm)] for arm in budget.arms}


def _mean(study: str, tuning: Tuning, name: str, runs: Sequence[Mapping[str, Any]]) -> float | None:
    mine = [run for run in runs if run["arm"] == name]
    if any(run["status"] == "failed" for run in mine):
        return None
    measured = [run["result"]["metrics"] for run in mine]
    lacking = next((metrics for metrics in measured if tuning.metric not in metrics), None)
    if lacking is not None:
        mend = f"Tune on one of {', '.join(sorted(lacking))}."
        raise UsageError(f"study {study}", f"its runs do not measure {tuning.metric!r}, by which they are tuned", mend)
    return math.fsum(metrics[tuning.metric] for metrics in measured) / len(measured)


def _twins(study: Study, budget: Budget) -> dict[str, str]:
    """The arm of the control that differs in nothing from another -> that other one."""
    control = study.control
    return {control.second: control.first} if control is not None and control.applies(budget.arms) else {}


def _name(arm: str, tuning: Tuning, value: float) -> str:
    return f"{PREFIX}{arm}, {tuning.knob}={value:g}"
