"""Do raters agree? Cohen's and Fleiss's κ, Krippendorff's α, and who confuses what."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from scipy import stats

from trimpot.core.stats import Estimate
from trimpot.statistics.arrays import Floats, check_probability

Label = Hashable

# Legend of shapes: N items, L labels.


def cohen_kappa(first: Iterable[Label], second: Iterable[Label], level: float = 0.95) -> Estimate:
    """Agreement of two raters beyond chance: κ = (p_o − p_e)/(1 − p_e), with the large-sample interval.

    p_ij share of items that the first rater labels i and the second j, p_i. and p_.j the raters' own shares;
    p_o = Σ_i p_ii, p_e = Σ_i p_i.·p_.i. κ ± z·√V,
    V = {Σ_i p_ii[(1 − p_e) − (p_i. + p_.i)(1 − p_o)]² + (1 − p_o)² Σ_{i≠j} p_ij(p_.i + p_j.)²
    − (p_o p_e − 2p_e + p_o)²} / (n(1 − p_e)⁴).
    Example: 25 agree on yes, 15 on no, of 50 (yes/no 5, no/yes 5): p_o = 0.8, p_e = 0.6² + 0.4² = 0.52,
    κ = 0.28/0.48 = 0.583.

    Shapes: first, second [N]. Bounds are cut to [−1, 1].
    Raises:
        ValueError: lengths differ.
    Edge cases: no items: None. Both raters give all items one and the same label: p_e = 1, κ None. All items agree:
        κ = 1 without an interval, as V = 0 would claim certainty.
    Source: Cohen 1960; the variance: Fleiss, Cohen and Everitt 1969, eq. 13.
    """
    check_probability(level, "level")
    a, b = list(first), list(second)
    if len(a) != len(b):
        raise ValueError(f"paired labels need equal lengths, not {len(a)} and {len(b)}")
    n, method = len(a), "cohen, large sample"
    _, table = confusion(a, b)
    if n == 0:
        return Estimate(None, None, None, 0, method, level)
    p = table / n
    rows, columns, agreed = p.sum(axis=1), p.sum(axis=0), np.diag(p)
    observed, expected = float(agreed.sum()), float(rows @ columns)
    if 1 - expected < 1e-12:
        return Estimate(None, None, None, n, method, level)
    kappa = (observed - expected) / (1 - expected)
    if observed > 1 - 1e-12:
        return Estimate(1.0, None, None, n, method, level)
    on = float(agreed @ ((1 - expected) - (rows + columns) * (1 - observed)) ** 2)
    sums = (columns[:, None] + rows[None, :]) ** 2 * p
    off = (1 - observed) ** 2 * float(sums.sum() - np.diag(sums).sum())
    variance = (on + off - (observed * expected - 2 * expected + observed) ** 2) / (n * (1 - expected) ** 4)
    half = float(stats.norm.ppf((1 + level) / 2)) * math.sqrt(max(variance, 0.0))
    return Estimate(kappa, max(kappa - half, -1.0), min(kappa + half, 1.0), n, method, level)


def fleiss_kappa(ratings: Sequence[Sequence[Label]], level: float = 0.95) -> Estimate:
    """Agreement of m ratings of every item beyond chance: κ = (P̄ − P_e)/(1 − P_e), interval by the jackknife.

    n_ij ratings of item i that say j: P_i = (Σ_j n_ij² − m)/(m(m − 1)), P̄ their mean, P_e = Σ_j (Σ_i n_ij/(Nm))².
    The interval is κ ± t·SE with N − 1 degrees of freedom, SE² = (N − 1)/N · Σ_i (κ_(i) − κ̄_(·))², κ_(i) being κ
    without item i: it counts items as the units, and does not assume κ = 0, as Fleiss's own error does.
    Example: (a, a, a), (a, b, b): P = 1, 1/3; P̄ = 2/3, P_e = (4/6)² + (2/6)² = 5/9, κ = (1/9)/(4/9) = 0.25.

    Shapes: ratings [N][m]; who gave which plays no part. ``n`` is N.
    Raises:
        ValueError: items with different numbers of ratings (``krippendorff_alpha`` takes those), or fewer than two.
    Edge cases: no items, or all ratings alike (P_e = 1): None. All items agree within: 1, without an interval. Without
        an item P_e = 1: no interval. Bounds are cut to [−1, 1].
    Source: Fleiss 1971; Efron and Stein 1981 (jackknife).
    """
    check_probability(level, "level")
    sizes = {len(item) for item in ratings}
    if len(sizes) > 1:
        raise ValueError(f"items have between {min(sizes)} and {max(sizes)} ratings: use krippendorff_alpha")
    if sizes and min(sizes) < 2:
        raise ValueError("agreement needs at least two ratings of an item")
    counts = _counts(ratings)
    n, m = counts.shape[0], max(sizes, default=0)
    if n == 0:
        return Estimate(None, None, None, 0, "fleiss, jackknife", level)
    agreement = ((counts**2).sum(axis=1) - m) / (m * (m - 1))
    totals = counts.sum(axis=0)
    value = _beyond_chance(agreement.mean(), ((totals / (n * m)) ** 2).sum())
    without: Floats | None = None
    if n > 1:
        chance = (((totals - counts) / ((n - 1) * m)) ** 2).sum(axis=1)
        without = _beyond_chances((agreement.sum() - agreement) / (n - 1), chance)
    return _jackknife(value, without, n, "fleiss, jackknife", level)


def krippendorff_alpha(ratings: Sequence[Sequence[Label]], level: float = 0.95) -> Estimate:
    """Agreement beyond chance where items have any number of ratings: α = 1 − D_o/D_e for nominal labels.

    Over items with m_i ≥ 2 ratings, n = Σ m_i of them, n_j those that say j:
    1 − D_o = Σ_i Σ_j n_ij(n_ij − 1)/(m_i − 1) / n and 1 − D_e = Σ_j n_j(n_j − 1)/(n(n − 1)).
    Example: (a, a), (b, b), (a, b): n = 6, 1 − D_o = (2 + 2 + 0)/6 = 2/3, 1 − D_e = (3·2 + 3·2)/30 = 0.4;
    α = 1 − (1/3)/(3/5) = 4/9.

    Shapes: ratings [N][m_i]; missing ratings are left out, items with fewer than two count for nothing. ``n`` is the
    number of items that count. The interval is by the jackknife over items, as for ``fleiss_kappa``.
    Edge cases: nothing that counts, or all ratings alike: None. No disagreement: 1, without an interval.
    Source: Krippendorff 2011, "Computing Krippendorff's alpha-reliability", nominal data.
    """
    check_probability(level, "level")
    counts = _counts([item for item in ratings if len(item) > 1])
    n, method = counts.shape[0], "krippendorff, jackknife"
    if n == 0:
        return Estimate(None, None, None, 0, method, level)
    sizes, totals = counts.sum(axis=1), counts.sum(axis=0)
    agreed = (counts * (counts - 1)).sum(axis=1) / (sizes - 1)
    values = sizes.sum()
    value = _beyond_chance(agreed.sum() / values, (totals * (totals - 1)).sum() / (values * (values - 1)))
    without: Floats | None = None
    if n > 1:
        left, rest = values - sizes, totals - counts
        without = _beyond_chances((agreed.sum() - agreed) / left, (rest * (rest - 1)).sum(axis=1) / (left * (left - 1)))
    return _jackknife(value, without, n, method, level)


def confusion(first: Iterable[Label], second: Iterable[Label]) -> tuple[list[Label], Floats]:
    """(labels, table): table[i, j] items that the first rater labels i and the second j.

    Shapes: first, second [N]; table [L, L]. Labels are sorted by their text.
    Raises:
        ValueError: lengths differ.
    """
    pairs = Counter(zip(first, second, strict=True))
    labels = sorted({label for pair in pairs for label in pair}, key=str)
    number = {label: i for i, label in enumerate(labels)}
    table = np.zeros((len(labels), len(labels)))
    for (a, b), count in pairs.items():
        table[number[a], number[b]] = count
    return labels, table


def _counts(ratings: Sequence[Sequence[Label]]) -> Floats:
    """[N, L]: how many ratings of an item say a label."""
    number = {label: j for j, label in enumerate(dict.fromkeys(label for item in ratings for label in item))}
    counts = np.zeros((len(ratings), len(number)))
    for i, item in enumerate(ratings):
        for label in item:
            counts[i, number[label]] += 1
    return counts


def _beyond_chance(observed: float, expected: float) -> float | None:
    return None if 1 - expected < 1e-12 else float((observed - expected) / (1 - expected))


def _beyond_chances(observed: Floats, expected: Floats) -> Floats | None:
    """None where agreement beyond chance is undefined for one of them."""
    return None if (1 - expected < 1e-12).any() else (observed - expected) / (1 - expected)


def _jackknife(value: float | None, without: Floats | None, n: int, method: str, level: float) -> Estimate:
    if value is None or without is None or value > 1 - 1e-12:
        return Estimate(value, None, None, n, method, level)
    error = math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * error
    if half < 1e-12:
        return Estimate(value, None, None, n, method, level)
    return Estimate(value, max(value - half, -1.0), min(value + half, 1.0), n, method, level)
