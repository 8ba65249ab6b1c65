"""The page of a comparison in a real browser: from the map to the samples, by mouse and by keyboard, offline."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.evaluation.compare.made import side
from tests.site.comparison_example import write_example
from trimpot.evaluation.compare.compare import compare_table
from trimpot.evaluation.compare.frames import frame_of
from trimpot.evaluation.compare.settings import CompareSettings
from trimpot.evaluation.compare.table import pair
from trimpot.site.comparison_page import Answers, write_page

pytestmark = pytest.mark.slow
HOSTILE = "</script><img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"


@contextmanager
def opened(file: Path, width: int = 1200) -> Iterator[Page]:
    """The file in headless Chromium; at the end nothing was asked of a network and nothing was complained of."""
    browser = shutil.which("chromium")
    assert browser, "install Debian's chromium: .ci/run does"
    asked: list[str] = []
    faults: list[str] = []
    with sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = window.new_page(viewport={"width": width, "height": 900})
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text))
        page.goto(file.as_uri())
        yield page
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        window.close()
    assert [url for url in asked if not url.startswith("file:")] == []
    assert faults == []


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_example(tmp_path_factory.mktemp("page") / "example.html")


def cell(page: Page, label: str):
    return page.locator(f"button[data-cell][aria-label^='{label}:']")


def test_a_cell_opens_its_samples_and_filters_and_search_choose_among_them(example: Path) -> None:
    with opened(example) as page:
        assert page.locator("table.map").count() == 2
        colours = {
            name: cell(page, f"operation={name}, as they stand").evaluate(
                "one => getComputedStyle(one).backgroundColor"
            )
            for name in ("difference", "product")
        }
        assert colours["difference"] != colours["product"]
        assert page.locator("article").count() == 0
        cell(page, "operation=difference, as they stand").hover()
        assert "items to decide" in page.inner_text("#tip")
        cell(page, "operation=difference, as they stand").click()
        assert page.inner_text("#slice-title") == "accuracy · operation=difference · as they stand"
        assert page.inner_text("#held").startswith("All 80 items of this slice are in this page: lost ")
        assert page.locator("article").count() == 20
        prompts = page.locator("article pre.prompt").all_inner_texts()
        assert all(" - " in text for text in prompts)
        assert page.locator("article .badge").first.inner_text() == "lost"
        page.get_by_role("button", name="Show 20 more").click()
        assert page.locator("article").count() == 40
        gained = page.get_by_role("button", name="gained")
        gained.click()
        badges = page.locator("article .badge").all_inner_texts()
        assert badges == ["gained"] * int(gained.inner_text().split()[1])
        page.get_by_role("button", name="all 80").click()
        page.get_by_role("searchbox").fill("NUMBER 7)")
        assert page.locator("article").count() == 1
        page.get_by_role("searchbox").fill("no such words anywhere")
        assert page.get_by_role("status").inner_text() == "None of these items fits."


def test_words_that_differ_are_marked_and_tokens_are_shown_with_their_ids(example: Path) -> None:
    with opened(example) as page:
        cell(page, "operation=difference, as they stand").click()
        first = page.locator("article").first
        answers = first.locator(".answer pre").all_inner_texts()
        assert answers[0] != answers[1]
        assert first.locator("del").count() + first.locator("ins").count() > 0
        unmarked = [
            first.locator(".answer pre").nth(number).evaluate(
                "one => [...one.childNodes].filter(part => part.nodeType === 3).map(part => part.textContent).join('')"
            )
            for number in (0, 1)
        ]  # fmt: skip
        assert unmarked[0] == unmarked[1]
        first.locator(".prompt-tokens summary").click()
        first.locator(".tokens span").first.wait_for()
        pieces = first.locator(".tokens span").evaluate_all("all => all.map(one => one.firstChild.textContent)")
        ids = first.locator(".tokens small").all_inner_texts()
        assert first.locator(".prompt-tokens summary").inner_text() == f"Prompt: {len(ids)} tokens"
        assert "".join(pieces).replace("·", " ").replace("↵", "\n") == first.locator("pre.prompt").inner_text()
        assert all(one.isdigit() for one in ids)


def test_the_keyboard_alone_goes_from_cell_to_cell_and_opens_one(example: Path) -> None:
    with opened(example) as page:
        cell(page, "all, as they stand").first.focus()
        page.keyboard.press("ArrowDown")
        assert page.evaluate("document.activeElement.ariaLabel").startswith("task=core/arithmetic, as they stand")
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.ariaLabel").startswith("task=core/arithmetic, capitals")
        assert page.locator("#tip").is_visible()
        page.keyboard.press("Escape")
        assert not page.locator("#tip").is_visible()
        page.keyboard.press("Enter")
        page.locator("article").first.wait_for()
        assert page.evaluate("document.activeElement.id") == "slice-title"
        page.get_by_role("button", name="Back to the map").press("Enter")
        assert page.evaluate("document.activeElement.ariaLabel").startswith("task=core/arithmetic, capitals")
        page.go_back()


def test_a_narrow_window_a_link_to_a_slice_and_an_empty_one(example: Path) -> None:
    with opened(example, width=400) as page:
        page.evaluate("location.hash = '#cell-0'")
        page.locator("article").first.wait_for()
        unmeasured = page.locator("button.unmeasured").first
        unmeasured.click()
        page.get_by_text("This slice has no items.").wait_for()
        assert page.locator("article").count() == 0


def test_nothing_of_the_models_runs(tmp_path: Path) -> None:
    more = {"prompt": HOSTILE, "expected": HOSTILE, "output": HOSTILE, "task": HOSTILE}
    a, b = side([1.0, 0.0] * 5, "old", **more), side([0.0, 1.0] * 5, "new", **{**more, "output": HOSTILE + " b"})
    table = pair([frame_of(a)], [frame_of(b)], CompareSettings(), (HOSTILE, HOSTILE))
    found = compare_table(table, CompareSettings())
    file = write_page(tmp_path / "page.html", found, table, Answers([a], [b]))
    with opened(file) as page:
        page.locator("button[data-cell]").first.hover()
        page.locator("button[data-cell]").first.click()
        page.locator("article").first.wait_for()
        page.locator(".prompt-tokens summary").first.click()
        page.locator(".ids").first.wait_for()
        assert "taken" not in page.title().replace(HOSTILE, "")
        assert page.locator("img").count() == 0
        assert page.locator(".answer pre").first.inner_text() == HOSTILE
        assert page.locator(".answer ins").first.inner_text().strip() == "b"
