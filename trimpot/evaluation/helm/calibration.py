"""HELM's calibration: expected calibration error in bins of equal mass, and selective accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trimpot.core.seeds import seed_for
from trimpot.core.stats import Estimate
from trimpot.evaluation.helm.cell import Cell, not_measured, of_group, unperturbed
from trimpot.statistics.arrays import equal_length, finite_array
from trimpot.statistics.calibration import brier_score
from trimpot.statistics.drift import equal_mass_error
from trimpot.store.outcomes import Outcome

BINS = 10
ENOUGH = 300
"""Below so many items the error in 10 bins is mostly chance (HELM's own warning)."""
DRAWS = 200


@dataclass(frozen=True)
class Selective:
    """Accuracy over the answers that the model is surest of.

    ``area``: the mean of A_k, k = 1 … n. ``at_tenth``: A at ⌊0.1·n⌋, None below 10 answers.
    """

    area: float | None
    at_tenth: float | None


def selective_accuracy(confidences: Iterable[float], outcomes: Iterable[float]) -> Selective:
    """A_k = mean outcome of the k answers with the highest confidence; area = (1/n)·Σ_k A_k; A at k = ⌊0.1·n⌋.

    Answers of the same confidence are each given their mean outcome, so that their order does not matter.
    Example: confidences 0.9, 0.8, 0.7; outcomes 1, 0, 1: A = 1, 1/2, 2/3; area 13/18 = 0.722.

    Shapes: confidences, outcomes [n].
    Raises:
        ValueError: lengths differ, or a value is NaN or infinite.
    Edge cases: empty: both None.
    Source: HELM, arXiv 2211.09110 section 4.4; the rule for ties is ours.
    """
    p, y = finite_array(confidences, "confidences"), finite_array(outcomes, "outcomes")
    equal_length(p, y)
    if p.size == 0:
        return Selective(None, None)
    _, places, counts = np.unique(p, return_inverse=True, return_counts=True)
    shared = (np.bincount(places, weights=y) / counts)[places]
    accuracy = np.cumsum(shared[np.argsort(-p, kind="stable")]) / np.arange(1, p.size + 1)
    tenth = p.size // 10
    return Selective(float(accuracy.mean()), float(accuracy[tenth - 1]) if tenth else None)


def chance_error(confidences: Sequence[float], seed: int, bins: int = BINS, draws: int = DRAWS) -> float | None:
    """The equal-mass ECE that these confidences would show on average if they were all true.

    The mean over ``draws`` of ECE(p, y*), y*_i = 1 with probability p_i. An error near it is no sign of miscalibration.

    Edge cases: empty gives None; all confidences 0 or 1: 0.
    Source: consistency resampling, Bröcker and Smith 2007; equal-width bins: ``trimpot.statistics.calibration``.
    """
    p, generator = finite_array(confidences, "confidences"), np.random.default_rng(seed)
    if p.size == 0:
        return None
    drawn = ((generator.random(p.size) < p).astype(float).tolist() for _ in range(draws))
    errors = [equal_mass_error(p.tolist(), outcomes, bins) for outcomes in drawn]
    return float(np.mean([one for one in errors if one is not None]))


def calibration_cell(scenario: str, outcomes: Sequence[Outcome]) -> Cell:
    """The ECE of a scenario's answers, with selective accuracy, Brier score and the error by chance beside it.

    Edge cases: outcomes without a confidence or with a score outside [0, 1] are left out; without any other the cell is
    not measured. The ECE has no interval: it is biased upwards, so that a resampled one would centre on a larger value.
    """
    scored = [one for one in unperturbed(of_group(outcomes)) if one.score is not None and one.better == "higher"]
    used = [one for one in scored if one.confidence is not None and 0.0 <= (one.score or 0.0) <= 1.0]
    if not used:
        return not_measured(scenario, "calibration", _why(scored))
    p = [float(one.confidence or 0.0) for one in used]
    y = [float(one.score or 0.0) for one in used]
    selective, brier = selective_accuracy(p, y), brier_score(p, y)
    details: dict[str, Any] = {
        "bins": BINS,
        "answers": len(used),
        "left_out": len(scored) - len(used),
        "ece_by_chance": chance_error(p, seed_for(0, "helm", "calibration", scenario)),
        "selective_accuracy_area": selective.area,
        "accuracy_of_surest_tenth": selective.at_tenth,
        "brier_score": vars(brier),
        "mean_confidence": float(np.mean(p)),
        "accuracy": float(np.mean(y)),
    }
    few = f"{len(used)} answers: below {ENOUGH} the error is mostly chance; compare it with ece_by_chance."
    error = Estimate(equal_mass_error(p, y, BINS), None, None, len(used), "10 equal-mass bins")
    notes = (few,) if len(used) < ENOUGH else ()
    return Cell(scenario, "calibration", "ECE", error, "lower", details, notes=notes)


def _why(scored: Sequence[Outcome]) -> str:
    if not scored:
        return "no answer is right or wrong"
    if all(one.confidence is None for one in scored):
        return "no confidence is known"
    return "scores are not in [0, 1]"
