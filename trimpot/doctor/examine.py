"""Examines a log: which detectors could look at it, what they found, and what was not looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trimpot.core.findings import Detector, Finding
from trimpot.core.progress import Progress, ignore
from trimpot.core.stats import Estimate
from trimpot.detectors.watch import Watcher
from trimpot.detectors.windows import is_finite
from trimpot.doctor.checks import (
    POLICY,
    SEVERITIES,
    VOID,
    Check,
    Need,
    check_of,
    detectors_for,
    kinds_of,
    settings_in_trl,
)  # fmt: skip
from trimpot.doctor.evidence import Evidence, evidence_of, false_alarm, worst
from trimpot.doctor.log import Log
from trimpot.doctor.logged import how_to_log, in_trl
from trimpot.knobs.library import library

RUNBOOKS = "docs/runbooks"
TRIMPOT = "trimpot"
FINDINGS, HEALTHY, UNCHECKED = "findings", "healthy", "not checked"


@dataclass(frozen=True)
class Diagnosis:
    """What one detector found in one run, with all that is needed to go on.

    ``finding`` is the worst; ``first`` and ``last`` are the steps at which it fired first and last, ``rows`` of
    ``rows_since`` rows from the first on; ``lasts``: at the newest row too. ``knob`` is the recipe's setting and what
    it does, ``in_trl`` its settings in TRL.
    """

    finding: Finding
    severity: str
    first: int
    last: int
    rows: int
    rows_since: int
    lasts: bool
    evidence: Evidence
    knob: str
    in_trl: tuple[str, ...]
    runbook: str
    column: str

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "finding": self.finding.as_dict(), "score": self.evidence.score}


@dataclass(frozen=True)
class Checked:
    """A detector that could look, at which metrics and how many values, and what it cannot see in this log."""

    detector: str
    metrics: tuple[str, ...]
    values: int
    false_alarm: Estimate | None
    limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class NotChecked:
    """A detector that could not look: why, and what to log so that it can, one line each."""

    detector: str
    why: str
    log: tuple[str, ...]


@dataclass(frozen=True)
class Examination:
    """What was found in a log, strongest evidence first (of equal the earlier), and what was and was not looked at.

    ``other_kinds``: detectors for kinds of training that this run is not. verdict: findings; healthy, which holds for
    ``checked`` alone; or not checked, where no detector could look.
    """

    log: Log
    kinds: tuple[str, ...]
    diagnoses: tuple[Diagnosis, ...]
    checked: tuple[Checked, ...]
    not_checked: tuple[NotChecked, ...]
    other_kinds: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        if self.diagnoses:
            return FINDINGS
        return HEALTHY if self.checked else UNCHECKED

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``; curves are left out, as the log has them."""
        log = self.log
        return {
            "where": log.where, "run": log.run, "format": log.kind, "kinds": list(self.kinds),
            "rows": len(log.steps), "steps": [log.steps[0], log.steps[-1]], "verdict": self.verdict,
            "findings": [one.as_dict() for one in self.diagnoses],
            "checked": [asdict(one) for one in self.checked],
            "not_checked": [asdict(one) for one in self.not_checked],
            "other_kinds": list(self.other_kinds), "notes": list(self.notes),
            "names": dict(log.names), "unlike": dict(log.unlike),
        }  # fmt: skip


def examine(log: Log, beta: float | None = None, progress: Progress = ignore) -> Examination:
    """Runs every detector over a log, row by row, as `trimpot.detectors.watch.scan_log` does over a live one.

    ``beta``: the β of a preference run, by which TRL's rewards become log-ratios; 0.1 (TRL's default) where none is
    given.
    """
    detectors = detectors_for(beta)
    found = _every_finding(log, detectors, progress)
    kinds = kinds_of(log)
    checked: list[Checked] = []
    missing: list[NotChecked] = []
    others: list[str] = []
    diagnoses: list[Diagnosis] = []
    for detector in detectors:
        check = check_of(detector)
        need = next((one for one in check.needs if _why_not(one, detector, log) is None), None)
        spoke = found.get(detector.name, [])
        if spoke:
            diagnoses.append(_diagnosis(detector, check, spoke, log, kinds))
        if need is not None or spoke:
            metrics = need.metrics if need is not None else (spoke[0].metric,)
            limits = _limits(detector, check, metrics, log, beta)
            rate = false_alarm(detector.name)
            checked.append(Checked(detector.name, metrics, _together(metrics, log), rate, limits))
        elif set(check.kinds) & set(kinds):
            missing.append(_not_checked(detector, check, log))
        else:
            others.append(detector.name)
    # Of equal evidence the earlier: a cause speaks before what follows from it.
    diagnoses.sort(key=lambda one: (-one.evidence.score, one.first))
    return Examination(log, kinds, tuple(diagnoses), tuple(checked), tuple(missing), tuple(others), _notes(log))


def _every_finding(log: Log, detectors: Sequence[Detector], progress: Progress) -> dict[str, list[Finding]]:
    """Detector -> its findings at every row at which it fired: with ``repeat_after`` 1 a lasting one is heard anew."""
    watcher = Watcher(tuple(detectors), repeat_after=1)
    found: dict[str, list[Finding]] = {}
    for done, row in enumerate(log.rows(), start=1):
        for finding in watcher.observe(log.steps[done - 1], row):
            found.setdefault(finding.detector, []).append(finding)
        progress(done, len(log.steps))
    return found


def _diagnosis(
    detector: Detector, check: Check, found: Sequence[Finding], log: Log, kinds: tuple[str, ...]
) -> Diagnosis:
    strongest = worst(detector, found)
    series = log.series.get(strongest.metric, ())
    start, newest = log.steps.index(found[0].step), _newest(log, strongest.metric)
    rows = max(sum(value is not None for value in series[start:]), len(found))
    # A number that stopped being one, and an exact zero, leave nothing of the run, whatever else the detector sees.
    severity = (
        VOID if strongest.value is None or (strongest.metric, strongest.value) == ("grad_norm", 0.0) else check.severity
    )
    evidence = evidence_of(detector, severity, found, rows, series, log.steps.index(strongest.step))
    card = library().cards.get(strongest.card)
    return Diagnosis(
        finding=strongest,
        severity=SEVERITIES[severity],
        first=found[0].step,
        last=found[-1].step,
        rows=len(found),
        rows_since=rows,
        lasts=found[-1].step == newest,
        evidence=evidence,
        knob=strongest.card if card is None else f"{card.recipe}: {card.what.text}",
        in_trl=() if log.kind == TRIMPOT else settings_in_trl(check, kinds),
        runbook=f"{RUNBOOKS}/{check.runbook}.md",
        column=log.names.get(strongest.metric, strongest.metric),
    )


def _newest(log: Log, metric: str) -> int | None:
    """The last step that reported a metric."""
    pairs = zip(log.steps, log.series.get(metric, ()), strict=False)
    return max((step for step, value in pairs if value is not None), default=None)


def _why_not(need: Need, detector: Detector, log: Log) -> str | None:
    """Why a detector cannot look at the log in this way; None where it can."""
    if missing := [name for name in need.metrics if not log.has(name)]:
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not in the log"
    if spoiled := [name for name in need.unless if log.has(name)]:
        return f"{need.metrics[0]} says nothing in a run that reports {spoiled[0]}"
    if need.first_step and log.steps[0] != 1:
        return f"the first row is step {log.steps[0]}, and it compares step 1 (logging_first_step=True)"
    values, least = _together(need.metrics, log), need.least(detector)
    if values < least:
        return f"{' and '.join(need.metrics)}: {values} values, of {least} that it needs"
    return None


def _together(metrics: Sequence[str], log: Log) -> int:
    """In how many rows all of the metrics have a number."""
    columns = [log.series[name] for name in metrics]
    return sum(all(is_finite(value) for value in row) for row in zip(*columns, strict=True))


def _limits(
    detector: Detector, check: Check, metrics: tuple[str, ...], log: Log, beta: float | None
) -> tuple[str, ...]:
    """What a detector that can look at the log cannot see in it."""
    limits = []
    if check.parts:
        lacking = [(need, why) for need in check.needs if (why := _why_not(need, detector, log)) is not None]
        limits += [f"not by {' and '.join(need.metrics)} ({why})" for need, why in lacking]
    if detector.name == "loss_spike":
        if kinds_of(log) == (POLICY,):
            limits.append("NaN and infinity alone: a policy gradient's loss has no level")
        if log.of_transformers:
            limits.append("transformers logs the mean in place of a NaN loss; logging_nan_inf_filter=False shows it")
    assumed = beta is None and not log.has("logratio/chosen") and any(name.startswith("rewards/") for name in metrics)
    if assumed and hasattr(detector, "beta"):
        limits.append(f"at beta {detector.beta:g}, TRL's default; --beta gives the run's own")
    return tuple(limits)


def _not_checked(detector: Detector, check: Check, log: Log) -> NotChecked:
    """By the way that lacks least; every metric it lacks with how to log it."""

    def lacks(need: Need) -> int:
        return sum(not log.has(name) for name in need.metrics)

    # Of equal ways the first that TRL can log.
    need = min(check.needs, key=lambda one: (lacks(one), not all(in_trl(name) for name in one.metrics)))
    missing = [name for name in need.metrics if not log.has(name)]
    return NotChecked(
        detector.name,
        _why_not(need, detector, log) or "",
        tuple(f"{name}: {how_to_log(name, log.kind == TRIMPOT)}" for name in missing),
    )


def _notes(log: Log) -> tuple[str, ...]:
    notes = list(log.notes)
    if log.every is not None and log.every > 1:
        notes.append(
            f"a row every {log.every:g} steps: windows count rows, and what lasts less than a row is averaged away"
            + (" (logging_steps=1 shows it)" if log.of_transformers else "")
        )
    notes += [f"{column} is logged and not read: {why}" for column, why in log.unlike.items()]
    return tuple(notes)
