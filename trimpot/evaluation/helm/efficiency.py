"""HELM's efficiency: generated tokens, seconds, and floating-point operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from trimpot.core.stats import Estimate
from trimpot.evaluation.helm.cell import Cell, not_measured
from trimpot.store.outcomes import Outcome


def efficiency_cell(scenario: str, outcomes: Sequence[Outcome], flops_per_token: float | None) -> Cell:
    """Seconds per answer; beside it the sums of seconds, generated tokens and FLOPs = tokens · flops_per_token.

    All outcomes count, perturbed ones too: they were work. Reading the prompt is not part of the FLOPs.
    Example: 2 answers of 10 and 30 tokens in 1 and 3 s at 100 FLOPs per token: 2 s per answer, 40 tokens, 4000 FLOPs.

    Edge cases: seconds unknown: tokens per answer is the value; neither known: not measured. No interval: the seconds
    of answers that were computed together are shares of one measurement, and answers from a cache took none.
    Source: HELM, arXiv 2211.09110 section 4.9.
    """
    seconds = [one.seconds for one in outcomes if one.seconds is not None]
    tokens = [one.tokens for one in outcomes if one.tokens is not None]
    if not seconds and not tokens:
        return not_measured(scenario, "efficiency", "neither seconds nor tokens are known")
    all_tokens = sum(tokens) if tokens else None
    details: dict[str, Any] = {
        "answers": len(outcomes),
        "seconds": math.fsum(seconds) if seconds else None,
        "generated_tokens": all_tokens,
        "flops": None if all_tokens is None or flops_per_token is None else all_tokens * flops_per_token,
        "flops_per_token": flops_per_token,
    }
    metric, some = ("seconds per answer", seconds) if seconds else ("generated tokens per answer", tokens)
    value = Estimate(math.fsum(some) / len(some), None, None, len(some), "mean")
    return Cell(scenario, "efficiency", metric, value, "lower", details, notes=_notes(tokens, flops_per_token))


def _notes(tokens: Sequence[int], flops_per_token: float | None) -> tuple[str, ...]:
    if not tokens:
        return ("No text was generated, so tokens and FLOPs are unknown.",)
    return () if flops_per_token is not None else ("FLOPs are unknown: the model does not tell them per token.",)
