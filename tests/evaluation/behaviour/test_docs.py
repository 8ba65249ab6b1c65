import re
from pathlib import Path

from trimpot.evaluation.behaviour.perturbations import PERTURBATIONS
from trimpot.evaluation.behaviour.read import read_suite

PAGE = (Path(__file__).parents[3] / "docs/behaviour.md").read_text(encoding="utf-8")


def test_the_suite_on_the_page_is_one(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1])
    suite = read_suite(path)
    assert [test.type for test in suite.tests] == ["MFT", "INV", "DIR"]
    assert [len(test.cases) for test in suite.tests] == [6, 3, 3]


def test_the_page_counts_the_core_suite_and_names_every_perturbation():
    suite = read_suite("core")
    cases = [case for test in suite.tests for case in test.cases]
    prompts = sum(len(case.examples) for case in cases)
    assert f"{len(suite.tests)} tests of 11 capabilities" in PAGE
    assert f"{len(cases)} cases and {prompts:,} prompts" in PAGE
    assert [name for name in PERTURBATIONS if name not in PAGE] == []
