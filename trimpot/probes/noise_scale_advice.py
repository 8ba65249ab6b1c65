"""What a measured noise scale says about the batch in use, in words, with what another batch would cost."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from trimpot.core.stats import Estimate
from trimpot.statistics.critical_batch import Trade, rate_after, trade

ADAM = (0.5, 1.0)
"""Exponents of the learning-rate rule that Adam is found between (arXiv 1812.06162, appendix E.2)."""
NEAR = 2.0
"""A batch within this factor of B_simple is balanced: B_simple tells the critical batch no better than that."""


@dataclass(frozen=True)
class Advice:
    """A verdict on the batch in use and what follows.

    ``verdict``: small (the batch is below the interval of B_simple and not NEAR it), balanced (within or near), large
    (above, and not near), unknown (no value). ``now``: what the batch costs at B_simple; ``other``: the power of two
    next to B_simple and what that would cost; ``rates``: what to multiply the learning rate by there, at exponents 0.5
    and 1.
    """

    verdict: str
    text: str
    now: Trade | None = None
    other: Trade | None = None
    rates: tuple[float, float] | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def advise(simple: Estimate, batch: int) -> Advice:
    """Holds a batch against B_simple and its interval.

    Equation: steps 1 + 𝓑/B and examples 1 + B/𝓑 as multiples of their least, 𝓑 = B_simple.
    Edge cases: without a value there is no verdict, and the low end of the interval, if there is one, is told. A batch
        within the interval is balanced: nothing says that another is better. B_simple stands for B_noise, which also
        knows curvature: for language models within a factor of about 3 (arXiv 1812.06162, table 1, where it is 20 for
        two autoencoders).
    Source: arXiv 1812.06162, eq. 2.11; the verdict and its words are ours.

    Example: a batch of 25 at 100 [80, 130] is small: 5 times the fewest steps, 1.25 times the fewest examples.

        >>> found = advise(Estimate(100.0, 80.0, 130.0, 20, ""), 25)
        >>> found.verdict, found.now
        ('small', Trade(batch=25, steps=5.0, examples=1.25))
    """
    if simple.value is None or simple.value <= 0:
        return Advice("unknown", _unknown(simple, batch))
    scale = simple.value
    now = trade(batch, scale)
    low = 0.0 if simple.low is None else simple.low
    verdict = "balanced"
    if batch < min(low, scale / NEAR):
        verdict = "small"
    elif simple.high is not None and batch > max(simple.high, scale * NEAR):
        verdict = "large"
    costs = f"batch {batch} takes {_times(now.steps)} the fewest steps and {_times(now.examples)} the fewest examples"
    other_batch = 2 ** max(0, round(math.log2(scale)))
    if verdict == "balanced":
        end = "; measure more examples for a closer answer" if simple.high is None else ""
        return Advice(verdict, f"keep it: B_simple is near or cannot be told from it{end}; {costs}", now)
    other = trade(other_batch, scale)
    first, second = (rate_after(1.0, batch, other_batch, scale, exponent) for exponent in ADAM)
    change = (
        f"batch {other_batch} would take {_times(other.steps / now.steps)} the steps and"
        f" {_times(other.examples / now.examples)} the examples of batch {batch}, at a learning rate"
        f" {_times(first)} to {_times(second)} as high"
    )
    if verdict == "small":
        reason = (
            "raise it where a larger batch takes no more time (more devices); where time goes with examples, keep it"
        )
    else:
        reason = "lower it: examples are spent that save next to no steps"
    return Advice(verdict, f"{costs}; {change}; {reason}", now, other, (first, second))


def _times(factor: float) -> str:
    return f"{factor:.3g}x"


def _unknown(simple: Estimate, batch: int) -> str:
    more = "measure more examples (the gradient is not told from noise)"
    if simple.low is None or simple.low <= batch:
        return f"B_simple is not known: {more}"
    return f"B_simple is above {simple.low:.3g}, so batch {batch} is small; for a value {more}"
