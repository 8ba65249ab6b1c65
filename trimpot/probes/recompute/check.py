"""Are the gradients with recomputation those without it, and if not: is it the random state?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trimpot.core.errors import UsageError
from trimpot.models.decoder import replaced_forwards

TOLERANCE = 1e-5
"""Of the difference, relative to the largest entry of a gradient: rounding in float32, where a sum runs in another
order."""


@dataclass(frozen=True)
class GradientCheck:
    """Gradients without and with recomputation, from the same random state.

    ``difference``: the largest |g′ − g| of any entry over the largest |g| of its parameter; ``where``: that parameter.
    ``draws``: the forward pass draws random numbers (dropout, noise). ``finding``: in words; ``mend``: what to do,
    empty where they are equal.
    """

    equal: bool
    bitwise: bool
    difference: float
    where: str
    draws: bool
    finding: str
    mend: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def require(self) -> None:
        """Raises UsageError when the gradients are not equal."""
        if not self.equal:
            raise UsageError(f"recompute, gradient of {self.where}", self.finding, self.mend)


def check_gradients(
    loss: Callable[[], Tensor],
    parameters: Mapping[str, Tensor],
    forwards: Mapping[nn.Module, Callable[..., Any]],
    seed: int = 0,
) -> GradientCheck:
    """Runs ``loss`` and its backward pass plainly, then with ``forwards`` (of ``models.recompute.recomputed``).

    Both begin at the same random state, so dropout draws the same masks in both forward passes; what differs is what
    the second backward pass computes again. Where the random state is not kept, other masks are drawn there, and the
    gradients are those of no function at all. The process's random state and the parameters' gradients are left as
    they were.

    Raises: ValueError: no parameter gets a gradient.
    Edge cases: gradients that are not finite are not equal. Without draws the random state need not be kept, and
        keeping it costs time: ``draws`` says which it is.
    Source: the docstring of torch.utils.checkpoint (preserve_rng_state), torch 2.13; the check is ours.
    """
    kept = {name: value.grad for name, value in parameters.items()}
    try:
        with torch.random.fork_rng(devices=[]):
            plain, draws = _gradients(loss, parameters, seed)
            with replaced_forwards(forwards):
                again, _ = _gradients(loss, parameters, seed)
    finally:
        for name, value in parameters.items():
            value.grad = kept[name]
    if not plain:
        raise ValueError("no parameter gets a gradient")
    bitwise = plain.keys() == again.keys() and all(torch.equal(plain[name], again[name]) for name in plain)
    differences = {name: _difference(plain[name], again.get(name)) for name in plain}
    # NaN is larger than everything here: max alone would pass over it.
    where = max(differences, key=lambda name: (differences[name] != differences[name], differences[name]))
    largest = differences[where]
    equal = bitwise or largest <= TOLERANCE
    return GradientCheck(equal, bitwise, largest, where, draws, *_words(equal, bitwise, largest, draws))


def _gradients(
    loss: Callable[[], Tensor], parameters: Mapping[str, Tensor], seed: int
) -> tuple[dict[str, Tensor], bool]:
    for value in parameters.values():
        value.grad = None
    torch.manual_seed(seed)
    before = torch.get_rng_state()
    result = loss()
    draws = not torch.equal(before, torch.get_rng_state())
    result.backward()
    return {name: value.grad for name, value in parameters.items() if value.grad is not None}, draws


def _difference(plain: Tensor, again: Tensor | None) -> float:
    if again is None:
        return float("inf")
    return float((again - plain).abs().max()) / max(float(plain.abs().max()), torch.finfo(plain.dtype).tiny)


def _words(equal: bool, bitwise: bool, difference: float, draws: bool) -> tuple[str, str]:
    if bitwise:
        return "the same bit by bit", ""
    if equal:
        return f"the same but for rounding, {difference:.1e} of the largest entry", ""
    off = f"off by {difference:.1e} of the largest entry"
    if draws:
        return f"{off}: the layers draw random numbers, and other ones the second time", (
            "Keep the random state, or switch dropout off."
        )
    return (
        f"{off}, though no random number is drawn",
        "Look for state that a forward pass changes (a cache, a counter).",
    )
