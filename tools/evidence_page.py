"""Writes docs/evidence.md from the evidence files in trimpot/knobs/data/evidence.

Usage: python tools/evidence_page.py
"""

from __future__ import annotations

from pathlib import Path

from trimpot.knobs.evidence_page import evidence_page
from trimpot.knobs.library import library
from trimpot.store.atomic import write_text

PAGE = Path(__file__).parents[1] / "docs" / "evidence.md"


def main() -> None:
    """Writes the page."""
    write_text(PAGE, evidence_page(library()))


if __name__ == "__main__":
    main()
