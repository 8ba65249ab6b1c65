"""Writes docs/knobs.md from the cards, claims, disagreements and evidence in trimpot/knobs/data.

Usage: python tools/knobs_page.py
"""

from __future__ import annotations

from pathlib import Path

from trimpot.knobs.knobs_page import knobs_page
from trimpot.knobs.library import library
from trimpot.store.atomic import write_text

PAGE = Path(__file__).parents[1] / "docs" / "knobs.md"


def main() -> None:
    """Writes the page."""
    write_text(PAGE, knobs_page(library()))


if __name__ == "__main__":
    main()
