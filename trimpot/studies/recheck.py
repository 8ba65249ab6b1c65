"""Whether the verdicts of an evidence file follow from the numbers beside them: the rule is applied once more."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.knobs.evidence import ClaimTest, Control, Evidence, read_evidence
from trimpot.knobs.schema import Claim
from trimpot.studies.decide import decide
from trimpot.studies.study import RULE, Budget, Study

TOLERANCE = 1e-6
"""Relative difference that other versions of the numerical libraries may make."""


def check_verdicts(folders: Collection[Path], studies: Mapping[str, Study]) -> list[str]:
    """A line for each evidence file whose verdicts or numbers are not what its own runs give by its plan's rule.

    A hash shows that a file was changed, not what was changed before it was hashed. Files that are no evidence, as
    `check_evidence` reports them, are passed over, and so is evidence under a plan that today's study no longer has.
    """
    problems = []
    for file in sorted(path for folder in folders for path in folder.glob("*.json")):
        try:
            evidence = read_evidence(file)
        except UsageError:
            continue
        study = studies.get(evidence.study)
        wrong = [] if study is None else differing(evidence, study)
        if wrong:
            problems.append(f"{file}: its runs do not give what it says of {', '.join(wrong)}")
    return problems


def differing(evidence: Evidence, study: Study) -> list[str]:
    """The claims, and ``control``, of which the evidence says something else than its runs give."""
    plan = evidence.plan
    if plan is None or not _same_tests(plan, evidence, study):
        return []
    planned = plan["claims"]
    asked = dataclasses.replace(
        study,
        claims={name: entry["test"] for name, entry in planned.items()},
        margins={name: entry["margin"] for name, entry in planned.items() if entry["margin"] is not None},
    )
    claims = {
        name: Claim.model_construct(id=name, statement=entry["statement"], direction=entry["direction"])
        for name, entry in planned.items()
    }
    budget = Budget(evidence.arms, len(evidence.seeds), plan["settings"])
    tested, control = decide(asked, budget, evidence.results, evidence.seeds, claims)
    wrong = [name for name in evidence.tested if not _same(evidence.tested[name], tested.get(name))]
    return wrong + ([] if _same(evidence.control, control) else ["control"])


def _same_tests(plan: Mapping[str, Any], evidence: Evidence, study: Study) -> bool:
    """Whether the study still tests what the plan says, by the same rule."""
    tests = study.tests_of(Budget(evidence.arms, len(evidence.seeds), {}))
    today = {
        "rule": RULE,
        "tests": {name: test.describe() for name, test in tests.items()},
        "control": None if study.control is None else study.control.describe(),
    }
    return all(plan.get(name) == value for name, value in json.loads(json.dumps(today)).items())


def _same(stated: ClaimTest | Control | None, found: ClaimTest | Control | None) -> bool:
    if stated is None or found is None:
        return stated is found
    return _alike(dataclasses.asdict(stated), dataclasses.asdict(found))


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_alike(one[k], other[k]) for k in one)
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=1e-12)
    return bool(one == other)
