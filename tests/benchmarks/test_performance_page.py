"""docs/performance.md and its charts are what tools/performance_page.py makes of benchmarks/results.json."""

import importlib.util
from pathlib import Path

import pytest

from benchmarks.charts import charts, draw, stamp
from benchmarks.results import RESULTS, judged, read_results

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("performance_page", ROOT / "tools" / "performance_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def results():
    return read_results(RESULTS)


def test_the_page_is_current(tool, results):
    assert tool.PAGE.read_text() == tool.performance_page(results), "run: python tools/performance_page.py"


def test_the_charts_are_current(tool, results):
    names = {path.stem for path in tool.IMAGES.glob("*.svg")}
    assert names == set(charts(results)), "run: python tools/performance_page.py"
    for path in tool.IMAGES.glob("*.svg"):
        assert path.read_text().endswith(f"<!-- results {stamp(results)} -->\n"), path.name
        assert f"images/performance/{path.name}" in tool.PAGE.read_text()


def test_the_targets_in_the_file_are_those_of_the_code(results):
    assert results["targets"] == judged(results)


def test_the_page_says_what_is_missing_missed_or_wrong(tool, results):
    pairs = [row for row in results["rows"] if row["peer"] is not None]
    wrong = {**pairs[0], "same_work": False}
    missed = [{**target, "value": 0.1, "reached": False} for target in results["targets"][:1]]
    page = tool.performance_page(
        {**results, "rows": [wrong], "targets": missed, "failures": [{"job": "dpo", "error": "killed"}]}
    )
    assert "(**different work**)" in page
    assert "| dpo | **failed** |" in page
    assert "| **no** |" in page
    assert "not for citing" in tool.performance_page({**results, "load_average": 3.0})
    idle = {**results, "load_average": 0.1, "settings": {**results["settings"], "quick": False}}
    assert "not for citing" not in tool.performance_page(idle)


def test_charts_of_other_results_replace_the_old(results, tmp_path):
    draw(results, tmp_path)
    assert {path.stem for path in tmp_path.glob("*.svg")} == set(charts(results))
    draw({**results, "rows": []}, tmp_path)
    assert list(tmp_path.glob("*.svg")) == []
