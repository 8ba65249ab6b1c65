"""How often detectors are right: sensitivity and specificity on labelled answers, with intervals. No torch here."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.core.stats import Estimate
from trimpot.evaluation.redteam.detectors import DETECTORS, Result
from trimpot.evaluation.redteam.families import base64_of, rot13
from trimpot.evaluation.redteam.packaged import packaged_texts
from trimpot.evaluation.redteam.seeds import own_seeds
from trimpot.statistics.intervals import wilson

PYRIT_LABELS = "pyrit/datasets/scorer_evals/refusal_scorer/refusal{}.csv"
PYRIT_FILES = {"refusal.csv": "", "refusal_extra.csv": "_extra"}
HELD_OUT = "refusal_extra.csv"


@dataclass(frozen=True)
class Labelled:
    """An answer and what it is by its label."""

    output: str
    target: str
    label: Result


@dataclass(frozen=True)
class DetectorRates:
    """What a detector found on labelled answers.

    Args:
        detector: its name.
        caught, successes: answers labelled success that it decided on, and those of them that it called success.
        cleared, failures: the same for failure.
        undetermined: labelled answers that it did not decide on; they are in neither rate.
        source: the labelled set.
    """

    detector: str
    caught: int
    successes: int
    cleared: int
    failures: int
    undetermined: int
    source: str

    @property
    def sensitivity(self) -> Estimate:
        """P(called success | success), with the Wilson interval; value None without such answers."""
        return wilson(self.caught, self.successes)

    @property
    def specificity(self) -> Estimate:
        """P(called failure | failure), with the Wilson interval; value None without such answers."""
        return wilson(self.cleared, self.failures)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: both rates with intervals and counts."""
        rates = {"sensitivity": self.sensitivity, "specificity": self.specificity}
        shown = {
            name: {"value": one.value, "low": one.low, "high": one.high, "n": one.n} for name, one in rates.items()
        }
        return {"detector": self.detector, **shown, "undetermined": self.undetermined, "source": self.source}


def measured(detector: str, items: Sequence[Labelled], source: str) -> DetectorRates:
    """Runs a detector on labelled answers.

    Example: two successes, both called success, and two failures, one called failure and one undetermined: sensitivity
    2/2, specificity 1/1, one undetermined.

    Edge cases: undetermined answers enter no rate: the outcomes that are corrected leave them out as well.
    """
    found = [(one.label, DETECTORS[detector](one.output, one.target).result) for one in items]
    decided = [(label, result) for label, result in found if result != "undetermined"]
    return DetectorRates(
        detector,
        decided.count(("success", "success")),
        sum(label == "success" for label, _ in decided),
        decided.count(("failure", "failure")),
        sum(label == "failure" for label, _ in decided),
        len(found) - len(decided),
        source,
    )


def known_rates() -> dict[str, DetectorRates]:
    """Detector -> its rates: on our own labelled answers; of ``refusal`` as counted on PyRIT's held-out labels."""
    own = {name: measured(name, own_labelled(name), "own labelled answers") for name in ("secret", "forbidden_word")}
    return {**own, "refusal": shipped_refusal_rates(HELD_OUT)}


def shipped_refusal_rates(file: str) -> DetectorRates:
    """The counts of the refusal detector on one of PyRIT's labelled files, as they were measured."""
    counts = _held()["refusal"][file]
    source = f"PyRIT 1.1.0 {file}, human labels"
    (caught, successes), (cleared, failures) = counts["success"], counts["failure"]
    return DetectorRates("refusal", caught, successes, cleared, failures, counts["undetermined"], source)


def own_labelled(detector: str) -> list[Labelled]:
    """The answers of data/labelled.yaml, the n-th with the n-th secret or word of the seeds."""
    targets = [seed.target for seed in own_seeds() if seed.detector == detector]
    labels: tuple[Result, ...] = ("success", "failure")
    return [
        Labelled(_filled(text, targets[number % len(targets)]), targets[number % len(targets)], label)
        for label in labels
        for number, text in enumerate(_held()[detector][label])
    ]


def pyrit_labelled(file: str) -> list[Labelled]:
    """PyRIT's human-labelled answers: a label of 1 says refused (failure of an attack), 0 answered.

    Raises:
        UsageError: PyRIT is not installed, or the file has another form.
    """
    ((path, text),) = packaged_texts("pyrit", PYRIT_LABELS.format(PYRIT_FILES[file]))
    lines = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    labels: dict[str, Result] = {"0": "success", "1": "failure"}
    try:
        return [
            Labelled(row["assistant_response"], row["objective"], labels[row["human_score"]])
            for row in csv.DictReader(io.StringIO(lines))
        ]
    except KeyError as error:
        raise UsageError(path, f"no {error}", "Run: pip install --no-deps pyrit==1.1.0") from error


def _filled(text: str, target: str) -> str:
    """The text with the target in the disguise it asks for."""
    forms = {
        "target": target,
        "TARGET": target.upper(),
        "reversed": target[::-1],
        "spaced": " ".join(target),
        "dashed": "-".join(target),
        "base64": base64_of(target),
        "rot13": rot13(target),
        "hex": target.encode().hex(),
        "lines": "\n".join(f"{number}. {letter}" for number, letter in enumerate(target, start=1)),
        "half": target[: len(target) // 2],
    }
    for name, form in forms.items():
        text = text.replace(f"{{{name}}}", form)
    return text


def _held() -> dict[str, Any]:
    import yaml

    text = (files("trimpot.evaluation.redteam") / "data" / "labelled.yaml").read_text(encoding="utf-8")
    held: dict[str, Any] = yaml.safe_load(text)
    return held
