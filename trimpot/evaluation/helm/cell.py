"""One cell of the grid: a metric group on a scenario, measured or not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from trimpot.core.stats import Estimate
from trimpot.evaluation.summary import score_of
from trimpot.store.outcomes import UNPERTURBED, Outcome

Group = Literal["accuracy", "calibration", "robustness", "fairness", "bias", "toxicity", "efficiency"]
GROUPS: tuple[Group, ...] = ("accuracy", "calibration", "robustness", "fairness", "bias", "toxicity", "efficiency")
"""HELM's seven, in its order."""


@dataclass(frozen=True)
class Cell:
    """What a metric group says about a scenario.

    Args:
        metric: the name of ``value``'s metric: mean score, ECE …
        value: with its interval where there is one.
        better: whether higher or lower is better.
        details: all that was measured beside it, JSON-able.
        reason: why there is no value; empty where there is one.
        notes: what to keep in mind, a sentence each.
    """

    scenario: str
    group: Group
    metric: str
    value: Estimate | None
    better: str = "higher"
    details: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def measured(self) -> bool:
        return self.value is not None and self.value.value is not None

    def as_dict(self) -> dict[str, Any]:
        """The cell as a JSON-able object, ``measured`` with it."""
        value = None if self.value is None else asdict(self.value)
        return {**vars(self), "value": value, "measured": self.measured, "notes": list(self.notes)}


def not_measured(scenario: str, group: Group, reason: str) -> Cell:
    """A cell without a value, and why."""
    return Cell(scenario, group, "", None, reason=reason)


def of_group(outcomes: Iterable[Outcome], group: str = "accuracy") -> list[Outcome]:
    """The outcomes whose scores are of a metric group."""
    return [one for one in outcomes if one.metric_group == group]


def unperturbed(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The outcomes of items as they stand."""
    return [one for one in outcomes if one.perturbation == UNPERTURBED]


def generated(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Outcomes whose output is text that the model wrote: tokens were counted, or their task is about such text."""
    return [one for one in outcomes if one.tokens is not None or one.metric_group in ("bias", "toxicity")]


def mean_of(outcomes: Sequence[Outcome], values: Sequence[float]) -> Estimate:
    """The mean of other values in the place of the outcomes' scores, clusters respected."""
    return score_of([replace(one, score=value, better="higher") for one, value in zip(outcomes, values, strict=True)])


def own_scores(scenario: str, group: Group, outcomes: Sequence[Outcome]) -> Cell | None:
    """The mean score of tasks that say their scores are of this group; None where there are none."""
    own = [one for one in of_group(outcomes, group) if one.score is not None]
    plain = unperturbed(own) or own
    if not plain:
        return None
    return Cell(scenario, group, "mean score of its own tasks", score_of(plain), plain[0].better)
