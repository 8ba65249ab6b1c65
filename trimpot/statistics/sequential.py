"""Looking more than once: boundaries that keep the error over all looks (group-sequential, alpha spending)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, stats

from trimpot.statistics.arrays import Floats, check_probability

Spending = Literal["obrien_fleming", "pocock"]
NODES, LEAST, MOST, FARTHEST = 10, 8, 400, 8.5
"""Nodes of each panel of the quadrature, its fewest and most panels, and the farthest boundary (p = 2e-17)."""


def spent(fraction: float, level: float = 0.95, spending: Spending = "obrien_fleming") -> float:
    """The share of the error that may be used up when ``fraction`` of the data is in.

    O'Brien–Fleming type: α(t) = 2·(2 − 2Φ(z_{α/4}/√t)), two-sided, each side 2 − 2Φ(z_{α/4}/√t) of α/2;
    Pocock type: α(t) = α·ln(1 + (e − 1)·t).

    α = 1 − level, z_{α/4} the upper α/4 quantile: Lan and DeMets' one-sided form at α/2, doubled.
    Example: α = 0.05, t = 1: both 0.05; t = 0.5: 0.00305 and 0.0310.

    Units: probability; t in [0, 1].
    Raises:
        ValueError: fraction outside [0, 1], level outside (0, 1), or an unknown spending.
    Source: Lan and DeMets 1983.
    """
    check_probability(level, "level")
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction is {fraction}; it must lie in [0, 1]")
    alpha = 1 - level
    if fraction == 0:
        return 0.0
    if spending == "pocock":
        return alpha * math.log(1 + (math.e - 1) * fraction)
    if spending != "obrien_fleming":
        raise ValueError(f"spending is {spending!r}; it must be obrien_fleming or pocock")
    return float(4 * stats.norm.sf(stats.norm.isf(alpha / 4) / math.sqrt(fraction)))


@dataclass(frozen=True)
class Look:
    """One look. Reject where |z| ≥ ``boundary``, which is where a two-sided p is at most ``p_value``.

    ``fraction`` of the data is in; ``spent`` is the error used up to and including this look.
    """

    fraction: float
    boundary: float
    p_value: float
    spent: float


def boundaries(
    fractions: Sequence[float], level: float = 0.95, spending: Spending = "obrien_fleming"
) -> tuple[Look, ...]:
    """What each look must reach so that the chance of any false alarm over all looks is 1 − level.

    b_k solves P(|Z_1| < b_1, …, |Z_{k−1}| < b_{k−1}, |Z_k| ≥ b_k) = α(t_k) − α(t_{k−1}) under no difference, where
    Z_k are standard normal with correlation √(t_j/t_k).
    Example: fractions 0.2, 0.4, 0.6, 0.8, 1, O'Brien–Fleming: 4.877, 3.357, 2.680, 2.290, 2.031.

    Raises:
        ValueError: no fractions, or they do not rise within (0, 1].
    Edge cases: what is spent must not depend on what was seen, but looks may come at any fraction (Lan and DeMets).
    Source: Lan and DeMets 1983; integration: Armitage, McPherson and Rowe 1969.
    """
    _check(fractions)
    density: _Density | None = None
    looks: list[Look] = []
    used = 0.0
    for position, fraction in enumerate(fractions):
        may = spent(fraction, level, spending)
        boundary = _boundary(density, fraction, may - used)
        following = fractions[position + 1] if position + 1 < len(fractions) else None
        looks.append(Look(fraction, boundary, float(2 * stats.norm.sf(boundary)), may))
        used = may
        if following is not None:
            density = _next_density(density, fraction, boundary, following)
    return tuple(looks)


def crossing_probabilities(
    bounds: Sequence[float], fractions: Sequence[float], drift: float = 0.0
) -> tuple[float, ...]:
    """The probability of crossing ±bounds for the first time at each look.

    Z_k ~ N(drift·√t_k, 1), so ``drift`` is the expected z of the complete data: 0 gives false alarms, else power.
    Example: 2.413 at five equal looks (Pocock's constant): the probabilities add up to 0.05.

    Raises:
        ValueError: lengths differ, a bound is not above 0, or fractions do not rise within (0, 1].
    Source: Armitage, McPherson and Rowe 1969.
    """
    _check(fractions)
    if len(bounds) != len(fractions) or not all(bound > 0 for bound in bounds):
        raise ValueError("each look needs a bound above 0")
    density: _Density | None = None
    found = []
    for position, (bound, fraction) in enumerate(zip(bounds, fractions, strict=True)):
        found.append(_outside(density, fraction, bound, drift))
        if position + 1 < len(fractions):
            density = _next_density(density, fraction, bound, fractions[position + 1], drift)
    return tuple(found)


@dataclass(frozen=True)
class _Density:
    """Of the score S = Z·√t among paths not yet stopped, at the nodes of a quadrature. Shapes: all [nodes]."""

    nodes: Floats
    weighted: Floats
    fraction: float


def _outside(density: _Density | None, fraction: float, bound: float, drift: float = 0.0) -> float:
    """P(not stopped before, |Z| ≥ bound at ``fraction``)."""
    edge = bound * math.sqrt(fraction)
    if density is None:
        shift = drift * math.sqrt(fraction)
        return float(stats.norm.sf(bound - shift) + stats.norm.cdf(-bound - shift))
    step = math.sqrt(fraction - density.fraction)
    centre = density.nodes + drift * (fraction - density.fraction)
    tails = stats.norm.sf((edge - centre) / step) + stats.norm.cdf((-edge - centre) / step)
    return float(density.weighted @ tails)


def _boundary(density: _Density | None, fraction: float, error: float) -> float:
    if _outside(density, fraction, FARTHEST) >= error:
        return FARTHEST
    return float(optimize.brentq(lambda bound: _outside(density, fraction, bound) - error, 1e-6, FARTHEST, xtol=1e-10))


def _next_density(
    density: _Density | None, fraction: float, bound: float, following: float, drift: float = 0.0
) -> _Density:
    edge = min(bound, FARTHEST + abs(drift)) * math.sqrt(fraction)
    # The kernels before and after this look set how fine the quadrature must be.
    finest = min(math.sqrt(fraction - (density.fraction if density else 0.0)), math.sqrt(following - fraction))
    panels = int(min(MOST, max(LEAST, 2 * 2 * edge / finest)))
    x, each = np.polynomial.legendre.leggauss(NODES)
    starts, width = np.linspace(-edge, edge, panels + 1)[:-1], 2 * edge / panels
    nodes = (starts[:, None] + width * (x + 1) / 2).ravel()
    weights = np.tile(each * width / 2, panels)
    if density is None:
        values = stats.norm.pdf(nodes, loc=drift * fraction, scale=math.sqrt(fraction))
    else:
        step = fraction - density.fraction
        gaps = nodes[:, None] - density.nodes[None, :] - drift * step
        values = stats.norm.pdf(gaps, scale=math.sqrt(step)) @ density.weighted
    return _Density(nodes, values * weights, fraction)


def _check(fractions: Sequence[float]) -> None:
    if not fractions:
        raise ValueError("at least one look is needed")
    if not all(low < high for low, high in zip((0.0, *fractions), fractions, strict=False)) or fractions[-1] > 1:
        raise ValueError(f"fractions must rise within (0, 1], not {list(fractions)}")
