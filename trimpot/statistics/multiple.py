"""Many tests at once."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from trimpot.statistics.arrays import Floats, finite_array


def holm(p_values: Iterable[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given; reject where ≤ α to keep the family-wise error at α.

    adjusted_(i) = max_{j ≤ i} min(1, (m − j + 1)·p_(j)), p_(1) ≤ … ≤ p_(m).
    Example: 0.01, 0.04, 0.03: 3·0.01, then 2·0.03, then max(0.06, 1·0.04): 0.03, 0.06, 0.06.

    Raises:
        ValueError: a p-value is NaN or outside [0, 1].
    Edge cases: empty gives an empty list.
    Source: Holm 1979.
    """
    array = _checked(p_values)
    order = np.argsort(array, kind="stable")
    scaled = np.minimum(1.0, array[order] * np.arange(array.size, 0, -1))
    adjusted = np.empty_like(array)
    adjusted[order] = np.maximum.accumulate(scaled)
    return [float(value) for value in adjusted]


def benjamini_hochberg(p_values: Iterable[float]) -> list[float]:
    """Benjamini and Hochberg's adjusted p-values, in the order given; reject where ≤ q.

    Of the rejected ones an expected share of at most q is false (Holm: with probability 1 − α none is).

    adjusted_(i) = min_{j ≥ i} min(1, m·p_(j)/j), p_(1) ≤ … ≤ p_(m).
    Example: 0.01, 0.04, 0.03: 3·0.01/1, 3·0.03/2 = 0.045, 3·0.04/3 = 0.04; so 0.03, 0.04, 0.04.

    Raises:
        ValueError: a p-value is NaN or outside [0, 1].
    Edge cases: empty gives an empty list. The bound holds for independent or positively dependent tests.
    Source: Benjamini and Hochberg 1995; dependence: Benjamini and Yekutieli 2001.
    """
    array = _checked(p_values)
    order = np.argsort(array, kind="stable")
    scaled = np.minimum(1.0, array[order] * array.size / np.arange(1, array.size + 1))
    adjusted = np.empty_like(array)
    adjusted[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return [float(value) for value in adjusted]


def _checked(p_values: Iterable[float]) -> Floats:
    array = finite_array(p_values, "p_values")
    if ((array < 0) | (array > 1)).any():
        raise ValueError("a p-value must lie in [0, 1]")
    return array
