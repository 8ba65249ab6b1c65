"""docs/evidence.md is what tools/evidence_page.py makes of the evidence, whatever came out of a study."""

import dataclasses
import re
from pathlib import Path

import pytest

from trimpot.core.errors import UsageError
from trimpot.core.hashing import content_hash
from trimpot.core.stats import Estimate
from trimpot.knobs.evidence import SHIPPED, ClaimTest, Conditions, Control, Evidence, read_evidence, write_evidence
from trimpot.knobs.evidence_page import evidence_page
from trimpot.knobs.library import library

DOCS = Path(__file__).parents[2] / "docs"
EFFECT = Estimate(-0.5, -0.7, -0.3, 3, "t")
VERDICTS = {
    "confirmed": "length-division-favours-long-wrong",
    "refuted": "ipo-none",
    "inconclusive": "no-kl-saves-time",
}
MACHINE = {
    "processor": "abacus",
    "cpu_count": 2,
    "memory_bytes": 8e9,
    "python": "3.11.7",
    "versions": {"torch": "2.13"},
}


@pytest.fixture(scope="module")
def page():
    return evidence_page(library())


def section(page, study):
    (found,) = re.findall(rf"\n## {re.escape(study)}\n(.*?)(?=\n## |\Z)", page, re.DOTALL)
    return found


def constructed(study="toy", **changes):
    """Evidence that nothing measured: a claim for each verdict, the arms tuned, one run failed."""
    claims = library().claims
    statements = {name: claims[name].statement if name in claims else "It is so." for name in VERDICTS.values()}
    arms = {"token": {"family": "GRPO", "order": 0}, "sequence": {"family": "GRPO", "order": 1}}
    tuning = {"knob": "learning_rate", "values": [1e-4, 1e-3], "metric": "accuracy", "seeds": [0, 1], "lowest": False}
    planned = {
        name: {"statement": words, "test": "t", "refuted_by": "above 0"} for name, words in statements.items()
    }  # fmt: skip
    plan = {
        "study": study, "question": "Does | it?", "model": "tiny", "scale": "a toy", "budget": "full",
        "rule": "By sign.", "claims": planned,
        "tests": {"t": {"kind": "difference", "metric": "accuracy", "log": False}},
        "arms": arms, "seeds": [10, 11, 12, 20], "settings": {"steps": 5}, "tuning": tuning,
    }  # fmt: skip
    tested = {
        name: ClaimTest(statements[name], "words of it", EFFECT, 0.012, 0.21, verdict)
        for verdict, name in VERDICTS.items()
    }
    results = {
        "token": {str(seed): {"accuracy": 0.5} for seed in (10, 11)},
        "sequence": {str(seed): {"accuracy": 0.7} for seed in (10, 11)},
    }
    values = {
        "study": study, "question": plan["question"], "plan_hash": content_hash(plan), "seeds": (10, 11, 12, 20),
        "arms": arms, "results": results, "failed": ("token, seed 12",), "tested": tested,
        "control": Control("two orders", Estimate(0.01, -0.2, 0.22, 4, "t", 0.99), True), "plan": plan,
        "tuned": {arm: {"chosen": 1e-3, "tried": {"0.0001": 0.4, "0.001": None}} for arm in arms},
        "conditions": Conditions("tiny", "a toy", "full", {"steps": 5, "code": "c0de"}, MACHINE, "abc", "today", 90.0),
    }  # fmt: skip
    return Evidence(**{**values, **changes})


@pytest.fixture
def toy(tmp_path):
    write_evidence(constructed(), tmp_path)
    return section(evidence_page(library(), tmp_path), "toy")


def test_the_page_is_current(page):
    assert (DOCS / "evidence.md").read_text() == page, "run: python tools/evidence_page.py"


def test_every_study_and_every_verdict_is_there(page):
    files = sorted(SHIPPED.glob("*.json"))
    assert files
    for file in files:
        evidence, text = read_evidence(file), section(page, file.stem)
        assert evidence.question in text
        assert f"`trimpot study {file.stem} --budget {evidence.conditions.budget} " in text
        rows = re.findall(r"^\| \*\*(\w+)\*\* \| .*? `([\w-]+)`", text, re.MULTILINE)
        assert rows == [(one.verdict, name) for name, one in evidence.tested.items()]


def test_every_link_leads_somewhere(page):
    headings = {line[3:].strip() for line in page.splitlines() if line.startswith("## ")}
    for file, place in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", page):
        assert not file or (DOCS / file).exists(), file
        assert file or place in headings, place


def test_what_was_refuted_or_seen_by_none_stands_as_what_was_confirmed(toy):
    rows = {
        verdict: next(line for line in toy.splitlines() if line.startswith(f"| **{verdict}** |"))
        for verdict in VERDICTS
    }
    for verdict, name in VERDICTS.items():
        assert f"`{name}`" in rows[verdict]
        assert "| words of it | -0.5 [-0.7, -0.3] | 0.012 | 0.21 |" in rows[verdict]
        assert rows[verdict].endswith("| above 0 |")
    assert "other words than the claim's today" in rows["refuted"]
    assert "other words" not in rows["confirmed"]


def test_a_study_says_on_what_it_ran_and_how_to_run_it_again(toy):
    for words in (
        "Does | it?", "tiny: a toy", "2 arms, 4 seeds: 10–12, 20", "steps 5", "full: 90 s of computing", "code c0de",
        "abacus, 2 cores, 8 GB", "torch 2.13", "abc, today", "token, seed 12",
        "`trimpot study toy --budget full --seeds 4`",
        "Control: two orders: +0.01 [-0.2, +0.22] (99% interval), not told from 0, as it must be.",
        "on the seeds 0–1, which are not counted",
        "| token | 0.001 | 0.4 |  |",
        "| sequence | family GRPO, order 1 | 2 | 0.7 |",
    ):  # fmt: skip
        assert words in toy


def test_the_decision_rule_and_the_counts_open_the_page(tmp_path):
    write_evidence(constructed(), tmp_path)
    opening = evidence_page(library(), tmp_path).partition("\n## toy\n")[0]
    assert "Studies: 1; of their tests 1 confirmed, 1 refuted, 1 inconclusive." in opening
    assert "| [toy](#toy) | Does \\| it? | tiny | 1 | 1 | 1 | 4 | 2 min |" in opening
    assert "> By sign." in opening


def test_a_control_that_failed_is_said(tmp_path):
    control = Control("two orders", Estimate(0.3, 0.1, 0.5, 4, "t", 0.99), False)
    write_evidence(constructed(control=control), tmp_path)
    assert "**told from 0, so that no verdict counts**" in evidence_page(library(), tmp_path)


def test_the_chart_is_shown_where_there_is_one(tmp_path, toy):
    assert "![" not in toy
    write_evidence(constructed(), tmp_path)
    (tmp_path / "toy.svg").write_text("<svg/>")
    assert "](../trimpot/knobs/data/evidence/toy.svg)" in evidence_page(library(), tmp_path)


def test_effects_have_the_noise_floor_beside_them(tmp_path, toy):
    assert toy.count("| 0.012 | 0.21 |  | above 0 |") == len(VERDICTS)
    write_evidence(constructed(), tmp_path)
    write_evidence(constructed("label-noise-floor"), tmp_path)
    page = evidence_page(library(), tmp_path)
    # Two seeds of 0.5 and 0.7 in two orders: s = 0.1414, and s √(2 / 4) = 0.1 for four seeds.
    rows = [line for line in section(page, "toy").splitlines() if line.startswith("| **")]
    assert [line.split(" | ")[-2] for line in rows] == ["0.1", "", "0.1"]
    assert "| GRPO | 0.1414 |" in section(page, "label-noise-floor")


def test_a_file_that_was_changed_makes_no_page(tmp_path):
    path = write_evidence(constructed(), tmp_path)
    path.write_text(path.read_text().replace('"verdict": "refuted"', '"verdict": "confirmed"'))
    with pytest.raises(UsageError, match="changed after it was written"):
        evidence_page(library(), tmp_path)


def test_evidence_of_old_without_a_plan_has_its_part(tmp_path):
    write_evidence(dataclasses.replace(constructed(), plan=None, tuned={}), tmp_path)
    text = section(evidence_page(library(), tmp_path), "toy")
    assert "(not kept in the file)" in text
    assert "Tuning: none" in text
