"""The status of a claim, computed from the evidence that tested these very words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from trimpot.knobs.evidence import SHIPPED, ClaimTest, Evidence, evidence_of
from trimpot.knobs.library import Library
from trimpot.knobs.schema import Claim, Direction

UNTESTED = "cited, untested"
UNTESTABLE = "cited, untestable here"
WORDS = ("confirmed", "refuted", "inconclusive", UNTESTED, UNTESTABLE)
"""Every status there is: the three verdicts, and two for claims without evidence."""
PREDICTED = "prediction"
"""The test of a sweep's prediction, where it is one comparison, and the setting that holds the prediction's text."""
PREDICTS: Mapping[Direction, str] = {"up": "rises", "down": "falls", "equal": "stays"}
"""A claim's direction, as the prediction of a sweep says it."""


@dataclass(frozen=True)
class Status:
    """A claim with what is known of it. ``word`` is one of WORDS; ``whose`` evidence it is, None without."""

    claim: Claim
    word: str
    whose: str | None = None
    tested: ClaimTest | None = None
    evidence: Evidence | None = None


def claim_statuses(
    claims: Iterable[str], library: Library, shipped: Path = SHIPPED, own: Path | None = None
) -> list[Status]:
    """The status of each claim by each evidence there is for it, or how it is merely cited.

    Evidence of the claim's study comes first, then that of further ones; of each study the user's own first. Evidence
    for other words than the claim's has no say: a statement that was edited counts as untested again.
    """
    found: list[Status] = []
    for name in claims:
        claim = library.claims[name]
        tests = [
            Status(claim, tested.verdict, whose, tested, one)
            for study in claim.studies
            for whose, one in evidence_of(study, shipped, own).items()
            if (tested := _test_of(claim, one)) is not None
        ]
        found += tests or [Status(claim, UNTESTED if claim.untestable is None else UNTESTABLE)]
    return found


def _test_of(claim: Claim, evidence: Evidence) -> ClaimTest | None:
    """The test of the claim's very words, as a claim of the study or as the prediction of a user's sweep.

    A sweep's prediction is a comparison, then a semicolon and words; where these are the claim's, and the comparison
    goes the claim's way, its verdict is the claim's.
    """
    tested = evidence.tested.get(claim.id)
    if tested is not None and tested.statement == claim.statement:
        return tested
    comparison, _, words = str(evidence.conditions.settings.get(PREDICTED, "")).partition("; ")
    predicted = evidence.tested.get(PREDICTED)
    if predicted is None or words != claim.statement or comparison.split()[1:2] != [PREDICTS[claim.direction]]:
        return None
    return replace(predicted, statement=claim.statement)
