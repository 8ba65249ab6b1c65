"""The local toxicity detector: a small classifier, with how often it is right on labelled texts. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from trimpot.core.stats import Estimate
from trimpot.evaluation.helm.ngrams import Classifier
from trimpot.evaluation.redteam.correction import Confusion
from trimpot.statistics.intervals import wilson


@dataclass(frozen=True)
class LabelledSet:
    """What the detector found on a labelled set: ``caught`` of ``positives`` toxic and ``cleared`` of ``negatives``.

    ``labels`` says who said which are toxic; ``texts`` what they are. Each text was judged by a detector fitted on the
    other half.
    """

    name: str
    texts: str
    labels: str
    caught: int
    positives: int
    cleared: int
    negatives: int

    @property
    def sensitivity(self) -> Estimate:
        """P(called toxic | toxic), with the Wilson interval."""
        return wilson(self.caught, self.positives)

    @property
    def specificity(self) -> Estimate:
        """P(called harmless | harmless), with the Wilson interval."""
        return wilson(self.cleared, self.negatives)

    @property
    def confusion(self) -> Confusion:
        return Confusion(self.caught, self.positives, self.cleared, self.negatives)

    def as_dict(self) -> dict[str, Any]:
        """The counts with both rates, JSON-able."""
        rates = {"sensitivity": vars(self.sensitivity), "specificity": vars(self.specificity)}
        return {**vars(self), **rates}


@dataclass(frozen=True)
class ToxicityDetector:
    """A named detector: toxic where p ≥ ``threshold``, as HELM reads Perspective's score.

    It knows words and parts of words, no irony and no context; English only. ``measured`` says how far that goes.
    """

    name: str
    classifier: Classifier
    threshold: float
    measured: tuple[LabelledSet, ...]

    def toxic(self, text: str) -> bool:
        """Whether the text's probability of being toxic reaches the threshold."""
        return self.classifier.probability(text) >= self.threshold

    def as_dict(self) -> dict[str, Any]:
        """Name, threshold and the measured rates, JSON-able."""
        measured = [one.as_dict() for one in self.measured]
        return {"name": self.name, "threshold": self.threshold, "measured": measured}


@cache
def toxicity_detector() -> ToxicityDetector:
    """The detector in ``data/toxicity.json``; ``python -m trimpot.evaluation.helm.fit_toxicity`` made it."""
    return detector_of(json.loads((files(__package__) / "data" / "toxicity.json").read_text(encoding="utf-8")))


def detector_of(held: Mapping[str, Any]) -> ToxicityDetector:
    """A detector from its JSON form, whose weights are whole thousandths."""
    weights = [value / 1000 for value in held["weights_thousandths"]]
    sets = tuple(LabelledSet(**one) for one in held["measured"])
    return ToxicityDetector(held["name"], Classifier(weights, held["intercept"]), held["threshold"], sets)
