"""Evidence as shipped: of whole runs, of today's arms, with the verdicts that the rule gives for its own numbers."""

import pytest

from trimpot.knobs.evidence import SHIPPED, read_evidence
from trimpot.knobs.library import library
from trimpot.studies import STUDIES
from trimpot.studies.decide import decide

NAMES = sorted(path.stem for path in SHIPPED.glob("*.json"))


@pytest.mark.parametrize("name", [name for name in NAMES if STUDIES[name].claims])
def test_verdicts_follow_from_the_numbers(name):
    evidence, study = read_evidence(SHIPPED / f"{name}.json"), STUDIES[name]
    assert evidence.conditions.budget == "full"
    budget = study.budgets["full"]
    assert {arm: dict(values) for arm, values in budget.arms.items()} == evidence.arms
    tested, control = decide(study, budget, evidence.results, evidence.seeds, library().claims)
    assert tested == evidence.tested
    assert control == evidence.control
    assert len(evidence.seeds) >= (5 if study.model.startswith("tiny") else 3)


def test_a_claim_is_shown_refuted_or_undecided():
    verdicts = {one.verdict for name in NAMES for one in read_evidence(SHIPPED / f"{name}.json").tested.values()}
    assert verdicts >= {"confirmed", "refuted", "inconclusive"}
