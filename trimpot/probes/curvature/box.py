"""Keskar's sharpness φ: how far the loss rises within a small box around the weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.optimize import Bounds, minimize

from trimpot.core.errors import UsageError
from trimpot.core.progress import Progress, ignore
from trimpot.core.seeds import seed_for
from trimpot.probes.curvature.surface import Floats, Surface

EPSILONS = (1e-3, 5e-4)
"""Half-widths of the box (arXiv 1609.04836, section 2.2.2)."""
DIRECTIONS = 100
"""Columns of A in a random subspace (the same place)."""
SCALE = 100.0
"""What the mean rise over a coordinate of the box is scaled to before the search; see ``box_sharpness``."""
MOST_BYTES = 8 * 2**30
"""The most that a random subspace, or the search in the full space, may hold in memory. Ours."""
VECTORS = 25
"""Vectors of the size of z that L-BFGS-B holds (scipy: 2·10 corrections and 5 more)."""

Evaluate = Callable[[Floats], tuple[float, Floats]]


@dataclass(frozen=True)
class BoxSettings:
    """``epsilon``: half-width of the box. ``directions``: columns of a random A; None: the full space, A = I.
    ``iterations``: of L-BFGS-B. ``starts``: points that it starts from, the first the weights, others random in the
    box. ``seed``: of A and of the random starts.
    """

    epsilon: float = EPSILONS[0]
    directions: int | None = None
    iterations: int = 10
    starts: int = 1
    seed: int = 0


STANDARD = BoxSettings()


@dataclass(frozen=True)
class BoxSharpness:
    """``phi``: percent; at least so much, as the search may miss the highest point. ``loss``: f(x); ``highest``: the
    highest f found in the box; ``size``: weights n; ``passes``: evaluations of f with its gradient.
    """

    phi: float
    loss: float
    highest: float
    epsilon: float
    directions: int | None
    size: int
    passes: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def box_sharpness(
    surface: Surface, settings: BoxSettings = STANDARD, x: Floats | None = None, progress: Progress = ignore
) -> BoxSharpness:
    """Keskar's φ of a surface at x (None: at its own weights).

    Equation: φ = 100 · (max_{z in C} f(x + Az) − f(x)) / (1 + f(x)),
        C = {z: |z_i| ≤ ε·(|(A⁺x)_i| + 1)}. A = I, or n × p with independent standard normal entries; A⁺ is its
        pseudo-inverse. Positive however deep the minimum, as z = 0 is in C.
    How: ``iterations`` steps of scipy's L-BFGS-B on u = z/r in [−1, 1], r the half-widths, with f scaled so that the
        mean |∂f/∂u_i| at the first point is SCALE. Both leave the problem as it is. Without them a step goes only as
        far as the gradient is long: at a minimum of a network of 9832 weights ten of them found 64% of the highest φ
        known (0.110), with them 94%; at a point of large gradients both found 99.9%.
    Units: percent of 1 + f. Where f is below −1 the paper's φ has no meaning.
    Raises:
        UsageError: f(x) is not finite or at most −1; the search does not fit in MOST_BYTES.
    Edge cases: where the gradient at the weights is 0 (to rounding), the search would stay: it then starts at a random
        point of the box. An f that is NaN within the box counts as no rise there.
    Source: arXiv 1609.04836, metric 2.1 and section 2.2.2 (10 iterations; A with 100 random columns). The texts read do
        not say how the entries of A are scaled: standard normal is ours.

    Example: f = 3y² + 2y at x = 0, A = I, ε = 0.5: C = [−0.5, 0.5], the maximum is at 0.5: 0.75 + 1 = 1.75, φ = 175.

        >>> import torch
        >>> surface = Surface.of(lambda w: 3 * w["y"] ** 2 + 2 * w["y"], {"y": torch.tensor(0.0)})
        >>> round(box_sharpness(surface, BoxSettings(epsilon=0.5)).phi, 9)
        175.0
    """
    x = surface.point() if x is None else x
    _refuse_too_large(len(x), settings.directions)
    matrix = None if settings.directions is None else random_directions(len(x), settings.directions, settings.seed)
    base, slope = surface.value_and_gradient(x)
    if not math.isfinite(base) or base <= -1:
        raise UsageError("loss", f"is {base:g}, and sharpness is relative to 1 + loss", "Give a loss above -1.")
    inside = x if matrix is None else np.linalg.lstsq(matrix, x, rcond=None)[0]
    half = settings.epsilon * (np.abs(inside) + 1)
    search = _Search(surface, x, matrix, half, base, progress, settings.starts * (settings.iterations + 2))
    slope_u = half * (slope if matrix is None else matrix.T @ slope)
    draw = np.random.Generator(np.random.PCG64(seed_for(settings.seed, "sharpness", "starts")))
    flat = float(np.abs(slope_u).mean()) <= 1e-12 * (1 + abs(base))
    for number in range(settings.starts):
        begin = np.zeros_like(half) if number == 0 and not flat else draw.uniform(-1, 1, len(half))
        search.climb(begin, settings.iterations)
    highest = base + search.rise
    phi = 100 * search.rise / (1 + base)
    return BoxSharpness(phi, base, highest, settings.epsilon, settings.directions, len(x), search.passes + 1)


def random_directions(size: int, count: int, seed: int) -> Floats:
    """A [size, count] with independent standard normal entries, a function of its arguments."""
    draw = np.random.Generator(np.random.PCG64(seed_for(seed, "sharpness", "directions")))
    return draw.standard_normal((size, count))


def _refuse_too_large(size: int, directions: int | None) -> None:
    needed = size * 8 * (VECTORS if directions is None else directions)
    if needed > MOST_BYTES:
        space = "the full space" if directions is None else f"a subspace of {directions} directions"
        problem = f"a search in {space} of {size} weights takes {needed / 2**30:.0f} GiB"
        raise UsageError("sharpness", problem, "Name a part of the model, such as --part layers.0.mlp.")


class _Search:
    """The climb in u = z/r; keeps the largest rise seen."""

    def __init__(
        self, surface: Surface, x: Floats, matrix: Floats | None, half: Floats, base: float, progress: Progress,
        expected: int,
    ) -> None:  # fmt: skip
        self._surface, self._x, self._matrix, self._half, self._base = surface, x, matrix, half, base
        self._progress, self._expected = progress, expected
        self._factor = 1.0
        self.rise, self.passes = 0.0, 0

    def climb(self, begin: Floats, iterations: int) -> None:
        _, slope = self._rise(begin)
        mean = float(np.abs(slope).mean())
        self._factor = SCALE / mean if mean > 0 and math.isfinite(mean) else 1.0
        bounds, ends = Bounds(-np.ones_like(begin), np.ones_like(begin)), {"maxiter": iterations}
        minimize(self._negative, begin, jac=True, method="L-BFGS-B", bounds=bounds, options=ends)

    def _negative(self, u: Floats) -> tuple[float, Floats]:
        rise, slope = self._rise(u)
        return -self._factor * rise, -self._factor * slope

    def _rise(self, u: Floats) -> tuple[float, Floats]:
        z = self._half * u
        value, gradient = self._surface.value_and_gradient(self._x + (z if self._matrix is None else self._matrix @ z))
        self.passes += 1
        self._progress(self.passes, max(self._expected, self.passes + 1))
        if not math.isfinite(value):
            # The line search must turn back: as low as the start, and flat.
            return 0.0, np.zeros_like(u)
        self.rise = max(self.rise, value - self._base)
        return value - self._base, self._half * (gradient if self._matrix is None else self._matrix.T @ gradient)
