"""The control beside every sharpness: other weights of the same function, whose sharpness is not the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trimpot.probes.curvature.surface import Floats, Surface, Weights, flat

FACTOR = 16.0
"""What weights before a unit are multiplied by, and those after it divided by. A power of two: no rounding. Ours."""

GATED = ((r"\.up_proj\.(weight|bias)$", ".down_proj.weight"), (r"\.v_proj\.(weight|bias)$", ".o_proj.weight"))
"""What goes linearly into what: a gated unit's upper half, and values, of Llama-like layers."""


@dataclass(frozen=True)
class Rescaled:
    """A measure before and after the rescaling. ``change``: largest difference of the losses of both, relative to
    1 + loss: that they are one function. ``ratio``: after / before; None where the first is 0.
    """

    factor: float
    before: float
    after: float
    change: float

    @property
    def ratio(self) -> float | None:
        return self.after / self.before if self.before else None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio}


def rescaled(weights: Weights, pairs: Sequence[tuple[str, str]], factor: float = FACTOR) -> dict[str, Any]:
    """The weights with every first name of ``pairs`` multiplied by ``factor`` and every second one divided by it.

    Equation: a unit φ with φ(αx) = αφ(x), α > 0 (ReLU, or none at all) gives W₂φ(αW₁x + αb₁)/α = W₂φ(W₁x + b₁).
    A name that is second in several pairs (of a weight and of its bias) is divided once.
    Source: arXiv 1703.04933, section 3.

    Example: 3·relu(2·5) = 30 = (3/4)·relu(4·2·5).
    """
    firsts, seconds = {one for one, _ in pairs}, {other for _, other in pairs}
    return {
        name: value * (factor if name in firsts else 1.0) / (factor if name in seconds else 1.0)
        for name, value in weights.items()
    }


def linear_pairs(names: Mapping[str, Any] | Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pairs of weights of Llama-like layers that can be rescaled: up_proj with down_proj, v_proj with o_proj.

    Edge cases: empty where the names hold none with both sides (another family, LoRA, a part without them).
    """
    known, found = set(names), []
    for name in names:
        for pattern, after in GATED:
            other = re.sub(pattern, after, name)
            if other != name and other in known:
                found.append((name, other))
    return tuple(found)


def rescaling_control(
    surface: Surface,
    pairs: Sequence[tuple[str, str]],
    measure: Callable[[Surface, Floats], float],
    factor: float = FACTOR,
    before: float | None = None,
) -> Rescaled | None:
    """A measure at the surface's weights and at rescaled ones that compute the same; None without pairs.

    ``measure``: of a surface and a point, such as ``lambda surface, x: box_sharpness(surface, settings, x).phi``;
    ``before``: what it gives at the surface's weights, where that is known.
    What it shows: how much of a sharpness is the scale of weights. A difference between two networks that is smaller
    than that between two forms of one says nothing by itself.
    Source: arXiv 1703.04933, section 4; as a control ours.
    """
    if not pairs:
        return None
    x = surface.point()
    other = flat(rescaled(surface.weights, pairs, factor).values())
    first, second = surface.value(x), surface.value(other)
    change = abs(first - second) / (1 + abs(first))
    return Rescaled(factor, measure(surface, x) if before is None else before, measure(surface, other), change)
