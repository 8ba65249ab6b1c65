"""The status of a claim, computed from the evidence that tested these very words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from trimpot.knobs.evidence import SHIPPED, ClaimTest, Evidence, evidence_of
from trimpot.knobs.library import Library
from trimpot.knobs.schema import Claim

UNTESTED = "cited, untested"
UNTESTABLE = "cited, untestable here"
WORDS = ("confirmed", "refuted", "inconclusive", UNTESTED, UNTESTABLE)
"""Every status there is: the three verdicts, and two for claims without evidence."""


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
    """The status of each claim by each evidence there is for it (the user's own first), or how it is merely cited.

    Evidence for other words than the claim's has no say: a statement that was edited counts as untested again.
    """
    found: list[Status] = []
    for name in claims:
        claim = library.claims[name]
        evidence = evidence_of(claim.study, shipped, own) if claim.study else {}
        tests = [
            Status(claim, tested.verdict, whose, tested, one)
            for whose, one in evidence.items()
            if (tested := one.tested.get(claim.id)) is not None and tested.statement == claim.statement
        ]
        found += tests or [Status(claim, UNTESTED if claim.untestable is None else UNTESTABLE)]
    return found
