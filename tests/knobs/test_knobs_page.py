"""docs/knobs.md is what tools/knobs_page.py makes of the data, and its links lead somewhere."""

import re
from pathlib import Path

import pytest

from trimpot.core.stats import Estimate
from trimpot.knobs.evidence import SHIPPED, ClaimTest, Conditions, Evidence, user_folder, write_evidence
from trimpot.knobs.knobs_page import knobs_page
from trimpot.knobs.library import library
from trimpot.knobs.markdown import address_of, anchor, shipped_statuses, table
from trimpot.knobs.status import UNTESTABLE, UNTESTED

DOCS = Path(__file__).parents[2] / "docs"
CLAIM = "dpo-larger-beta-stays-closer"


@pytest.fixture(scope="module")
def page():
    return knobs_page(library())


def constructed(verdict):
    """Evidence that nothing measured."""
    claim = library().claims[CLAIM]
    tested = ClaimTest(claim.statement, "slope", Estimate(-0.5, -0.7, -0.3, 2, "t"), 0.01, 0.2, verdict)
    return Evidence(
        study=claim.study, question="How far?", plan_hash="0" * 16, seeds=(10, 11), arms={}, results={}, failed=(),
        tested={CLAIM: tested}, control=None,
        conditions=Conditions("tiny-0.1m", "tiny", "quick", {}, {}, None, "2026-11-24", 1.0),
    )  # fmt: skip


def headings(text):
    return {anchor(line.lstrip("# ")) for line in text.splitlines() if line.startswith("#")}


def test_the_page_is_current(page):
    assert (DOCS / "knobs.md").read_text() == page, "run: python tools/knobs_page.py"


def test_it_has_every_card_claim_and_disagreement(page):
    known = library()
    for path, card in known.cards.items():
        (section,) = re.findall(rf"\n### {re.escape(path)}\n(.*?)(?=\n##)", page, re.DOTALL)
        assert card.equation.text in section
        for mode in card.fails_when:
            assert mode.detector in section
        for name in known.claims_of(path):
            assert f"`{name}`" in section
    claims = page.partition("\n## Claims\n")[2].partition("\n## Disagreements\n")[0]
    for first, *_ in shipped_statuses(known.claims, known):
        assert f"| **{first.word}** | " in claims
        assert claims.count(f"`{first.claim.id}`") == 1
    assert all(f"`{one}` |" in page.partition("\n## Disagreements\n")[2] for one in known.disagreements)


def test_every_link_leads_to_a_heading(page):
    targets = {"": headings(page)}
    for name in ("detectors.md", "evidence.md"):
        targets[name] = headings((DOCS / name).read_text())
    links = re.findall(r"\]\(([\w./]*)(?:#([^)]+))?\)", page)
    assert len(links) > 200
    for file, place in links:
        assert file in targets
        assert not place or place in targets[file], f"{file}#{place}"


def test_a_status_follows_the_shipped_evidence_and_not_the_users_own(page, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    write_evidence(constructed("refuted"), user_folder())
    assert knobs_page(library()) == page
    assert f"- **refuted**: {library().claims[CLAIM].statement}" in knobs_page(library(), user_folder())
    assert f"- **{UNTESTED}**: {library().claims[CLAIM].statement}" in knobs_page(library(), tmp_path)


def test_without_evidence_every_claim_is_merely_cited(tmp_path):
    known = library()
    assert {one[0].word for one in shipped_statuses(known.claims, known, tmp_path)} == {UNTESTED, UNTESTABLE}
    assert {one[0].word for one in shipped_statuses(known.claims, known, SHIPPED)} > {UNTESTED, UNTESTABLE}


def test_pieces():
    assert table(("a", "b"), [("x|y", "two\nlines")]) == "| a | b |\n| --- | --- |\n| x\\|y | two lines |\n"
    assert anchor("dpo.beta") == "dpobeta"
    assert anchor("2 Training dynamics and optimisation at scale") == "2-training-dynamics-and-optimisation-at-scale"
    sources = library().sources
    assert address_of(sources["dpo"]) == "https://arxiv.org/abs/2305.18290"
    assert address_of(sources["dsel"]) == f"https://{sources['dsel'].right_address}"
    assert address_of(sources["trl"]) == "https://pypi.org/project/trl/1.16.0"
    assert address_of(sources["ours"]) is None
    assert address_of(sources["meta"]) is None
