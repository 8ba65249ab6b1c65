"""Checks of what goes into a statistic."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def finite_array(values: Iterable[float], name: str) -> Floats:
    """``values`` as a float64 vector.

    Shapes: result [n].
    Raises:
        ValueError: a value is NaN or infinite. A missing score must be left out or counted, never averaged.
    """
    array = np.asarray(list(values), dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name}: a flat list of numbers is needed, not shape {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise ValueError(f"{name}[{bad[0]}] is {array[bad[0]]}: leave missing values out first")
    return array


def equal_length(a: Floats, b: Floats) -> None:
    """Raises ValueError unless both vectors have one length, so that item i of one is item i of the other."""
    if a.size != b.size:
        raise ValueError(f"paired values need equal lengths, not {a.size} and {b.size}")


def check_probability(value: float, name: str) -> None:
    """Raises ValueError unless 0 < value < 1."""
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} is {value}; it must lie between 0 and 1")
