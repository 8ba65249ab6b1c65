"""Takes the README's picture of a report: the top of a run's report.html in headless Chromium.

.venv/bin/python tools/report_picture.py RUN
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "report.png"


def take(run: Path, picture: Path) -> None:
    """Writes the picture of a run's report."""
    browser = shutil.which("chromium")
    if browser is None:
        raise SystemExit("install Debian's chromium first: apt-get install chromium")
    with sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = window.new_page(viewport={"width": 1200, "height": 1500}, color_scheme="light")
        page.goto((run / "report.html").resolve().as_uri())
        page.locator(".marks").first.wait_for()
        page.screenshot(path=picture)
        window.close()


if __name__ == "__main__":
    take(Path(sys.argv[1]), PICTURE)
