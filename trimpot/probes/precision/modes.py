"""The precision modes that are compared: format of the computation, scaling of the loss, and where weights are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trimpot.core.errors import UsageError, nearest

SCALINGS = ("none", "static", "dynamic")


@dataclass(frozen=True)
class NumberFormat:
    """A binary floating-point format.

    ``digits``: of the significand, the hidden one included, so that 2^−digits is half the distance from 1 to the next
    number. ``normal``, ``subnormal``: exponents of the smallest normal and subnormal number. ``largest``: finite.

    Example: float16 has 11 digits. The next number after 1 is 1 + 2^−10, so 1 + 2^−11 lies half-way and is rounded to
    1: an update of 2^−11 of the weight vanishes.
    """

    name: str
    digits: int
    normal: int
    subnormal: int
    largest: float


FORMATS = {
    "float32": NumberFormat("float32", 24, -126, -149, (2 - 2.0**-23) * 2.0**127),
    "bfloat16": NumberFormat("bfloat16", 8, -126, -133, (2 - 2.0**-7) * 2.0**127),
    "float16": NumberFormat("float16", 11, -14, -24, 65504.0),
}


@dataclass(frozen=True)
class PrecisionMode:
    """How a run computes and keeps its numbers.

    ``dtype``: of the forward and backward pass, of the weights they read and of the gradients they leave. ``scaling``:
    of the loss before the backward pass; gradients are divided by the scale again, in float32. ``master``: the
    optimiser's weights are kept in float32 and rounded for each pass; without, they are rounded after every update and
    what rounding takes is gone. The optimiser's moments are float32 in every mode.

    Source: arXiv 1710.03740, sections 3.1 (master copy) and 3.2 (loss scaling).
    """

    name: str
    dtype: str
    scaling: str = "none"
    master: bool = True

    @property
    def format(self) -> NumberFormat:
        return FORMATS[self.dtype]


MODES = {
    mode.name: mode
    for mode in (
        PrecisionMode("fp32", "float32"),
        PrecisionMode("bf16", "bfloat16"),
        PrecisionMode("bf16-no-master", "bfloat16", master=False),
        PrecisionMode("fp16", "float16"),
        PrecisionMode("fp16-static", "float16", "static"),
        PrecisionMode("fp16-dynamic", "float16", "dynamic"),
        PrecisionMode("fp16-no-master", "float16", master=False),
        PrecisionMode("fp16-static-no-master", "float16", "static", master=False),
        PrecisionMode("fp16-dynamic-no-master", "float16", "dynamic", master=False),
    )
}
"""Every mode by name; ``fp16`` alone is without scaling."""
BASE = "fp32"


def modes_of(names: Sequence[str]) -> tuple[PrecisionMode, ...]:
    """The modes of these names, fp32 first whether it is named or not; none named: all.

    Raises:
        UsageError: an unknown name, with the nearest known one; a name that comes twice.
    """
    for place, name in enumerate(names):
        if name not in MODES:
            raise UsageError("modes", f"{name!r} is not a precision mode", nearest(name, MODES))
        if name in names[:place]:
            raise UsageError("modes", f"{name!r} is there twice", "Name each mode once.")
    chosen = [name for name in names or MODES if name != BASE]
    return tuple(MODES[name] for name in (BASE, *chosen))
