"""Writes the detectors' measured rates from the evidence of the study failure-labs, and docs/detectors.md from them.

Usage: python tools/detector_rates.py [EVIDENCE.json]   (without it, the page alone)
"""

from __future__ import annotations

import sys
from pathlib import Path

from trimpot.detectors.page import detectors_page
from trimpot.detectors.rates import SHIPPED, write_rate
from trimpot.knobs.evidence import read_evidence
from trimpot.store.atomic import write_text
from trimpot.studies.failure_labs import rates

PAGE = Path(__file__).parents[1] / "docs" / "detectors.md"


def main(arguments: list[str]) -> None:
    """Replaces all rates by those of the evidence, then writes the page."""
    if arguments:
        found = rates(read_evidence(Path(arguments[0])))
        for old in SHIPPED.glob("*.json"):
            old.unlink()
        for rate in found:
            print(f"{rate.detector}, {rate.lab}: {rate.fired}/{rate.runs}, clean {rate.clean_fired}/{rate.clean_runs}")
            write_rate(rate)
    write_text(PAGE, detectors_page())


if __name__ == "__main__":
    main(sys.argv[1:])
