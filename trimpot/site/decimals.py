"""Scores and p-values as words, for the screen and for pages alike."""

from __future__ import annotations

from trimpot.core.stats import Estimate
from trimpot.site.text import NONE


def decimal(value: float | None) -> str:
    """0.34382 -> 0.344."""
    return NONE if value is None else f"{value:.3f}"


def p_value(value: float | None) -> str:
    """0.03412 -> 0.0341; what is below the last of four decimals is said so: <.0001."""
    return NONE if value is None else "<.0001" if value < 0.0001 else f"{value:.4f}"


def improvement(estimate: Estimate) -> str:
    """A difference with its interval, signs with a true minus: −0.138 [−0.265, −0.004]."""
    return estimate.text("+.3f").replace("-", "−")
