"""Histograms of magnitudes in powers of two, and what a narrow format makes of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trimpot.probes.precision.modes import FORMATS

HALF = FORMATS["float16"]
LOWEST, HIGHEST = FORMATS["float32"].subnormal, 127
"""Exponents of the smallest and the largest binary order of float32."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
HIDDEN_STATES = "hidden states"
"""The group of gradients with respect to what the decoder's layers give out."""
GROUPS = (
    ("adapters", ("lora_", "virtual_tokens")),
    ("norm", ("norm", "ln_")),
    ("embedding", ("embed", "wte", "wpe")),
    ("attention", ("attn", "attention")),
    ("feed-forward", ("mlp", "feed_forward")),
    ("head", ("lm_head", "score")),
)
"""Group -> what a parameter's name has in it; the first that fits counts."""


def group_of(name: str) -> str:
    """The group of a parameter by its name in the model; what fits no group is "other".

    Example: ``model.layers.0.self_attn.q_proj.weight`` is attention, ``model.layers.0.self_attn.q_norm.weight`` norm.
    """
    return next((group for group, parts in GROUPS if any(part in name for part in parts)), "other")


@dataclass(frozen=True)
class Magnitudes:
    """How large the entries of a group are, by binary order.

    ``bins``: exponent e -> number of entries with 2^e ≤ |x| < 2^(e+1). ``flushed``: entries other than 0 that float16
    rounds to 0, which are those with |x| ≤ 2^−25 (2^−25 itself is a tie, and goes to the even 0). ``largest``: the
    largest finite |x|; None without one. Shares are of the finite entries that are not 0; None: there are none.
    """

    group: str
    count: int = 0
    zeros: int = 0
    not_finite: int = 0
    flushed: int = 0
    largest: float | None = None
    bins: Mapping[int, int] = field(default_factory=dict)

    @property
    def nonzero(self) -> int:
        return self.count - self.zeros - self.not_finite

    def below(self, exponent: int) -> float | None:
        """The share with |x| < 2^exponent."""
        return self._share(sum(number for order, number in self.bins.items() if order < exponent))

    @property
    def flushed_share(self) -> float | None:
        """The share that float16 makes 0."""
        return self._share(self.flushed)

    @property
    def subnormal_share(self) -> float | None:
        """The share in the subnormal range of float16, 2^−24 ≤ |x| < 2^−14, where digits are lost."""
        orders = range(HALF.subnormal, HALF.normal)
        return self._share(sum(self.bins.get(order, 0) for order in orders))

    def _share(self, number: int) -> float | None:
        return number / self.nonzero if self.nonzero else None

    def as_dict(self) -> dict[str, Any]:
        return {
            "group": self.group,
            "count": self.count,
            "zeros": self.zeros,
            "not_finite": self.not_finite,
            "largest": self.largest,
            "flushed_share": self.flushed_share,
            "below_smallest_share": self.below(HALF.subnormal),
            "subnormal_share": self.subnormal_share,
            "bins": {str(order): number for order, number in sorted(self.bins.items())},
        }


@torch.no_grad()
def magnitudes(group: str, values: Tensor) -> Magnitudes:
    """Counts the entries of a tensor of any shape.

    Example: of 0, 2^−26, 2^−24 and 1 three are not 0; float16 flushes 2^−26 alone, 1/3 of them.

        >>> found = magnitudes("a", torch.tensor([0.0, 2.0**-26, 2.0**-24, 1.0]))
        >>> found.zeros, found.flushed, dict(found.bins)
        (1, 1, {-26: 1, -24: 1, 0: 1})
    """
    flat = values.detach().flatten().float()
    finite = flat[torch.isfinite(flat)].abs()
    nonzero = finite[finite > 0]
    # x = m · 2^e with ½ ≤ m < 1, so the binary order is e − 1, exactly.
    orders = torch.frexp(nonzero).exponent.long() - 1 - LOWEST
    counts = torch.bincount(orders, minlength=HIGHEST - LOWEST + 1).tolist()
    return Magnitudes(
        group,
        flat.numel(),
        finite.numel() - nonzero.numel(),
        flat.numel() - finite.numel(),
        int((nonzero.half() == 0).sum()),
        float(finite.max()) if finite.numel() else None,
        {place + LOWEST: number for place, number in enumerate(counts) if number},
    )


def add_magnitudes(many: Iterable[Magnitudes]) -> dict[str, Magnitudes]:
    """Sums counts group by group, in the order in which groups come."""
    sums: dict[str, Magnitudes] = {}
    for one in many:
        old = sums.get(one.group, Magnitudes(one.group))
        tops = [top for top in (old.largest, one.largest) if top is not None]
        bins = {order: old.bins.get(order, 0) + one.bins.get(order, 0) for order in {*old.bins, *one.bins}}
        sums[one.group] = Magnitudes(
            one.group, old.count + one.count, old.zeros + one.zeros, old.not_finite + one.not_finite,
            old.flushed + one.flushed, max(tops) if tops else None, dict(sorted(bins.items())),
        )  # fmt: skip
    return sums


@dataclass(frozen=True)
class ScaleWindow:
    """Loss scales, as exponents of two, under which gradients like these neither vanish nor overflow in float16.

    ``least``: the smallest at which at most ``allowed`` of the entries lie below 2^−24; ``most``: the largest at which
    none is above 65,504. least > most: no static scale serves them all.
    """

    least: int
    most: int
    allowed: float


def scale_window(many: Iterable[Magnitudes], allowed: float = 1e-3) -> ScaleWindow | None:
    """The window that serves every one of the groups; None where there is no entry but 0.

    Equation: least = min k with share(|g| · 2^k < 2^−24) ≤ allowed for every group;
        most = ⌊log₂(65,504 / max|g|)⌋. A scale below 1 never helps: least is at least 0.
    Source: arXiv 1710.03740, section 3.2: "choose a value so that its product with the maximum absolute gradient value
        is below 65,504"; the lower end is ours.

    Example: gradients of 2^−30 and 2^2: the scale 2^6 lifts the smaller to 2^−24; 65,504 / 4 = 16,376, so at most 2^13.

        >>> scale_window([magnitudes("a", torch.tensor([2.0**-30, 4.0]))], allowed=0.0)
        ScaleWindow(least=6, most=13, allowed=0.0)
    """
    groups = [one for one in many if one.nonzero]
    if not groups:
        return None
    least = 0
    for one in groups:
        while (one.below(HALF.subnormal - least) or 0.0) > allowed:
            least += 1
    top = max(one.largest for one in groups if one.largest is not None)
    return ScaleWindow(least, math.floor(math.log2(HALF.largest / top)), allowed)


@dataclass(frozen=True)
class LostUpdates:
    """Updates other than 0, and how many of them change nothing where weights are kept in ``dtype``.

    ``lost``: round(round(w) + u) = round(w). ``small``: |u| < 2^−digits · |w| (float16 2^−11, bfloat16 2^−8): the bound
    above which none is lost but ties; below it an update is lost or, where the weight's significand is near 2, kept.
    """

    dtype: str
    updates: int = 0
    lost: int = 0
    small: int = 0

    @property
    def lost_share(self) -> float | None:
        return self.lost / self.updates if self.updates else None

    @property
    def small_share(self) -> float | None:
        return self.small / self.updates if self.updates else None

    def __add__(self, other: LostUpdates) -> LostUpdates:
        sums = (getattr(self, name) + getattr(other, name) for name in ("updates", "lost", "small"))
        return LostUpdates(self.dtype, *sums)

    def as_dict(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "updates": self.updates, "lost_share": self.lost_share,
                "small_share": self.small_share}  # fmt: skip


@torch.no_grad()
def lost_updates(weights: Tensor, updates: Tensor, dtype: str) -> LostUpdates:
    """Counts the updates that a weight in ``dtype`` does not take, rounding to nearest, ties to even.

    Shapes: both [*]. Edge cases: an update of exactly 0 is none.
    Source: arXiv 1710.03740, section 3.1: an update vanishes where the weight is at least 2,048 times as large.

    Example: to a weight of 1 in float16, 2^−11 is lost, 1.01 · 2^−11 is not.

        >>> lost_updates(torch.ones(2), torch.tensor([2.0**-11, 1.01 * 2.0**-11]), "float16").lost
        1
    """
    kept = weights.detach().to(DTYPES[dtype]).float()
    updates = updates.detach().float()
    moved = updates != 0
    lost = ((kept + updates).to(DTYPES[dtype]).float() == kept) & moved
    small = (updates.abs() < kept.abs() * 2.0 ** -FORMATS[dtype].digits) & moved
    return LostUpdates(dtype, int(moved.sum()), int(lost.sum()), int(small.sum()))
