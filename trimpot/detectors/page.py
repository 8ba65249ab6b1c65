"""The page docs/detectors.md, made from the detectors' docstrings and their measured rates."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from trimpot.core.findings import Detector
from trimpot.core.stats import Estimate
from trimpot.detectors import DETECTORS
from trimpot.detectors.rates import SHIPPED, DetectorRate, rates_of, settings_of

HEADINGS = ("What", "Threshold", "Source", "Mend", "Edge cases", "Fails when")
NOT_MEASURED = "not measured"
INTRODUCTION = """# Detectors

Made by `trimpot.detectors.page` from the code and the measured rates; do not edit it.

A detector is a pure function of a run's metrics. It is watched live, and it reads logs, TRL's as well. Its
true-positive rate is the share of training runs with its fault injected in which it fired, its false-alarm rate the
share of clean runs in which it fired, each with a 95% Wilson interval. Thresholds were chosen on other seeds than those
counted. A rate counts only for the thresholds it was measured with.
"""


def detectors_page(folder: Path = SHIPPED) -> str:
    """The page as markdown; ``folder`` holds the measured rates."""
    rates = {name: rates_of(name, folder) for name in DETECTORS}
    columns = ("Detector", "Sees", "Metrics", "Threshold", "Source", "Mend", "True positives", "False alarms")
    lines = [_row(columns), _row(["---"] * len(columns))]
    lines += [_row(_cells(kind(), rates[name])) for name, kind in DETECTORS.items()]
    sections = [_section(kind(), rates[name]) for name, kind in DETECTORS.items()]
    return "\n".join([INTRODUCTION, *lines, "", *sections]).rstrip() + "\n"


def docstring_parts(detector: Detector) -> dict[str, str]:
    """The text under each heading of a detector's docstring, and its first line under ``""``; one line each.

    A field that the text names in double backticks is replaced by its value.
    """
    text = inspect.getdoc(type(detector)) or ""
    for name, value in settings_of(detector.name).items():
        text = text.replace(f"``{name}``", f"{value:g}")
    pieces = re.split(rf"^({'|'.join(HEADINGS)}):", text, flags=re.MULTILINE)
    named = zip(pieces[1::2], pieces[2::2], strict=True)
    return {"": _one_line(pieces[0]), **{name: _one_line(part) for name, part in named}}


def _cells(detector: Detector, rates: list[DetectorRate]) -> list[str]:
    parts = docstring_parts(detector)
    return [
        f"[{detector.name}](#{detector.name})",
        parts[""],
        ", ".join(f"`{metric}`" for metric in detector.metrics),
        parts["Threshold"],
        detector.source,
        detector.mend,
        _measured(rates, "true_positive"),
        _measured(rates, "false_alarm"),
    ]


def _measured(rates: list[DetectorRate], which: str) -> str:
    current = [f"{rate.lab}: {_share(getattr(rate, which))}" for rate in rates if rate.is_current]
    return "; ".join(current) or NOT_MEASURED


def _share(estimate: Estimate) -> str:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return NOT_MEASURED
    return f"{estimate.value:.0%} of {estimate.n} runs ({estimate.low:.0%} to {estimate.high:.0%})"


def _section(detector: Detector, rates: list[DetectorRate]) -> str:
    parts = docstring_parts(detector)
    lines = [f"## {detector.name}", "", parts[""], ""]
    lines += [f"- {heading}: {parts[heading]}" for heading in HEADINGS]
    lines += [_rate_line(rate) for rate in rates] or [f"- Rates: {NOT_MEASURED}."]
    return "\n".join([*lines, ""])


def _rate_line(rate: DetectorRate) -> str:
    if not rate.is_current:
        return f"- Rates in lab {rate.lab}: measured with other thresholds than the present ones; not valid."
    seeds = ", ".join(str(seed) for seed in rate.threshold_seeds) or "none"
    return (
        f"- Rates in lab {rate.lab}, fault: {rate.fault}. True positives {_share(rate.true_positive)}; false alarms "
        f"{_share(rate.false_alarm)}. Thresholds chosen on seeds: {seeds}."
    )


def _one_line(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def _row(cells: list[str] | tuple[str, ...]) -> str:
    # A bar inside a cell would end it.
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
