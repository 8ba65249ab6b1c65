"""What the doctor says in a terminal: pairs of what stands out and the rest of its line."""

from __future__ import annotations

from collections.abc import Sequence

from trimpot.core.stats import Estimate
from trimpot.doctor.examine import FINDINGS, HEALTHY, Checked, Diagnosis, Examination
from trimpot.doctor.sparkline import marks, sparkline

Line = tuple[str, str]
INDENT = " " * 3


def lines(examination: Examination) -> list[Line]:
    """The whole report of one run."""
    log = examination.log
    names = [f"{ours} from {theirs}" for ours, theirs in log.names.items()]
    head = (
        f"{log.kind}, {' and '.join(examination.kinds)}; {len(log.steps)} rows, steps {log.steps[0]} to {log.steps[-1]}"
    )
    found: list[Line] = [(f"{log.title}:", head), *((("read:", ", ".join(names)),) if names else ())]
    found += [("note:", note) for note in examination.notes]
    found.append(("verdict:", verdict(examination)))
    for place, one in enumerate(examination.diagnoses, start=1):
        found += _diagnosis(place, one, examination)
    found += [("checked:", checked_text(one)) for one in examination.checked]
    for missing in examination.not_checked:
        found.append(("not checked:", f"{missing.detector}: {missing.why}"))
        found += [("", f"{INDENT}log {way}") for way in missing.log]
    if examination.other_kinds:
        found.append(("other training:", f"{', '.join(examination.other_kinds)} are for other kinds of runs"))
    return found


def verdict(examination: Examination) -> str:
    """One sentence; healthy only as far as was looked."""
    count, missing = len(examination.checked), len(examination.not_checked)
    left = f"; {missing} more could not look" if missing else ""
    if examination.verdict == FINDINGS:
        number = len(examination.diagnoses)
        return f"{number} finding{'s' * (number != 1)}, the strongest evidence first{left}"
    if examination.verdict == HEALTHY:
        return f"healthy as far as {count} detector{'s' * (count != 1)} can see{left}"
    return "not checked: no detector could look at this log"


def _diagnosis(place: int, one: Diagnosis, examination: Examination) -> list[Line]:
    finding, log = one.finding, examination.log
    series = log.series.get(finding.metric, ())
    numbers = [value for value in series if value is not None]
    values = f"{min(numbers):.4g} to {max(numbers):.4g}" if numbers else ""
    found = [
        (f"{place}. {finding.detector}:", f"{finding.message} (step {finding.step})"),
        ("", f"{INDENT}{sparkline(series)}  {one.column} {values}".rstrip()),
        ("", f"{INDENT}{marks(log.steps, one.first, one.last)}".rstrip()),
        ("", f"{INDENT}evidence {one.evidence.score:.2f}: {evidence_text(one)}"),
        ("", f"{INDENT}knob {one.knob}"),
        ("", f"{INDENT}mend {finding.mend}"),
    ]
    if one.in_trl:
        found.append(("", f"{INDENT}in TRL {', '.join(one.in_trl)}"))
    return [*found, ("", f"{INDENT}card trimpot card {finding.card}; runbook {one.runbook}")]


def evidence_text(one: Diagnosis) -> str:
    """How bad, since when, how far over, and how often the detector is wrong."""
    since = f"from step {one.first}" + (", and still" if one.lasts else f" to {one.last}")
    over = "" if one.evidence.excess is None else f", excess {one.evidence.excess:.2f}"
    rate = rate_text(one.evidence.false_alarm)
    return f"{one.severity}; {one.rows} of {one.rows_since} rows {since}{over}; false alarms {rate}"


def rate_text(rate: Estimate | None) -> str:
    """The false-alarm rate with its interval."""
    if rate is None or rate.value is None or rate.low is None or rate.high is None:
        return "not measured"
    return f"{rate.value:.1%} of {rate.n} clean runs [{rate.low:.1%}, {rate.high:.1%}]"


def checked_text(one: Checked) -> str:
    """A detector that looked, and what it cannot see."""
    limits = f"; {'; '.join(one.limits)}" if one.limits else ""
    looked = f"{', '.join(one.metrics)}, {one.values} values"
    return f"{one.detector}: {looked}; false alarms {rate_text(one.false_alarm)}{limits}"


def all_lines(examinations: Sequence[Examination]) -> list[Line]:
    """The reports of all runs, one after the other."""
    return [line for one in examinations for line in lines(one)]
