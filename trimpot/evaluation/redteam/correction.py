"""Rates of success: as counted, and corrected for the detector's measured error, with intervals that carry both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimpot.core.stats import Estimate
from trimpot.statistics.arrays import check_probability
from trimpot.statistics.intervals import wilson

DRAWS = 4000
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tries:
    """Decided tries on the prompts of one seed: how many worked, of how many. Undetermined ones are in neither."""

    worked: int
    decided: int


@dataclass(frozen=True)
class Confusion:
    """A detector's counts on labelled answers: ``caught`` of ``positives``, ``cleared`` of ``negatives``."""

    caught: int
    positives: int
    cleared: int
    negatives: int


def counted_rate(groups: Sequence[Tries], seed: int, level: float = 0.95) -> Estimate:
    """p = Σ worked / Σ decided; ``groups`` are independent of each other, the tries of one are not.

    One try per group: the Wilson interval. Else the percentile interval of p over ``DRAWS`` resamples of whole groups:
    five generations of one prompt say little more than one.
    Example: 3 groups of 1 try, 2 worked: 2/3, Wilson [0.208, 0.939].

    Raises:
        ValueError: more worked than decided.
    Edge cases: groups without a decided try are left out; without any the value is None. Where all groups have the
        same share the bootstrap has no width, and the interval is Wilson's over groups. ``n`` is the number of groups.
    Source: Wilson 1927; bootstrap of clusters, Davison and Hinkley 1997 section 3.8; the rule for no spread is ours.
    """
    check_probability(level, "level")
    kept, worked, decided = _arrays(groups)
    if not kept:
        return Estimate(None, None, None, 0, "wilson", level)
    p = float(worked.sum() / decided.sum())
    if decided.max() == 1:
        return wilson(float(worked.sum()), kept, level)
    if np.ptp(worked / decided) == 0:
        flat = wilson(p * kept, kept, level)
        return Estimate(p, flat.low, flat.high, kept, "wilson over prompts", level)
    low, high = np.quantile(_resampled(worked, decided, np.random.default_rng(seed)), _ends(level))
    return Estimate(p, float(low), float(high), kept, "cluster bootstrap", level)


def corrected(p: float, sensitivity: float, specificity: float) -> float | None:
    """θ = (p + Sp − 1) / (Se + Sp − 1), clipped to [0, 1]: the share that truly worked.

    p the share called success, Se = P(called success | success), Sp = P(called failure | failure).
    Example: p = 0.3, Se = 0.9, Sp = 0.8: (0.3 + 0.8 − 1)/(0.9 + 0.8 − 1) = 0.1/0.7 = 0.143.

    Units: shares in [0, 1]; never rounded.
    Edge cases: Se + Sp ≤ 1, a detector that knows nothing or less: None.
    Source: Rogan and Gladen 1978, eq. 1.
    """
    power = sensitivity + specificity - 1
    return None if power <= 0 else float(np.clip((p + specificity - 1) / power, 0.0, 1.0))


def corrected_rate(strata: Sequence[tuple[Sequence[Tries], Confusion]], seed: int, level: float = 0.95) -> Estimate:
    """θ = Σ_d w_d·θ_d over detectors d, θ_d ``corrected`` by its Se and Sp, w_d its share of the decided tries.

    The interval is the percentile interval over ``DRAWS`` joint draws of

    - Se ~ Beta(caught + ½, positives − caught + ½), Sp likewise (Jeffreys), one draw for all groups of a detector;
    - p_d: groups resampled; Beta(worked + ½, decided − worked + ½) where groups have one try each or no spread,

    each turned into θ, so that it is wide where the detector was measured on few answers.
    Example: 20 of 40 tries called success, Se = 45/50, Sp = 40/50: θ = (0.5 + 0.8 − 1)/(0.9 + 0.8 − 1) = 0.429.

    Args:
        strata: for every detector the groups it decided on, and its counts on labelled answers.

    Raises:
        ValueError: more worked than decided.
    Edge cases: nothing decided: value None. A detector without labelled successes or failures, or one with
        Se + Sp ≤ 1: value None. A draw with Se + Sp ≤ 1 says nothing, and counts as 0 at the low end and 1 at the high.
    Source: Rogan and Gladen 1978; the interval by simulation after Lang and Reiczigel 2014, whose coverage argument
        it follows; Jeffreys' prior, Brown, Cai and DasGupta 2001; the draws without knowledge are ours.
    """
    check_probability(level, "level")
    generator = np.random.default_rng(seed)
    told = [(groups, confusion) for groups, confusion in strata if _arrays(groups)[0]]
    total = sum(one.decided for groups, _ in told for one in groups)
    count = sum(_arrays(groups)[0] for groups, _ in told)
    value, lows, highs = 0.0, np.zeros(DRAWS), np.zeros(DRAWS)
    for groups, confusion in told:
        weight = sum(one.decided for one in groups) / total
        point = _point(groups, confusion)
        if point is None:
            return Estimate(None, None, None, count, "corrected", level)
        low, high = _draws(groups, confusion, generator)
        value, lows, highs = value + weight * point, lows + weight * low, highs + weight * high
    if not told:
        return Estimate(None, None, None, 0, "corrected", level)
    first, last = _ends(level)
    low_end, high_end = float(np.quantile(lows, first)), float(np.quantile(highs, last))
    # With few labelled answers the clipped value can lie past the draws' end; an interval holds its value.
    return Estimate(value, min(low_end, value), max(high_end, value), count, "corrected, simulated", level)


def swapped(confusion: Confusion) -> Confusion:
    """The counts of a detector whose failure is what is counted: refusals of benign twins."""
    return Confusion(confusion.cleared, confusion.negatives, confusion.caught, confusion.positives)


def _point(groups: Sequence[Tries], confusion: Confusion) -> float | None:
    if not confusion.positives or not confusion.negatives:
        return None
    _, worked, decided = _arrays(groups)
    sensitivity = confusion.caught / confusion.positives
    return corrected(float(worked.sum() / decided.sum()), sensitivity, confusion.cleared / confusion.negatives)


def _draws(groups: Sequence[Tries], confusion: Confusion, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Draws of θ for the low and for the high end."""
    count, worked, decided = _arrays(groups)
    if decided.max() == 1 or np.ptp(worked / decided) == 0:
        # One Bernoulli per group; groups without spread count as one try each.
        share = float(worked.sum() / decided.sum()) * count
        p = generator.beta(share + 0.5, count - share + 0.5, DRAWS)
    else:
        p = _resampled(worked, decided, generator)
    se = generator.beta(confusion.caught + 0.5, confusion.positives - confusion.caught + 0.5, DRAWS)
    sp = generator.beta(confusion.cleared + 0.5, confusion.negatives - confusion.cleared + 0.5, DRAWS)
    knows = se + sp > 1
    theta = np.clip((p + sp - 1) / np.where(knows, se + sp - 1, 1.0), 0.0, 1.0)
    return np.where(knows, theta, 0.0), np.where(knows, theta, 1.0)


def _resampled(worked: Floats, decided: Floats, generator: np.random.Generator) -> Floats:
    """p of ``DRAWS`` resamples of whole groups."""
    count = worked.size
    times = generator.multinomial(count, np.full(count, 1 / count), size=DRAWS)
    return np.asarray((times @ worked) / (times @ decided), dtype=np.float64)


def _arrays(groups: Sequence[Tries]) -> tuple[int, Floats, Floats]:
    """(number, worked, decided) of the groups with a decided try."""
    for one in groups:
        if not 0 <= one.worked <= one.decided:
            raise ValueError(f"{one.worked} of {one.decided} tries worked; it must lie between 0 and {one.decided}")
    kept = [one for one in groups if one.decided]
    worked = np.array([one.worked for one in kept], dtype=np.float64)
    return len(kept), worked, np.array([one.decided for one in kept], dtype=np.float64)


def _ends(level: float) -> list[float]:
    return [(1 - level) / 2, (1 + level) / 2]
