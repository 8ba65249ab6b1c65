"""Several samples of an item: does any of k solve it (pass@k), do all of k (pass^k)?"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Literal

import numpy as np
from scipy import special

from trimpot.core.stats import Estimate
from trimpot.statistics.arrays import Floats
from trimpot.statistics.clustered import clustered_difference

Rate = Literal["any", "all"]


def pass_rate_of_items(samples: Iterable[int], right: Iterable[int], k: int, rate: Rate = "any") -> Floats:
    """For each item the unbiased estimate of pass@k ("any") or pass^k ("all").

    pass@k = 1 − C(n−c, k)/C(n, k),  pass^k = C(c, k)/C(n, k)

    n samples of the item, c of them right, C the binomial coefficient: over all sets of k of the n samples, the share
    with at least one right one, or with right ones only.
    Example: n = 4, c = 2, k = 2: 1 − 1/6 = 0.833 and 1/6 = 0.167.

    Shapes: samples, right [items]; result [items] in [0, 1].
    Raises:
        ValueError: lengths differ, c is not in [0, n], or an item has fewer than k samples.
    Source: pass@k: Chen et al. 2021, arXiv 2107.03374 eq. 1; pass^k: Yao et al. 2024, arXiv 2406.12045.
    """
    n, c = np.asarray(list(samples)), np.asarray(list(right))
    if n.shape != c.shape:
        raise ValueError(f"samples and right need equal lengths, not {n.size} and {c.size}")
    if k < 1 or (n < k).any():
        raise ValueError(f"k is {k}; it must lie between 1 and the samples of every item ({n.min() if n.size else 0})")
    if ((c < 0) | (c > n)).any():
        raise ValueError("right must lie between 0 and the samples of the item")
    if rate == "all":
        return np.exp(_log_choose(c, k) - _log_choose(n, k))
    return 1 - np.exp(_log_choose(n - c, k) - _log_choose(n, k))


def pass_rate(
    samples: Iterable[int],
    right: Iterable[int],
    k: int,
    rate: Rate = "any",
    clusters: Sequence[Hashable] | None = None,
) -> Estimate:
    """The mean over items of pass@k or pass^k, with a t interval over items (or clusters of items).

    Example: three items with 1, 2, 2 of 2 right and k = 1: 0.5, 1, 1: mean 0.833.

    Raises:
        ValueError: as ``pass_rate_of_items``.
    Edge cases: no items: None; one item (or cluster): no interval. All items alike: two flips are added, so that the
    interval has a width. The interval is cut at 0 and 1.
    """
    values = pass_rate_of_items(samples, right, k, rate)
    flip = 1.0 if values.size and np.ptp(values) == 0 else None
    found = clustered_difference(values - (values.mean() if flip else 0.0), clusters, flip)
    shift = float(values.mean()) if flip else 0.0
    interval = found.interval()
    if interval.value is None or interval.low is None or interval.high is None:
        value = float(values.mean()) if values.size else None
        return Estimate(value, None, None, interval.n, f"{rate} of {k}, {found.method}")
    low, high = max(0.0, interval.low + shift), min(1.0, interval.high + shift)
    return Estimate(interval.value + shift, low, high, interval.n, f"{rate} of {k}, {found.method}")


def _log_choose(n: Floats, k: int) -> Floats:
    """log C(n, k); −∞ where n < k."""
    n = n.astype(np.float64)
    inside = np.maximum(n, k)
    value = special.gammaln(inside + 1) - special.gammaln(k + 1) - special.gammaln(inside - k + 1)
    return np.where(n < k, -np.inf, value)
