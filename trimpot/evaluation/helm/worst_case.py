"""HELM's robustness and fairness: the worst score of every item over its original and its perturbed forms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trimpot.core.stats import Estimate
from trimpot.evaluation.helm.cell import Cell, Group, not_measured, of_group
from trimpot.evaluation.perturbations.table import PERTURBATIONS
from trimpot.evaluation.summary import score_of
from trimpot.statistics.paired import paired_difference
from trimpot.store.outcomes import UNPERTURBED, Outcome


@dataclass(frozen=True)
class Forms:
    """An item's original outcome, its score, and the scores of its perturbed forms; of several samples their means."""

    original: Outcome
    score: float
    perturbed: Mapping[str, float]

    @property
    def worst(self) -> float:
        """min over {original} ∪ perturbed; max where lower is better."""
        choose = max if self.original.better == "lower" else min
        return choose([self.score, *self.perturbed.values()])


def forms_of(outcomes: Sequence[Outcome], group: str) -> tuple[list[Forms], int]:
    """The items of tasks that have perturbed forms of a group, and how many of them have no score of their own.

    An item without a form counts with its original alone, as in HELM: the perturbation found nothing to change.
    """
    named = {name for name, one in PERTURBATIONS.items() if one.group == group}
    tasks = {one.task for one in outcomes if one.perturbation in named}
    scores: dict[tuple[str, str], dict[str, list[float]]] = {}
    originals: dict[tuple[str, str], Outcome] = {}
    for one in outcomes:
        if one.task not in tasks or (one.perturbation not in named and one.perturbation != UNPERTURBED):
            continue
        held = scores.setdefault((one.task, one.item), {})
        if one.perturbation == UNPERTURBED:
            originals.setdefault((one.task, one.item), one)
        if one.score is not None:
            held.setdefault(one.perturbation, []).append(one.score)
    means = {key: {name: math.fsum(some) / len(some) for name, some in held.items()} for key, held in scores.items()}
    found = [
        Forms(originals[key], held[UNPERTURBED], {name: held[name] for name in held if name != UNPERTURBED})
        for key, held in means.items()
        if key in originals and UNPERTURBED in held
    ]
    return found, len(means) - len(found)


def worst_case_cell(scenario: str, group: Group, outcomes: Sequence[Outcome]) -> Cell:
    """W = (1/n)·Σ_i worst_{f ∈ {original} ∪ forms of i} s_i(f); worst: min, or max where lower is better.

    s_i(f) the score of form f of item i (the mean of its samples), n items. Beside it the same items unperturbed, and
    each perturbation with the mean difference of its forms from their originals.
    Example: originals 1, 1; forms of the first 0 and 1, none of the second: W = (0 + 1)/2 = 0.5, unperturbed 1.

    Edge cases: an item without a score of its own is left out and counted; a form without a score is none. W falls with
    the number of forms even by chance where answers are drawn at a temperature above 0.
    Source: HELM, arXiv 2211.09110 section 4.5; its code takes the minimum even where lower is better, this does not.
    """
    scored = of_group(outcomes)
    found, left_out = forms_of(scored, group)
    if not any(one.perturbed for one in found):
        return not_measured(scenario, group, "no item has a perturbed form with a score")
    originals = [replace(one.original, score=one.score, sample=0) for one in found]
    worst = score_of([replace(one.original, score=one.worst, sample=0) for one in found])
    better = originals[0].better
    details: dict[str, Any] = {
        "items": len(found),
        "items_with_a_form": sum(bool(one.perturbed) for one in found),
        "left_out": left_out,
        "unperturbed": vars(score_of(originals)),
        "perturbations": {name: _one(found, name) for name in _names(found)},
    }
    return Cell(scenario, group, "worst case per item", worst, better, details)


def _names(found: Sequence[Forms]) -> list[str]:
    seen = {name for one in found for name in one.perturbed}
    return [name for name in PERTURBATIONS if name in seen]


def _one(found: Sequence[Forms], name: str) -> dict[str, Any]:
    """One perturbation's forms: how many, their mean score, their originals' and the mean difference."""
    some = [one for one in found if name in one.perturbed]
    change: Estimate = paired_difference(
        [one.perturbed[name] for one in some], [one.score for one in some], [one.original.cluster for one in some]
    )
    return {
        "forms": len(some),
        "score": vars(score_of([replace(one.original, score=one.perturbed[name]) for one in some])),
        "unperturbed": vars(score_of([replace(one.original, score=one.score) for one in some])),
        "change": vars(change),
    }
