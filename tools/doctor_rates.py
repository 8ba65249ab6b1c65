"""Writes the doctor's measured rates into docs/runbooks/README.md, from the evidence of the study doctor-rates.

Usage: python tools/doctor_rates.py [EVIDENCE.json]   (without it, the evidence that comes with trimpot)
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from trimpot.core.stats import Estimate
from trimpot.knobs.evidence import SHIPPED, Evidence, read_evidence
from trimpot.store.atomic import write_text
from trimpot.studies.doctor_logs import WRITERS
from trimpot.studies.doctor_rates import AGREES, EVERY, shares

PAGE = Path(__file__).parents[1] / "docs" / "runbooks" / "README.md"
HEADING = "## Measured\n"
COLUMNS = ("sensitivity", "first", "coarse", "false_alarms")


def section(evidence: Evidence) -> str:
    """The section as markdown: one row for each detector that has a fault, and one for the doctor as a whole."""
    found = shares(evidence)
    whole = found.pop("any")
    logs = whole["sensitivity"].n, whole["false_alarms"].n
    budget = evidence.conditions.budget
    agree = "; ".join(f"{name} {_share(whole[AGREES + name])}" for name in WRITERS)
    lines = [
        HEADING,
        f"{logs[0]} logs of training runs with one fault each and {logs[1]} without, on seeds that chose no threshold",
        f"and measured no rate (`trimpot study doctor-rates`, {budget} budget). Found: the fault's detector is among",
        f"the findings. First: it is the strongest. In rows of {EVERY} steps: found in the same run logged so. Each",
        "share with its 95% Wilson interval; false alarms of the doctor as a whole: any finding at all.",
        "",
        f"| Detector | Found | First | In rows of {EVERY} steps | False alarms |",
        "|---|---|---|---|---|",
        *(_row(name, one) for name, one in found.items()),
        _row("the doctor", whole),
        "",
        f"Logs in which the doctor says what the live detectors said, at the same steps: {agree}.",
    ]
    return "\n".join(lines) + "\n"


def with_section(page: str, text: str) -> str:
    """The page with the section as its last, in place of an older one."""
    return page.partition(HEADING)[0].rstrip() + "\n\n" + text


def _row(name: str, shares_of_it: Mapping[str, Estimate]) -> str:
    return f"| {name} | " + " | ".join(_share(shares_of_it[column]) for column in COLUMNS) + " |"


def _share(one: Estimate) -> str:
    if one.value is None or one.low is None or one.high is None:
        return "not measured"
    return f"{round(one.value * one.n)}/{one.n} [{one.low:.0%}, {one.high:.0%}]"


def main(arguments: list[str]) -> None:
    """Replaces the section."""
    path = Path(arguments[0]) if arguments else SHIPPED / "doctor-rates.json"
    write_text(PAGE, with_section(PAGE.read_text(encoding="utf-8"), section(read_evidence(path))))


if __name__ == "__main__":
    main(sys.argv[1:])
