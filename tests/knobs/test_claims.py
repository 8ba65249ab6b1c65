"""Claims and disagreements: enough of them, all resolved, and their status from evidence alone."""

import pytest

from trimpot.core.stats import Estimate
from trimpot.knobs.check_claims import check_claims, check_disagreements
from trimpot.knobs.claim_text import (
    CITED,
    claim_json,
    claim_line,
    claim_lines,
    disagreement_json,
    disagreement_lines,
    disagreements_of,
)
from trimpot.knobs.evidence import ClaimTest, Conditions, Evidence, write_evidence
from trimpot.knobs.library import Library, library
from trimpot.knobs.schema import Claim, Disagreement, Side, Source
from trimpot.knobs.status import UNTESTABLE, UNTESTED, WORDS, claim_statuses
from trimpot.studies import STUDIES

SOURCE = Source(key="s", title="t", address="a", really="r", verified="primary", how="h")
EFFECT = Estimate(-0.5, -0.7, -0.3, 5, "t")


def claim(name, **changes):
    return Claim(
        id=name, statement=f"{name} it does.", source="s", place="table 1", condition="c", metric="y",
        direction="down", **changes,
    )  # fmt: skip


CLAIMS = {
    one.id: one
    for one in (
        *(claim(name, study="toy") for name in ("confirmed", "refuted", "inconclusive", "reworded", "blind")),
        claim("planned"),
        claim("far", untestable="lacks 512 GPUs", number=76),
    )
}
MARGINS = [claim for study in STUDIES.values() for claim in study.margins]
SIDES = (Side(claim="confirmed"), Side(claim="planned"), Side(statement="It is 2.", source="s", place="table 2"))
KNOWN = Library({"s": SOURCE}, CLAIMS, {}, {"d": Disagreement(id="d", question="?", sides=SIDES, decides="a run")})


def evidence():
    def tested(name, smallest=0.2):
        words = "Other words." if name == "reworded" else CLAIMS[name].statement
        verdict = name if name in WORDS else "inconclusive" if name == "blind" else "confirmed"
        return ClaimTest(words, "slope", EFFECT, 0.01, smallest, verdict)

    names = ("confirmed", "refuted", "inconclusive", "reworded")
    return Evidence(
        study="toy", question="?", plan_hash="0" * 16, seeds=(0, 1), arms={}, results={}, failed=(), control=None,
        tested={**{name: tested(name) for name in names}, "blind": tested("blind", None)},
        conditions=Conditions("tiny", "a toy", "quick", {}, {}, None, "2026-11-24", 1.0),
    )  # fmt: skip


@pytest.fixture
def statuses(tmp_path):
    write_evidence(evidence(), tmp_path)

    def of(name):
        return claim_statuses([name], KNOWN, shipped=tmp_path, own=tmp_path / "none")

    return of


def changed(name, **changes):
    one = CLAIMS[name].model_copy(update=changes)
    return Library({"s": SOURCE}, {**CLAIMS, name: one}, library().cards)


def test_there_are_enough_and_each_names_what_there_is():
    claims = library().claims.values()
    of_the_list = [one for one in claims if library().sources[one.source].reading_list is not None]
    assert len(of_the_list) >= 60
    assert check_claims(library(), STUDIES, MARGINS) == []
    assert check_disagreements(library(), STUDIES) == []
    studied = [one for one in claims if one.study is not None]
    assert {one.study for one in studied} <= STUDIES.keys()
    assert all(one.id in STUDIES[one.study].claims for one in studied)
    assert all(one.untestable.startswith("lacks ") for one in claims if one.untestable is not None)


def test_the_disagreements_that_must_be_there_are_there():
    pairs = [
        {side.claim or side.source for side in one.sides} & {*library().claims, "grpo", "trl"}
        for one in library().disagreements.values()
    ]
    for both in (
        {"grpo", "trl"},
        {"large-batch-generalises-worse", "tuned-large-batch-loses-nothing"},
        {"spend-on-parameters", "tokens-double-with-parameters"},
        {"dpo-raises-chosen", "dpo-suppresses-rejected"},
    ):
        assert any(both <= sides for sides in pairs), both
    assert {"grpo-kl", "grpo-group-size", "grpo-normalisation"} <= library().disagreements.keys()


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("confirmed", "confirmed"),
        ("refuted", "refuted"),
        ("inconclusive", "inconclusive"),
        ("reworded", UNTESTED),
        ("planned", UNTESTED),
        ("far", UNTESTABLE),
    ],
)
def test_a_status_follows_from_the_evidence(statuses, name, word):
    (found,) = statuses(name)
    assert found.word == word
    assert found.word in WORDS
    assert claim_line([found])[0] == f"{word}:"
    assert claim_json([found], KNOWN)["status"] == word


def test_a_status_cannot_be_typed_in(tmp_path):
    assert "status" not in Claim.model_fields
    assert {one.word for one in claim_statuses(CLAIMS, KNOWN, tmp_path, tmp_path)} <= {UNTESTED, UNTESTABLE}


def test_an_inconclusive_claim_says_what_the_study_could_see(statuses):
    assert claim_line(statuses("inconclusive"))[1].endswith("[inconclusive]; could see 0.2")
    assert claim_line(statuses("blind"))[1].endswith("; too few seeds, or no spread between them")
    assert "could see" not in claim_line(statuses("confirmed"))[1]
    assert claim_json(statuses("inconclusive"), KNOWN)["smallest_effect"] == 0.2
    assert claim_json(statuses("planned"), KNOWN)["smallest_effect"] is None


def test_one_claim_in_full_has_place_condition_and_evidence(statuses):
    text = "\n".join(f"{head} {rest}" for head, rest in claim_lines(statuses("refuted"), KNOWN))
    assert "source: s, table 1" in text
    assert "refuted (shipped): slope: -0.5 [-0.7, -0.3], Holm p 0.01" in text
    assert "study: toy, quick, 2 seeds, on tiny: a toy" in text
    far = "\n".join(f"{head} {rest}" for head, rest in claim_lines(statuses("far"), KNOWN))
    assert "metric: y, down, 76 in the source" in far
    assert f"{UNTESTABLE}: lacks 512 GPUs" in far
    assert (f"{UNTESTED}:", "study toy has no evidence for these words") in claim_lines(statuses("reworded"), KNOWN)
    assert (f"{UNTESTED}:", "no study yet") in claim_lines(statuses("planned"), KNOWN)
    (one,) = claim_json(statuses("confirmed"), KNOWN)["evidence"]
    assert (one["whose"], one["verdict"], one["seeds"], one["tested"]["p_value"]) == ("shipped", "confirmed", 2, 0.01)


def test_the_users_own_evidence_stands_first(tmp_path):
    shipped, own = tmp_path / "shipped", tmp_path / "own"
    for folder in (shipped, own):
        write_evidence(evidence(), folder)
    found = claim_statuses(["refuted"], KNOWN, shipped, own)
    assert claim_line(found)[0] == "refuted (yours; shipped: refuted):"


def test_a_disagreement_shows_both_sides_with_their_status(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    beta = library().disagreements["beta-direction"]
    heads = [head for head, _ in disagreement_lines(beta, library())]
    assert heads == ["beta-direction:", "confirmed:", "refuted:", "decides:"]
    sides = disagreement_json(library().disagreements["grpo-kl"], library())["sides"]
    assert [(side["source"], side["status"]) for side in sides] == [("grpo", CITED), ("trl", CITED)]
    assert disagreement_lines(KNOWN.disagreements["d"], KNOWN)[-1] == ("decides:", "no study yet: a run")
    assert [one.id for one in disagreements_of("planned", KNOWN)] == ["d"]
    assert disagreements_of("far", KNOWN) == []


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("planned", {"source": "nobody"}, "claim planned: source 'nobody' is unknown"),
        ("confirmed", {"study": "none"}, "claim confirmed: study 'none' is unknown"),
        ("confirmed", {"untestable": "lacks it"}, "claim confirmed: names a study and a reason why none can test it"),
        (
            "confirmed",
            {"direction": "equal"},
            "claim confirmed: says equal, and no study says within which margin",
        ),
        ("planned", {"knob": "dpo.bta"}, "claim planned: card 'dpo.bta' is unknown"),
        ("planned", {"statement": "It is 2.", "place": " "}, "claim planned: has a number without a place"),
        ("far", {"place": ""}, "claim far: has a number without a place"),
        ("far", {"untestable": " "}, "claim far: is untestable, but names nothing that is missing"),
        ("planned", {"condition": ""}, "claim planned: has no condition; write that the source gives none"),
    ],
)
def test_the_check_finds_what_is_wrong_with_a_claim(name, changes, words):
    assert check_claims(changed(name, **changes), {"toy"}) == [words]
    assert check_claims(changed(name), {"toy"}) == []


def test_a_claim_of_equality_is_tested_within_a_margin():
    equal = changed("confirmed", direction="equal")
    assert check_claims(equal, {"toy"}, ["confirmed"]) == []
    assert check_claims(equal, {"toy"}, ["refuted"]) != []


def test_a_claim_on_a_card_has_that_card_as_its_knob():
    base = library()
    one = base.claims["dpo-chosen-falls"].model_copy(update={"knob": "ipo"})
    moved = Library(base.sources, {**base.claims, one.id: one}, base.cards)
    assert check_claims(moved, STUDIES, MARGINS) == [
        "claim dpo-chosen-falls: is on the card dpo.beta, but its knob is 'ipo'"
    ]
    shown = base.cards["ipo"].claims
    assert base.claims_of("ipo")[: len(shown)] == list(shown)
    assert "people-prefer-dpo" not in base.cards["dpo.loss"].claims
    assert "people-prefer-dpo" in base.claims_of("dpo.loss")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"study": "none"}, "disagreement d: study 'none' is unknown"),
        ({"knob": "none"}, "disagreement d: card 'none' is unknown"),
        ({"decides": " "}, "disagreement d: does not say what decides"),
        ({"sides": (*SIDES, Side(claim="none"))}, "disagreement d: sides[3]: claim 'none' is unknown"),
        (
            {"sides": (*SIDES, Side(statement="a", source="none", place="p"))},
            "disagreement d: sides[3]: source 'none' is unknown",
        ),
    ],
)
def test_the_check_finds_what_is_wrong_with_a_disagreement(changes, words):
    one = KNOWN.disagreements["d"].model_copy(update=changes)
    assert check_disagreements(Library({"s": SOURCE}, CLAIMS, {}, {"d": one}), {"toy"}) == [words]
    assert check_disagreements(KNOWN, {"toy"}) == []
