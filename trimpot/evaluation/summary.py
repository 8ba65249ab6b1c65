"""Outcomes in a table: by task, perturbation and slice how many items, the score with its interval, the statuses."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy import stats

from trimpot.core.stats import Estimate
from trimpot.statistics.intervals import wilson
from trimpot.statistics.paired import paired_difference
from trimpot.store.outcomes import STATUSES, Outcome

ALL = "all"
"""The slice that every item is in."""


@dataclass(frozen=True)
class SummaryRow:
    """The outcomes of a task that share a perturbation and one value of one slice.

    ``items`` are distinct items, ``answers`` all outcomes, ``scored`` those with a score (a parse failure has one: 0).
    ``statuses`` counts the answers by status, with every status there is. ``better`` says which way a score is good.
    """

    task: str
    perturbation: str
    slice: str
    score: Estimate
    items: int
    answers: int
    scored: int
    statuses: Mapping[str, int]
    better: str
    metric_group: str

    def as_dict(self) -> dict[str, Any]:
        """The row as a JSON-able object."""
        return {**asdict(self), "score": asdict(self.score), "statuses": dict(self.statuses)}


def summarise(outcomes: Sequence[Outcome]) -> list[SummaryRow]:
    """A row for every task and perturbation, then one for every value of its slices.

    Edge cases: no outcomes: no rows. Outcomes without a score are counted, and are no part of the mean.
    """
    rows = []
    for (task, perturbation), some in _grouped(outcomes, lambda one: (one.task, one.perturbation)).items():
        rows.append(_row(task, perturbation, ALL, some))
        names = sorted({name for one in some for name in one.slices})
        for name in names:
            values = _grouped([one for one in some if name in one.slices], lambda one, name=name: one.slices[name])
            rows += [_row(task, perturbation, f"{name}={value}", values[value]) for value in sorted(values)]
    return rows


def score_of(outcomes: Sequence[Outcome], level: float = 0.95) -> Estimate:
    """The mean score with an interval that respects clusters: answers to one item, items of one cluster.

    SE = √(C/(C−1)·Σ_c(Σ_{i∈c}(s_i−s̄))²)/n over n scores in C clusters.

    Scores of 0 and 1: Wilson's interval; in clusters with the effective size n* = s̄(1−s̄)/SE²·(t_{n−1}/t_{C−1})² in
    place of n, t Student's quantiles: clusters that agree make fewer observations, and few of them say little of SE. It
    is no more than n (independent items) and no less than n²/Σ_c m_c² with m_c items in cluster c (clusters that agree
    wholly), which it is where all scores are alike and SE says nothing. Other scores: s̄ ± t_{C−1}·SE. Bits per byte
    are of the corpus: s̄ = Σ b_i·s_i / Σ b_i with b_i the text's bytes, and SE that of z_i = s̄ + b_i·(s_i − s̄)/b̄.

    Example: scores 1, 0 of one cluster, 1, 1 of another and 0, 0 of a third: s̄ = 0.5, sums of deviations 0, 1, −1,
    SE = √(3/2·2)/6 = 0.289, s̄(1−s̄)/SE² = 3, (t_5/t_2)² = (2.571/4.303)² = 0.357: 1.07, and n* = 36/(4 + 4 + 4) = 3.
    Edge cases: no scores: None. One cluster: no interval.
    Source: SE: Miller 2024 (arXiv 2411.00640v1) with the usual factor C/(C−1); n*: Korn and Graubard 1998, its bounds
    ours; Wilson 1927 with it: Dean and Pavlou 2015; bytes: the ratio estimator, Cochran 1977.
    """
    scored = [one for one in outcomes if one.score is not None]
    values = [float(one.score) for one in scored if one.score is not None]
    clusters = [one.cluster for one in scored]
    count = len(set(clusters))
    if any(one.better == "lower" for one in scored):
        return paired_difference(
            _by_bytes(values, [len(one.prompt.encode()) for one in scored]), [0.0] * len(values), clusters, level
        )
    binary = all(value in (0.0, 1.0) for value in values)
    if binary and count == len(values):
        return wilson(sum(values), len(values), level)
    estimate = paired_difference(values, [0.0] * len(values), clusters, level)
    return _clustered_wilson(estimate, list(Counter(clusters).values())) if binary and count > 1 else estimate


def _clustered_wilson(estimate: Estimate, sizes: Sequence[int]) -> Estimate:
    """A clustered t interval of a proportion, by Wilson's formula with the effective size; see score_of."""
    assert estimate.value is not None
    assert estimate.high is not None
    p, upper, n = estimate.value, (1 + estimate.level) / 2, sum(sizes)
    t_clusters, t_items = (float(stats.t.ppf(upper, count - 1)) for count in (len(sizes), n))
    error = (estimate.high - p) / t_clusters
    least = n * n / sum(size * size for size in sizes)
    if p in (0.0, 1.0):
        size = least
    else:
        size = n if error == 0 else p * (1 - p) / error**2 * (t_items / t_clusters) ** 2
        size = min(max(size, least), n)
    z = float(stats.norm.ppf(upper))
    shrink = 1 + z * z / size
    centre = (p + z * z / (2 * size)) / shrink
    half = z * math.sqrt(p * (1 - p) / size + z * z / (4 * size * size)) / shrink
    low, high = (0.0 if p == 0 else centre - half), (1.0 if p == 1 else centre + half)
    return Estimate(p, low, high, estimate.n, "wilson, clustered", estimate.level)


def _by_bytes(values: Sequence[float], sizes: Sequence[int]) -> list[float]:
    """Values whose plain mean is the mean by bytes, and whose spread is that mean's."""
    mean = sum(value * size for value, size in zip(values, sizes, strict=True)) / sum(sizes)
    average = sum(sizes) / len(sizes)
    return [mean + size * (value - mean) / average for value, size in zip(values, sizes, strict=True)]


def _row(task: str, perturbation: str, slice_: str, outcomes: Sequence[Outcome]) -> SummaryRow:
    counts = Counter(one.status for one in outcomes)
    return SummaryRow(
        task=task,
        perturbation=perturbation,
        slice=slice_,
        score=score_of(outcomes),
        items=len({one.item for one in outcomes}),
        answers=len(outcomes),
        scored=sum(one.score is not None for one in outcomes),
        statuses={status: counts[status] for status in STATUSES},
        better=outcomes[0].better,
        metric_group=outcomes[0].metric_group,
    )


def _grouped(outcomes: Iterable[Outcome], key: Any) -> dict[Any, list[Outcome]]:
    found: dict[Any, list[Outcome]] = {}
    for one in outcomes:
        found.setdefault(key(one), []).append(one)
    return found
