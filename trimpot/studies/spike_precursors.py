"""What watched metrics did before the spikes of a loss, against the quiet steps of the same run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np

from trimpot.detectors.loss_spike import LossSpike
from trimpot.detectors.windows import make_window
from trimpot.studies.spike_runs import WATCHED

RECENT, BASE, APART = 5, 50, 60
"""Newest steps that are held against the median of the steps before them; steps that lie between spikes that count, and
between a quiet step and any spike."""
AHEAD = 20
"""Steps before a spike in which a limit may be passed. Ours, like the others: a spike of Adam's takes about ten."""
FALSE_ALARMS = 0.05
"""Share of quiet steps above the threshold that a lead is measured with."""


def flagged(losses: Sequence[float]) -> list[int]:
    """Places of the steps at which the detector of loss spikes speaks, by itself at every step."""
    detector, found = LossSpike(), []
    for place in range(len(losses)):
        # Its baseline is 50 unflagged losses: 400 steps hold them and those that were flagged.
        if detector.scan(make_window(loss=losses[max(0, place - 400) : place + 1])) is not None:
            found.append(place)
    return found


def rises(series: Sequence[float]) -> list[float | None]:
    """At every step ln of the mean of the newest RECENT values over the median of the BASE before them; None before.

    Example: 50 values of 1, then 5 of e: 1.
    """
    found: list[float | None] = []
    for place in range(len(series)):
        low = place - RECENT - BASE + 1
        if low < 0:
            found.append(None)
            continue
        early, late = series[low : low + BASE], series[low + BASE : place + 1]
        centre, mean = median(early), sum(late) / RECENT
        found.append(math.log(mean / centre) if centre > 0 and mean > 0 else None)
    return found


def precursors(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """What each watched metric did before spikes, against quiet steps of the same run.

    ``spikes``: those that no other precedes within APART steps. For every metric NAME: ``NAME_lift``: P(its rise at the
    step before a spike is above that at a quiet step) − ½, ties half; ``NAME_lead``: mean number of steps before the
    alarm from which on its rise stays above the quiet steps' 95% quantile. ``over_limit_before`` and ``_quiet``: the
    share of spikes, and of quiet steps, in whose AHEAD last steps Adam's limit is passed; ``over_limit_lead``: mean
    number of steps before the alarm at which it was passed for the last time, of the spikes before which it was.
    Edge cases: without a spike or a quiet step ``spikes`` alone.
    """
    marked = flagged(found["loss"])
    onsets = [one for at, one in enumerate(marked) if at == 0 or one - marked[at - 1] > APART]
    onsets = [one for one in onsets if one >= RECENT + BASE + AHEAD]
    near = {place for one in marked for place in range(one - APART, one + APART + 1)}
    quiet = [place for place in range(RECENT + BASE + AHEAD, len(found["loss"])) if place not in near]
    result = {"spikes": float(len(onsets))}
    if not onsets or not quiet:
        return result
    for name in WATCHED:
        series = rises(found[name])
        calm = np.array([value for place in quiet if (value := series[place]) is not None])
        before = [value for one in onsets if (value := series[one - 1]) is not None]
        if not len(calm) or not before:
            continue
        above = [float((calm < value).mean() + (calm == value).mean() / 2) for value in before]
        result[f"{name}_lift"] = sum(above) / len(above) - 0.5
        cut = float(np.quantile(calm, 1 - FALSE_ALARMS))
        result[f"{name}_lead"] = sum(_lead(series, one, cut) for one in onsets) / len(onsets)
    for name, places in (("before", onsets), ("quiet", quiet)):
        passed = [max(found["adam_sharpness"][place - AHEAD : place]) > 1 for place in places]
        result[f"over_limit_{name}"] = sum(passed) / len(passed)
    leads = [lead for one in onsets if (lead := _since_limit(found["adam_sharpness"], one))]
    if leads:
        result["over_limit_lead"] = sum(leads) / len(leads)
    return result


def _since_limit(ratios: Sequence[float], onset: int) -> int:
    """Steps from where the ratio last rose above 1 to the onset; 0 where it is above 1 in none of the AHEAD before."""
    place = next((place for place in range(onset - 1, onset - AHEAD - 1, -1) if ratios[place] > 1), None)
    if place is None:
        return 0
    while place > 0 and ratios[place - 1] > 1:
        place -= 1
    return onset - place


def _lead(series: Sequence[float | None], onset: int, cut: float) -> int:
    lead = 0
    while lead < onset and (value := series[onset - 1 - lead]) is not None and value > cut:
        lead += 1
    return lead
