"""A claim that several studies test: one gives its status, the others say what they found on their model."""

import pytest

from trimpot.core.stats import Estimate
from trimpot.knobs.check_claims import check_claims
from trimpot.knobs.claim_text import claim_json, claim_line, claim_lines
from trimpot.knobs.evidence import ClaimTest, Conditions, Evidence, write_evidence
from trimpot.knobs.library import Library
from trimpot.knobs.schema import Claim, Source
from trimpot.knobs.source_text import source_json
from trimpot.knobs.status import UNTESTED, claim_statuses

SOURCE = Source(key="s", title="t", address="a", really="r", verified="primary", how="h")
CLAIM = Claim(
    id="falls", statement="It falls.", source="s", place="table 1", condition="c", metric="y", direction="down",
    study="small", also=("large",),
)  # fmt: skip
KNOWN = Library({"s": SOURCE}, {"falls": CLAIM}, {})


def evidence(study, model, verdict):
    tested = ClaimTest(CLAIM.statement, "slope", Estimate(-0.5, -0.7, -0.3, 5, "t"), 0.01, 0.2, verdict)
    return Evidence(
        study=study, question="?", plan_hash="0" * 16, seeds=(0, 1), arms={}, results={}, failed=(), control=None,
        tested={"falls": tested}, conditions=Conditions(model, "a toy", "quick", {}, {}, None, "2026-11-24", 1.0),
    )  # fmt: skip


@pytest.fixture
def folders(tmp_path):
    shipped, own = tmp_path / "shipped", tmp_path / "own"
    write_evidence(evidence("small", "tiny", "confirmed"), shipped)
    write_evidence(evidence("large", "135m", "refuted"), shipped)
    return shipped, own


def test_the_first_study_gives_the_status_and_the_others_are_shown_with_their_model(folders):
    statuses = claim_statuses(["falls"], KNOWN, *folders)
    assert [(one.word, one.evidence.study) for one in statuses] == [("confirmed", "small"), ("refuted", "large")]
    head, text = claim_line(statuses)
    assert head == "confirmed:"
    assert text.endswith("; on 135m: refuted")
    whole = "\n".join(f"{head} {rest}" for head, rest in claim_lines(statuses, KNOWN))
    assert "study: small, quick" in whole
    assert "study: large, quick" in whole
    found = claim_json(statuses, KNOWN)
    assert found["status"] == "confirmed"
    assert [one["verdict"] for one in found["evidence"]] == ["confirmed", "refuted"]


def test_the_users_own_stands_before_what_is_shipped_of_the_same_study(folders):
    write_evidence(evidence("small", "tiny", "inconclusive"), folders[1])
    head, text = claim_line(claim_statuses(["falls"], KNOWN, *folders))
    assert head == "inconclusive (yours; shipped: confirmed):"
    assert text.endswith("; on 135m: refuted")


def test_without_evidence_of_the_first_study_the_next_one_speaks(folders):
    (folders[0] / "small.json").unlink()
    (only,) = claim_statuses(["falls"], KNOWN, *folders)
    assert (only.word, only.evidence.study) == ("refuted", "large")


def test_a_source_shows_the_verdict_of_each_study(folders, monkeypatch):
    monkeypatch.setattr(
        "trimpot.knobs.source_text.claim_statuses", lambda names, known: claim_statuses(names, known, *folders)
    )
    assert source_json(SOURCE, KNOWN)["studies"] == {"small": {"falls": "confirmed"}, "large": {"falls": "refuted"}}
    (folders[0] / "large.json").unlink()
    assert source_json(SOURCE, KNOWN)["studies"]["large"] == {"falls": UNTESTED}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"also": ("none",)}, ["claim falls: study 'none' is unknown"]),
        ({"study": None}, ["claim falls: names further studies, but no first one"]),
    ],
)
def test_the_check_knows_further_studies(changes, words):
    known = Library({"s": SOURCE}, {"falls": CLAIM.model_copy(update=changes)}, {})
    assert check_claims(known, {"small", "large"}) == words
