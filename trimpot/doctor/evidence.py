"""How strong a finding is: how bad, how far over its threshold, for how long, how often such a detector is wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from trimpot.core.findings import Detector, Finding
from trimpot.core.stats import Estimate
from trimpot.detectors.rates import rates_of
from trimpot.doctor.checks import VOID
from trimpot.statistics.intervals import wilson

NOT_MEASURED = 0.5
"""The trust in a detector whose false-alarm rate was never measured with its present thresholds."""
BASELINE = 50
"""loss_spike's findings carry the loss, which is held against the median of so many losses before."""


@dataclass(frozen=True)
class Evidence:
    """The four parts of a finding's rank, each between 0 and 1, and the false-alarm rate behind ``trust``.

    severity: 1/3 wasteful, 2/3 damaged, 1 void. excess: |value − threshold|/(|value − threshold| + |threshold|) of
    the worst step: 1/2 at a threshold that is passed by its own size, 1 where the threshold is exact (0) or the value
    is no number; None where value and threshold are not of one scale. lasting: share of the rows since the first at
    which the detector fired. trust: 1 − the upper end of the false-alarm rate's 95% interval (Wilson), measured on
    clean runs; 1/2 where there is none.

    score = severity · trust · (excess + lasting)/2; without an excess severity · trust · lasting.

    Edge cases: it orders the findings of one run, and is no probability.

    Example: damaged, 0.6 where 0.3 is the threshold, at 10 of 20 rows, no false alarm in 180 runs (upper end 0.021):
    2/3 · 0.979 · (0.5 + 0.5)/2 = 0.326.

    Source: ours.
    """

    severity: float
    excess: float | None
    lasting: float
    trust: float
    false_alarm: Estimate | None

    @property
    def score(self) -> float:
        over = self.lasting if self.excess is None else (self.excess + self.lasting) / 2
        return self.severity * self.trust * over


def evidence_of(
    detector: Detector, severity: int, found: Sequence[Finding], rows: int, series: Sequence[float | None], place: int
) -> Evidence:
    """The evidence of a detector's findings in one log.

    ``found`` holds its findings at every row; ``rows`` is how many rows there are from the first of them on; ``series``
    is the metric of the worst, and ``place`` that row.
    """
    rate = false_alarm(detector.name)
    trust = NOT_MEASURED if rate is None or rate.high is None else 1 - rate.high
    over = excess(detector, worst(detector, found), series, place)
    return Evidence(severity / VOID, over, len(found) / rows, trust, rate)


def worst(detector: Detector, found: Sequence[Finding]) -> Finding:
    """The finding that is furthest over its threshold, of equal ones the first; a value that is no number is worst."""
    return max(found, key=lambda one: _distance(detector, one))


def _distance(detector: Detector, finding: Finding) -> float:
    if finding.value is None:
        return math.inf
    if finding.threshold == 0 or finding.detector == "loss_spike":
        return abs(finding.value)
    return abs(_on_scale(detector, finding) - finding.threshold) / abs(finding.threshold)


def _on_scale(detector: Detector, finding: Finding) -> float:
    """The value on the threshold's scale: chosen_logprob_falling carries β times the nats that it holds against it."""
    assert finding.value is not None
    if finding.detector == "chosen_logprob_falling" and finding.metric == "rewards/chosen":
        beta: Any = getattr(detector, "beta", 1.0)
        return -finding.value / float(beta)
    return finding.value


def excess(detector: Detector, finding: Finding, series: Sequence[float | None], place: int) -> float | None:
    """See `Evidence`."""
    if finding.value is None or finding.threshold == 0:
        return 1.0
    if finding.detector == "loss_spike":
        before = [value for value in series[:place] if value is not None and math.isfinite(value)][-BASELINE:]
        factor: Any = getattr(detector, "factor", None)
        if not before or factor is None:
            return None
        threshold = float(factor) * median(before)
        return _share(finding.value, threshold)
    if finding.detector == "chosen_logprob_falling" and finding.metric != "rewards/chosen":
        return None
    return _share(_on_scale(detector, finding), finding.threshold)


def _share(value: float, threshold: float) -> float:
    """How far a value is past its threshold, from 0 to 1; both sides count alike, as some detectors look below."""
    gap = abs(abs(value) - abs(threshold)) if value * threshold < 0 else abs(value - threshold)
    return gap / (gap + abs(threshold))


def false_alarm(detector: str) -> Estimate | None:
    """The share of clean runs in which a detector fired, over all studies that measured it with its present thresholds.

    The labs of one study share its clean runs, which count once. None: never measured.
    """
    clean = {
        str(rate.conditions.get("plan", rate.lab)): (rate.clean_fired, rate.clean_runs)
        for rate in rates_of(detector)
        if rate.is_current
    }
    if not clean:
        return None
    fired, runs = (sum(counts) for counts in zip(*clean.values(), strict=True))
    return wilson(fired, runs) if runs else None
