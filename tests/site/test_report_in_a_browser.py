"""The report in a real browser: charts are drawn, nothing is fetched, hostile text stays text."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from trimpot.site.report import write_report
from trimpot.store.outcomes import Outcome, write_outcomes
from trimpot.store.run_folder import RunFolder

HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"


def constructed_run(folder: Path) -> RunFolder:
    run = RunFolder.create(folder)
    run.write_recipe("model: constructed\nstages: []\n")
    for index, (name, right) in enumerate([("base", 3), ("sft", 7)]):
        stage = run.stage(name)
        kind = "evaluate" if name == "base" else name
        stage.write_record({"kind": kind, "index": index, "settings": {}, "status": "done", "seconds": 1.0})
        write_outcomes(
            stage.outcomes_path,
            [
                Outcome(
                    run="r", weights=name, task="sums", item=str(item), cluster=str(item), slices={"task": "sums"},
                    perturbation="none", prompt_ids=(1,), prompt=HOSTILE, expected="1", output=HOSTILE,
                    score=float(item < right), status="ok",
                )
                for item in range(10)
            ],
        )  # fmt: skip
    for step in range(1, 6):
        run.stage("sft").append_metrics({"step": step, "loss": 1.0 / step, "grad_norm": 1.0})
    return run


@pytest.mark.slow
def test_report_draws_its_charts_offline_and_runs_nothing_of_the_models(tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    assert browser, "install Debian's chromium: .ci/run does"
    report = write_report(constructed_run(tmp_path / "run"))
    asked: list[str] = []
    faults: list[str] = []
    with sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = window.new_page(viewport={"width": 1200, "height": 3000})
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(report.as_uri())
        page.locator(".marks").nth(2).wait_for()
        title, text = page.title(), page.inner_text("body")
        width = page.evaluate("document.documentElement.scrollWidth")
        window.close()
    assert title != "taken"
    assert "<img src=x onerror=" in text
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert faults == []
    assert width <= 1200
