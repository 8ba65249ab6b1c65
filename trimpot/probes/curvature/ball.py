"""Sharpness in a ball, as SAM has it, and its form that rescaling of weights does not change."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trimpot.core.progress import Progress, ignore
from trimpot.core.seeds import seed_for
from trimpot.probes.curvature.surface import Floats, Surface

RADIUS, ADAPTIVE_RADIUS = 0.05, 0.5
"""SAM's default ρ (arXiv 2010.01412, section 3.1), and ASAM's (arXiv 2102.11600, section 5)."""


@dataclass(frozen=True)
class BallSettings:
    """``radius`` ρ. ``adaptive``: the ball is as wide in a weight as that weight is large. ``iterations``: 1 is SAM's
    own single step. ``seed``: of the direction taken where the gradient is 0.
    """

    radius: float = RADIUS
    adaptive: bool = False
    iterations: int = 10
    seed: int = 0


STANDARD = BallSettings()


@dataclass(frozen=True)
class BallSharpness:
    """``rise``: the highest f found in the ball less f(x); ``first``: that after SAM's one step. ``loss``: f(x)."""

    rise: float
    first: float
    loss: float
    radius: float
    adaptive: bool
    size: int
    passes: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def ball_sharpness(
    surface: Surface, settings: BallSettings = STANDARD, x: Floats | None = None, progress: Progress = ignore
) -> BallSharpness:
    """How far the loss rises within a ball of radius ρ around x (None: the surface's own weights).

    Equation: max over |e| ≤ ρ of f(x + e) − f(x); adaptive: over |e/t| ≤ ρ, t_i = |x_i|.
    How: e ← ρ·t·g/|g|, g = t·∇f(x + e), from e = 0 (t = 1 unless adaptive). The first such e is SAM's; where f is
        convex every further one is at least as high (the linear bound at e is met by f).
    Units: those of the loss. At least so much, as the search may miss the highest point.
    Edge cases: gradient 0 at x: it starts in a random direction. A weight of 0 is not moved by the adaptive form. A
        rise that is NaN or infinite counts as infinite. Never below 0.
    Source: arXiv 2010.01412, eq. 1 and 2; adaptive: arXiv 2102.11600 (elementwise, p = 2); iterations: ours.

    Example: f = a² + 2b² at a = 1, b = 0, ρ = 0.1: the gradient is (2, 0), e = (0.1, 0), 1.1² − 1 = 0.21.

        >>> import torch
        >>> widths = torch.tensor([1.0, 2.0])
        >>> surface = Surface.of(lambda w: (widths * w["x"] ** 2).sum(), {"x": torch.tensor([1.0, 0.0])})
        >>> round(ball_sharpness(surface, BallSettings(radius=0.1)).rise, 9)
        0.21
    """
    x = surface.point() if x is None else x
    widths = np.abs(x) if settings.adaptive else np.ones_like(x)
    base, gradient = surface.value_and_gradient(x)
    draw = np.random.Generator(np.random.PCG64(seed_for(settings.seed, "sharpness", "ball")))
    slope = widths * gradient
    if not np.abs(slope).max(initial=0.0) > 1e-14 * (1 + abs(base)):
        slope = widths * draw.standard_normal(len(x))
    rises: list[float] = []
    for done in range(settings.iterations):
        length = float(np.linalg.norm(slope))
        if not length > 0 or not math.isfinite(length):
            break
        value, gradient = surface.value_and_gradient(x + settings.radius * widths * slope / length)
        progress(done + 1, settings.iterations)
        rises.append(value - base if math.isfinite(value) else math.inf)
        slope = widths * gradient
    first = max(0.0, rises[0]) if rises else 0.0
    return BallSharpness(max([0.0, *rises]), first, base, settings.radius, settings.adaptive, len(x), len(rises) + 1)
