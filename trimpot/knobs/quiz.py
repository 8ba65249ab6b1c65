"""The quiz: one's own prediction on measured claims, written down before the measured answer is shown.

A question is a quantity that a study measured. What the claims say of it is shown with the answer only: their words
would give it away. Predictions go to a log in the user's folder, one line each, never changed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.core.stats import Estimate
from trimpot.knobs.evidence import SHIPPED, ClaimTest, user_folder
from trimpot.knobs.library import Library
from trimpot.knobs.schema import Direction, Topic
from trimpot.knobs.status import Status, claim_statuses
from trimpot.knobs.text import estimate_text
from trimpot.knobs.topic_text import topic_of_claim
from trimpot.store.environment import now
from trimpot.store.jsonl import append_line, read_lines

RISES, FALLS, NO_DIFFERENCE = PREDICTIONS = ("rises", "falls", "no difference seen")
"""What can be predicted, and what can have been measured: above 0, below 0, or not told from 0."""
_SHORT = {"r": RISES, "rise": RISES, "f": FALLS, "fall": FALLS, "n": NO_DIFFERENCE, "no difference": NO_DIFFERENCE}


@dataclass(frozen=True)
class Question:
    """A measured quantity with the verdicts that it gave on claims (never none), and whose evidence it is."""

    verdicts: tuple[Status, ...]

    @property
    def _test(self) -> ClaimTest:
        tested = self.verdicts[0].tested
        assert tested is not None
        return tested

    @property
    def effect(self) -> Estimate:
        return self._test.effect

    @property
    def measured(self) -> str:
        """One of PREDICTIONS."""
        return answer_of(self.verdicts[0].claim.direction, self._test)

    def keys(self) -> set[tuple[str, str]]:
        """Claim and plan of every verdict: what tells whether it was asked before."""
        return {(one.claim.id, one.evidence.plan_hash) for one in self.verdicts if one.evidence is not None}

    def lines(self) -> list[str]:
        """The question: what was asked of which model, and the quantity; nothing that the claims say."""
        evidence = self.verdicts[0].evidence
        assert evidence is not None
        where = f"{evidence.study}, on {evidence.conditions.model}, {len(evidence.seeds)} seeds"
        return [
            f"{evidence.question} ({where})",
            f"Measured was: {self._test.quantity}.",
            "Does it rise (above 0), fall (below 0), or was no difference seen?",
        ]

    def answer_lines(self, prediction: str) -> list[str]:
        """The measured answer with its interval, whether the prediction was right, and the claims it decides."""
        right = "right" if prediction == self.measured else "not what was measured"
        interval = f"{estimate_text(self.effect)}, {self.effect.level:.0%} interval over {self.effect.n} seeds"
        if self.measured == NO_DIFFERENCE and self.effect.excludes(0.0):
            interval += f"; {self._why_not()}"
        lines = [f"Measured: {self.measured} ({interval}). You said {prediction}: {right}."]
        return lines + [f"{one.word}: {one.claim.statement} ({one.claim.source})" for one in self.verdicts]

    def _why_not(self) -> str:
        """Why an effect whose interval excludes 0 is no difference."""
        if self._test.margin is not None:
            return f"within ±{self._test.margin:g}, which counts as equal"
        p = self._test.p_value
        if p is None or p <= 1 - self.effect.level:
            return "the study's control differs, so nothing counts"
        return f"among the study's tests it does not count, Holm p {p:.2g}"

    def record(self, prediction: str) -> dict[str, Any]:
        """The prediction with what was measured, JSON-able. ``verdicts``: claim -> verdict; ``time`` in UTC."""
        evidence = self.verdicts[0].evidence
        assert evidence is not None
        return {
            "time": now(),
            "claim": self.verdicts[0].claim.id,
            "study": evidence.study,
            "plan_hash": evidence.plan_hash,
            "evidence": self.verdicts[0].whose,
            "quantity": self._test.quantity,
            "prediction": prediction,
            "measured": self.measured,
            "right": prediction == self.measured,
            "effect": dataclasses.asdict(self.effect),
            "verdicts": {one.claim.id: one.word for one in self.verdicts},
        }


def predictions_file() -> Path:
    """Where the user's predictions are kept."""
    return user_folder().parent / "predictions.jsonl"


def answer_of(direction: Direction, tested: ClaimTest) -> str:
    """What was measured, as one of PREDICTIONS: the sign of an effect that counts, else no difference.

    An effect counts when the claim was confirmed or refuted; for a claim that it is equal, when that was not confirmed
    and the interval excludes 0.
    """
    effect = tested.effect
    if direction == "equal":
        counts = tested.verdict != "confirmed" and effect.excludes(0.0)
    else:
        counts = tested.verdict != "inconclusive"
    if not counts or effect.value is None or effect.value == 0:
        return NO_DIFFERENCE
    return RISES if effect.value > 0 else FALLS


def questions(
    library: Library, topic: Topic | None = None, shipped: Path = SHIPPED, own: Path | None = None
) -> list[Question]:
    """A question for every measured quantity of the topic (None: of all), in the order of the claims.

    Claims that one quantity decides make one question. Of a study run here again the user's own evidence counts.
    """
    chosen = [claim.id for claim in library.claims.values() if topic is None or topic_of_claim(claim, library) == topic]
    grouped: dict[tuple[str, str, str], list[Status]] = {}
    seen: set[tuple[str, str]] = set()
    for one in claim_statuses(chosen, library, shipped, own):
        # The user's own evidence of a study comes first.
        if one.tested is None or one.evidence is None or (one.claim.id, one.evidence.study) in seen:
            continue
        seen.add((one.claim.id, one.evidence.study))
        grouped.setdefault((one.evidence.study, one.evidence.plan_hash, one.tested.quantity), []).append(one)
    return [Question(tuple(verdicts)) for verdicts in grouped.values()]


def unasked(all_questions: Iterable[Question], kept: Sequence[Mapping[str, Any]]) -> list[Question]:
    """The questions to which no answer is kept: whoever has seen an answer cannot predict it."""
    known = {(claim, record["plan_hash"]) for record in kept for claim in record["verdicts"]}
    return [question for question in all_questions if not question.keys() & known]


def read_prediction(text: str) -> str | None:
    """The prediction that a line means; its first letter is enough. None when it means none."""
    word = " ".join(text.lower().split())
    return word if word in PREDICTIONS else _SHORT.get(word)


def keep(record: Mapping[str, Any], file: Path | None = None) -> None:
    """Appends a prediction to the log.

    Raises:
        UsageError: the disk is full; the predictions before are untouched.
    """
    append_line(file or predictions_file(), record)


def kept_predictions(file: Path | None = None) -> list[dict[str, Any]]:
    """All predictions in the log, oldest first.

    Raises:
        UsageError: a line is not a prediction.
    """
    path = file or predictions_file()
    records = read_lines(path)
    for number, record in enumerate(records, start=1):
        if not {"verdicts", "plan_hash", "right"} <= record.keys():
            raise UsageError(f"{path}:{number}", "is no prediction", "Remove the line.")
    return records


def score(records: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many predictions were made, and how many were right."""
    right = [bool(record["right"]) for record in records]
    return {"predictions": len(right), "right": sum(right)}
