"""The Hessian of a surface through its products with vectors: top eigenvalues and trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from trimpot.core.errors import UsageError
from trimpot.core.progress import Progress, ignore
from trimpot.core.seeds import seed_for
from trimpot.core.stats import Estimate
from trimpot.probes.curvature.surface import Floats, Surface
from trimpot.statistics.intervals import mean_interval

MOST_BYTES = 8 * 2**30
"""The most that Lanczos vectors may take. Ours."""
ENDS = {"largest": "LA", "smallest": "SA", "magnitude": "LM"}

Product = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Eigenvalue:
    """λ and ``residual`` |Hv − λv| of its unit vector: some eigenvalue of H lies within it of λ (H is symmetric)."""

    value: float
    residual: float


@dataclass(frozen=True)
class Spectrum:
    """``eigenvalues``: the wanted ones, largest first. ``products``: Hessian-vector products taken; ``converged``:
    False where fewer were found than asked for within the iterations.
    """

    eigenvalues: tuple[Eigenvalue, ...]
    products: int
    converged: bool

    @property
    def largest(self) -> float | None:
        """λ_max of those found; None where none was."""
        return self.eigenvalues[0].value if self.eigenvalues else None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "largest": self.largest}


@dataclass(frozen=True)
class SpectrumSettings:
    """``count`` eigenvalues at one end: largest (most positive), smallest (most negative) or magnitude.
    ``tolerance``: of a value, relative. ``iterations``: restarts of Lanczos. ``seed``: of its first vector.
    """

    count: int = 1
    which: str = "largest"
    tolerance: float = 1e-4
    iterations: int = 100
    seed: int = 0


STANDARD = SpectrumSettings()


def top_eigenvalues(
    product: Product, size: int, settings: SpectrumSettings = STANDARD, progress: Progress = ignore
) -> Spectrum:
    """The eigenvalues at one end of a symmetric n × n matrix, by restarted Lanczos on its products with vectors.

    Source: ARPACK through scipy.sparse.linalg.eigsh. The first vector is normal, of a named stream.
    Memory: max(2·count + 1, 20) vectors of n float64.
    Raises:
        UsageError: those vectors do not fit in MOST_BYTES; an unknown end.
    Edge cases: n of at most that many vectors: all products are taken and numpy solves it exactly. What has not
        converged is left out.

    Example: the diagonal matrix (3, 1, −5): the largest is 3, that of largest magnitude −5.

        >>> diagonal = np.array([3.0, 1.0, -5.0])
        >>> [round(top_eigenvalues(lambda v: diagonal * v, 3, SpectrumSettings(which=one)).largest, 9) for one in ENDS]
        [3.0, -5.0, -5.0]
    """
    if settings.which not in ENDS:
        raise UsageError("which", f"{settings.which!r} is not an end of the spectrum", f"Known: {', '.join(ENDS)}.")
    kept = max(2 * settings.count + 1, 20)
    if kept * size * 8 > MOST_BYTES:
        problem = f"{kept} vectors of {size} weights take {kept * size * 8 / 2**30:.0f} GiB"
        raise UsageError("Hessian", problem, "Name a part of the model.")
    counted = _Counted(product, progress, size if size <= kept else 2 * kept)
    if size <= kept:
        vectors, values, converged = *_dense(counted, size, settings), True
    else:
        values, vectors, converged = _sparse(counted, size, settings, kept)
    found = [
        Eigenvalue(float(value), float(np.linalg.norm(counted(vector) - value * vector)))
        for value, vector in zip(values, vectors.T, strict=True)
    ]
    return Spectrum(tuple(sorted(found, key=lambda one: -one.value)), counted.done, converged)


def hessian_trace(
    product: Product, size: int, vectors: int = 32, seed: int = 0, progress: Progress = ignore
) -> Estimate:
    """The trace of a symmetric matrix by Hutchinson's estimate, with a t interval over its vectors.

    Equation: tr H = E[vᵀHv] for v of independent signs ±1; variance 2·Σ_{i≠j} H_ij² of each.
    Units: loss per squared weight. ``n`` of the estimate: vectors.
    Edge cases: a diagonal matrix gives its trace at the first vector, and an interval of no width; one vector: no
        interval; none: None.
    Source: Hutchinson 1990; the interval is ours (Student's, so it holds as far as vᵀHv is normal).

    Example: H = [[2, 1], [1, 3]]: v = (1, 1) gives 7, v = (1, −1) gives 3; their mean is the trace 5.
    """
    draw = np.random.Generator(np.random.PCG64(seed_for(seed, "hessian", "trace")))
    values = []
    for done in range(1, vectors + 1):
        v = np.asarray(draw.integers(0, 2, size) * 2 - 1, dtype=np.float64)
        values.append(float(v @ product(v)))
        progress(done, vectors)
    found = mean_interval(values)
    return Estimate(found.value, found.low, found.high, found.n, "Hutchinson, t over vectors of signs", found.level)


def hessian_of(surface: Surface, x: Floats | None = None) -> Product:
    """v ↦ H(x)·v; x None: the surface's own weights."""
    at = surface.point() if x is None else x
    return lambda v: surface.product(at, v)


class _Counted:
    def __init__(self, product: Product, progress: Progress, expected: int) -> None:
        self._product, self._progress, self._expected, self.done = product, progress, expected, 0

    def __call__(self, v: Floats) -> Floats:
        found = self._product(v)
        self.done += 1
        self._progress(self.done, max(self._expected, self.done + 1))
        return found


def _dense(product: Product, size: int, settings: SpectrumSettings) -> tuple[Floats, Floats]:
    """(vectors as columns, values) at the wanted end."""
    matrix = np.stack([product(np.asarray(column)) for column in np.eye(size)], axis=1)
    found = np.linalg.eigh((matrix + matrix.T) / 2)
    values, vectors = np.asarray(found.eigenvalues), np.asarray(found.eigenvectors)
    keys = {"largest": -values, "smallest": values, "magnitude": -np.abs(values)}
    order = np.argsort(keys[settings.which])[: settings.count]
    return vectors[:, order], values[order]


def _sparse(product: Product, size: int, settings: SpectrumSettings, kept: int) -> tuple[Floats, Floats, bool]:
    draw = np.random.Generator(np.random.PCG64(seed_for(settings.seed, "hessian", "lanczos")))
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
    try:
        values, vectors = eigsh(
            operator, k=settings.count, which=ENDS[settings.which], ncv=kept, tol=settings.tolerance,
            maxiter=settings.iterations, v0=draw.standard_normal(size),
        )  # fmt: skip
    except ArpackNoConvergence as error:
        return np.asarray(error.eigenvalues), np.asarray(error.eigenvectors), False
    return values, vectors, True
