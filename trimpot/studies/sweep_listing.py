"""All studies with what is known of them: the last verdicts, what they cost, and how old the evidence is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.knobs.evidence import SHIPPED, Evidence, read_evidence, user_folder
from trimpot.knobs.text import Line
from trimpot.studies.study import Study
from trimpot.studies.sweep_files import is_of, own_files, read_sweep
from trimpot.studies.sweep_result import outcome

HOUR, DAY = 1 / 24, 1.0
OWN_MODEL = "yours, own model"


def study_entry(study: Study, now: datetime | None = None) -> dict[str, Any]:
    """A study: its question, what each budget costs, and each evidence there is for it, JSON-able."""
    files = [("yours", user_folder() / f"{study.id}.json"), ("shipped", SHIPPED / f"{study.id}.json")]
    files += [(OWN_MODEL, file) for file in own_files(study.id, [user_folder()])]
    return {
        "question": study.question,
        "model": study.model,
        "own_rows": list(study.kinds),
        "budgets": {
            name: {"arms": len(one.arms), "seeds": one.seeds, "minutes": one.minutes}
            for name, one in study.budgets.items()
        },
        "evidence": [evidence_entry(whose, file, now) for whose, file in files if file.exists()],
    }


def sweep_entry(name: str, now: datetime | None = None) -> dict[str, Any]:
    """A sweep of the user's: what was predicted, and what came of it (``outcome`` None: not finished)."""
    try:
        sweep = read_sweep(name)
    except UsageError as error:
        return {"problem": str(error)}
    file = user_folder() / f"{name}.json"
    found: dict[str, Any] = {
        "predict": sweep.predict,
        "metric": sweep.metric,
        "arms": list(sweep.arms),
        "seeds": sweep.seeds,
        "outcome": None,
        "evidence": None,
    }
    if file.exists():
        found["evidence"] = evidence_entry("yours", file, now)
        if "problem" not in found["evidence"] and is_of(read_evidence(file), sweep):
            found["outcome"] = outcome(read_evidence(file))
    return found


def evidence_entry(whose: str, file: Path, now: datetime | None = None) -> dict[str, Any]:
    """What an evidence file says, how old it is and what it took; ``problem`` where it cannot be read."""
    try:
        evidence = read_evidence(file)
    except UsageError as error:
        return {"whose": whose, "file": str(file), "problem": str(error)}
    under = evidence.conditions
    return {
        "whose": whose,
        "file": str(file),
        "verdicts": {claim: one.verdict for claim, one in evidence.tested.items()},
        "control_passed": None if evidence.control is None else evidence.control.passed,
        "failed": list(evidence.failed),
        "budget": under.budget,
        "seeds": len(evidence.seeds),
        "model": under.model,
        "scale": under.scale,
        "created": under.created,
        "age_days": round(age(evidence, now), 3),
        "computing_minutes": round(under.seconds / 60, 2),
    }


def age(evidence: Evidence, now: datetime | None = None) -> float:
    """Days since the evidence was made; not below 0, as clocks differ."""
    made = datetime.fromisoformat(evidence.conditions.created)
    made = made if made.tzinfo is not None else made.replace(tzinfo=UTC)
    return max(0.0, ((now or datetime.now(UTC)) - made).total_seconds() / 86400)


def age_text(days: float) -> str:
    """0.01 -> under an hour old; 0.3 -> 7 hours old; 12.4 -> 12 days old."""
    if days < HOUR:
        return "under an hour old"
    count, unit = (int(days / HOUR), "hour") if days < DAY else (int(days), "day")
    return f"{count} {unit}{'' if count == 1 else 's'} old"


def minutes_text(minutes: float) -> str:
    """0.0123 -> 0.012 min; 4.5 -> 4.5 min; 183.4 -> 183 min."""
    return f"{minutes:.2g} min" if minutes < 99.5 else f"{minutes:.0f} min"


def study_lines(name: str, entry: Mapping[str, Any]) -> list[Line]:
    """A study in the list: its question, its cost, and a line for each evidence."""
    lines: list[Line] = [(f"{name}:", entry["question"])]
    costs = [f"{budget} about {minutes_text(one['minutes'])}" for budget, one in entry["budgets"].items()]
    lines.append(("", f"{', '.join(costs)} on two cores; on {entry['model']}"))
    lines += [("", f"{_whose(one)}: {_evidence_text(one)}") for one in entry["evidence"]]
    return lines if entry["evidence"] else [*lines, ("", "no evidence yet")]


def sweep_lines(name: str, entry: Mapping[str, Any]) -> list[Line]:
    """A sweep in the list: its prediction, and how it came out."""
    if "problem" in entry:
        return [("problem:", entry["problem"])]
    lines: list[Line] = [(f"{name} (yours):", f"predicted: {entry['predict']}")]
    if entry["outcome"] is None:
        return [*lines, ("", f"not finished; go on with: trimpot study {name}")]
    return [*lines, (f"{entry['outcome']}:", _evidence_text(entry["evidence"]))]


def _evidence_text(entry: Mapping[str, Any]) -> str:
    if "problem" in entry:
        return str(entry["problem"])
    counts = Counter(entry["verdicts"].values())
    words = ", ".join(f"{counts[word]} {word}" for word in ("confirmed", "refuted", "inconclusive") if counts[word])
    control = "" if entry["control_passed"] is not False else ", control failed"
    failed = f", {len(entry['failed'])} runs failed" if entry["failed"] else ""
    return (
        f"{words or 'no claim tested'}{control}{failed}; {entry['budget']}, {entry['seeds']} seeds,"
        f" {age_text(entry['age_days'])}, took {minutes_text(entry['computing_minutes'])} of computing"
    )


def _whose(entry: Mapping[str, Any]) -> str:
    return f"yours, on {entry['scale']}" if entry["whose"] == OWN_MODEL and "scale" in entry else str(entry["whose"])
