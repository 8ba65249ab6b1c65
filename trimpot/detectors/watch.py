"""Feeds detectors step by step, live or from a log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trimpot.core.findings import Detector, Finding
from trimpot.detectors import DETECTORS
from trimpot.detectors.windows import is_finite

HEAD = 10
"""A window that is full drops steps behind its first HEAD ones: entropy_collapse compares with the start."""


def all_detectors() -> tuple[Detector, ...]:
    """Every detector with its own threshold."""
    return tuple(kind() for kind in DETECTORS.values())


class Watcher:
    """Watches one run with several detectors.

    A detector whose condition lasts is heard once, and again after ``repeat_after`` steps. When the condition was
    absent in between, its return is heard at once; so is a spike that turns into NaN.
    The state depends on the observed steps alone: feeding the logged metrics again, after a resume, restores it.
    (The log must keep NaN as NaN.)

    Edge cases: a step without any watched metric (an evaluation row of a log) is left out. A step that is not
    after the newest one rewinds: the steps from it on are forgotten, as after a resume from a checkpoint.
    """

    def __init__(self, detectors: tuple[Detector, ...], limit: int = 512, repeat_after: int = 25) -> None:
        if limit <= HEAD:
            raise ValueError(f"limit is {limit}; a window of more than {HEAD} steps is needed")
        self._detectors = detectors
        self._limit = limit
        self._repeat_after = repeat_after
        self._watched = tuple(dict.fromkeys(metric for detector in detectors for metric in detector.metrics))
        self._window: dict[str, list[float | None]] = {"step": []}
        # Detector name -> the finding by which its lasting condition was last heard.
        self._heard: dict[str, Finding] = {}

    def observe(self, step: int, metrics: Mapping[str, float | None]) -> list[Finding]:
        """Adds one step and returns what the detectors newly say about it."""
        values = {metric: metrics[metric] for metric in self._watched if metrics.get(metric) is not None}
        if not values:
            return []
        self._rewind(step)
        self._append(step, values)
        return [finding for detector in self._detectors if (finding := self._ask(detector, step)) is not None]

    def _ask(self, detector: Detector, step: int) -> Finding | None:
        finding, heard = detector.scan(self._window), self._heard.get(detector.name)
        if finding is None:
            # A step that lacks the finding's metric (None or NaN) does not mean that the condition is over.
            if heard is not None and is_finite(self._window[heard.metric][-1]):
                del self._heard[detector.name]
            return None
        if heard is not None and step - heard.step < self._repeat_after and not _worse(finding, heard):
            return None
        self._heard[detector.name] = finding
        return finding

    def _append(self, step: int, values: Mapping[str, float | None]) -> None:
        length = len(self._window["step"])
        for name in values:
            self._window.setdefault(name, [None] * length)
        for name, series in self._window.items():
            series.append(float(step) if name == "step" else values.get(name))
            if len(series) > self._limit:
                del series[HEAD]

    def _rewind(self, step: int) -> None:
        steps = self._window["step"]
        while steps and (last := steps[-1]) is not None and last >= step:
            for series in self._window.values():
                series.pop()
        self._heard = {name: heard for name, heard in self._heard.items() if heard.step < step}


def _worse(finding: Finding, heard: Finding) -> bool:
    """True when a number that was out of range has stopped being a number."""
    return finding.value is None and heard.value is not None


def scan_log(rows: Iterable[Mapping[str, object]], detectors: tuple[Detector, ...] | None = None) -> list[Finding]:
    """What the detectors say about a log: one mapping of metric names to values per step, oldest first.

    Reads trimpot's metrics.jsonl and the ``log_history`` of a TRL run. All detectors by default.

    Edge cases: a row without ``step`` takes its place, counted from 1; values that are not numbers are left out.
    """
    watcher = Watcher(all_detectors() if detectors is None else detectors)
    findings: list[Finding] = []
    for place, row in enumerate(rows, start=1):
        numbers = {
            name: float(value)
            for name, value in row.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        step = numbers.get("step")
        findings.extend(watcher.observe(int(step) if is_finite(step) else place, numbers))
    return findings
