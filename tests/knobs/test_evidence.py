"""Evidence files: written whole, read back equal, tampering named; the user's own stands before the shipped."""

import dataclasses
import json

import pytest

from trimpot.core.errors import UsageError
from trimpot.core.stats import Estimate
from trimpot.knobs.check import check_cards
from trimpot.knobs.evidence import ClaimTest, Conditions, Control, Evidence, evidence_of, read_evidence, write_evidence
from trimpot.knobs.library import library
from trimpot.knobs.status import UNTESTED, claim_statuses
from trimpot.knobs.text import by_claim, card_lines

CLAIM = "dpo-larger-beta-stays-closer"


def evidence(verdict="confirmed", statement=None):
    effect = Estimate(-0.5, -0.7, -0.3, 5, "t")
    words = statement or library().claims[CLAIM].statement
    return Evidence(
        study="dpo-beta", question="?", plan_hash="0" * 16, seeds=(0, 1), arms={"a": {"beta": 0.1}},
        results={"a": {"0": {"kl": 1.0}, "1": {"kl": 2.0}}}, failed=(),
        tested={CLAIM: ClaimTest(words, "slope", effect, 0.01, 0.2, verdict)},
        control=Control("difference", Estimate(0.0, -1.0, 1.0, 5, "t", 0.99), True),
        conditions=Conditions("tiny-0.1m", "tiny", "quick", {"steps": 1}, {"cpu_count": 2}, None, "2026-11-24", 1.0),
    )  # fmt: skip


def test_it_comes_back_as_it_was(tmp_path):
    assert read_evidence(write_evidence(evidence(), tmp_path)) == evidence()


@pytest.mark.parametrize(
    ("old", "new"), [("confirmed", "refuted"), ("-0.5", "-0.6"), ('"kl": 1.0', '"kl": 1.1'), ('"quick"', '"full"')]
)
def test_tampering_is_found_and_named(tmp_path, old, new):
    path = write_evidence(evidence(), tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UsageError, match="changed after it was written") as raised:
        read_evidence(path)
    assert raised.value.where == str(path)
    problems = check_cards(library(), {}, {}, (), [tmp_path])
    assert any("changed after it was written" in problem for problem in problems)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"content_hash": "0"}'])
def test_what_is_no_evidence_is_named(tmp_path, text):
    (tmp_path / "dpo-beta.json").write_text(text)
    with pytest.raises(UsageError, match=r"dpo-beta\.json"):
        read_evidence(tmp_path / "dpo-beta.json")


def test_unknown_fields_are_of_another_version(tmp_path):
    path = write_evidence(evidence(), tmp_path)
    content = json.loads(path.read_text())
    content["extra"] = 1
    del content["content_hash"]
    from trimpot.core.hashing import content_hash

    path.write_text(json.dumps({"content_hash": content_hash(content), **content}))
    with pytest.raises(UsageError, match="another version"):
        read_evidence(path)


def test_the_users_own_evidence_comes_first_and_is_called_so(tmp_path):
    shipped, own = tmp_path / "shipped", tmp_path / "own"
    write_evidence(evidence(), shipped)
    write_evidence(evidence("inconclusive"), own)
    assert list(evidence_of("dpo-beta", shipped, own)) == ["yours", "shipped"]
    known = library()
    statuses = claim_statuses([CLAIM], known, shipped, own)
    assert [(one.whose, one.word) for one in statuses] == [("yours", "inconclusive"), ("shipped", "confirmed")]
    lines = card_lines(known.cards["dpo.beta"], known, statuses)
    assert len(by_claim(statuses)) == 1
    assert any(head == "inconclusive (yours; shipped: confirmed):" for head, _ in lines)
    assert max(len(f"{head} {rest}") for head, rest in lines) <= 100


def test_evidence_for_other_words_does_not_count(tmp_path):
    write_evidence(evidence(statement="A larger β ends nearer to the moon."), tmp_path)
    (found,) = claim_statuses([CLAIM], library(), tmp_path, tmp_path / "none")
    assert found.word == UNTESTED


def test_the_status_is_the_evidences_verdict(tmp_path):
    for verdict in ("confirmed", "refuted", "inconclusive"):
        write_evidence(dataclasses.replace(evidence(verdict)), tmp_path)
        (found,) = claim_statuses([CLAIM], library(), tmp_path, tmp_path / "none")
        assert found.word == verdict
