"""The failure matrix and the comparison of checkpoints, as lines for people."""

from __future__ import annotations

from collections.abc import Sequence

from trimpot.core.stats import Estimate
from trimpot.evaluation.behaviour.matrix import Cell, Shown, TestChange, compare_runs, matrix
from trimpot.evaluation.behaviour.run import BehaviourRun, verdicts_of

Line = tuple[str, str]
"""What stands out, and the rest."""


def matrix_lines(runs: Sequence[BehaviourRun]) -> list[Line]:
    """A line for every capability, type and checkpoint, failing examples below it, and the sums at the end."""
    cells = matrix(runs)
    lines: list[Line] = []
    for number, cell in enumerate(cells):
        if number % len(runs) == 0:
            lines.append((f"{cell.capability} {cell.type}", ""))
        lines.append(("", f"{cell.checkpoint}: {cell_text(cell)}"))
        lines += [("", f"    {_example_text(shown)}") for shown in cell.examples]
        lines += [("", f"    not read: {_example_text(shown)}") for shown in cell.unread[:1]]
    for run in runs:
        lines.append((f"{run.name}:", ", ".join(f"{n} {name}" for name, n in verdicts_of(run.results).items())))
    return lines


def cell_text(cell: Cell) -> str:
    """Failure rate in per cent with its interval, and what is no part of it."""
    judged = cell.passed + cell.failed
    parts = [f"{cell.failed} of {judged} failed{_interval(cell.failure)}" if judged else "no case could be judged"]
    if cell.unparsed:
        most = f", so at most {100 * cell.failure_at_most:.0f}%" if cell.failure_at_most is not None else ""
        parts.append(f"{cell.unparsed} without a readable answer{most}")
    if cell.filtered:
        parts.append(f"{cell.filtered} filtered")
    return "; ".join(parts)


def _interval(rate: Estimate) -> str:
    if rate.value is None or rate.low is None or rate.high is None:
        return ""
    return f" = {100 * rate.value:.0f}% [{100 * rate.low:.0f}, {100 * rate.high:.0f}]"


def _example_text(shown: Shown) -> str:
    expected = "" if shown.expected is None else f", right is {_short(shown.expected)}"
    text = f"{shown.test}: {_short(shown.text)} → {_short(shown.output)}{expected}"
    if shown.original is None:
        return text
    return f"{text} ({shown.change}; before: {_short(shown.original)} → {_short(shown.original_output or '')})"


def _short(text: str, most: int = 160) -> str:
    """On one line, its middle left out where it is long."""
    flat = " / ".join(part.strip() for part in text.splitlines() if part.strip())
    return f"“{flat if len(flat) <= most else flat[: most // 2] + ' … ' + flat[-most // 2 :]}”"


def comparison_lines(new: BehaviourRun, before: BehaviourRun) -> list[Line]:
    """A line for every test whose cases flipped, and how many had none."""
    changes = compare_runs(new, before)
    flipped = [one for one in changes if one.flips.gained + one.flips.lost]
    lines = [(f"{new.name} against {before.name}", f"(Holm over {sum(one.cases > 0 for one in changes)} tests)")]
    lines += [("", change_text(one)) for one in flipped]
    quiet = len(changes) - len(flipped)
    if quiet:
        lines.append(("", f"{quiet} tests without a flip: no difference seen, which is not proof of none"))
    return lines


def change_text(change: TestChange) -> str:
    """Flips, p and the difference in points; and where unreadable answers have a part in it."""
    difference = change.difference
    interval = ""
    if difference.value is not None:
        ends = "" if difference.low is None else f" [{100 * difference.low:+.0f}, {100 * (difference.high or 0):+.0f}]"
        interval = f", {100 * difference.value:+.0f} points{ends}"
    p = "" if change.adjusted_p is None else f", p {change.adjusted_p:.3f}"
    now, then = change.unparsed
    unparsed = f"; without a readable answer {now}, before {then}" if now or then else ""
    filtered = f"; {change.filtered} filtered" if change.filtered else ""
    head = f"{change.capability} {change.type} {change.test}: {change.word}"
    gained = f"gained {change.flips.gained}, lost {change.flips.lost} of {change.cases}"
    return f"{head}: {gained}{interval}{p}{unparsed}{filtered}"
