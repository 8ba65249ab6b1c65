"""benchmarks/results.json: what a run of the suite found, row by row, and which targets it reached."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.jobs import TARGETS, Job, Result, Target

RESULTS = Path(__file__).parent / "results.json"
PEER_LIBRARIES = ("trl", "lm_eval", "accelerate", "datasets")


def new_results(repeats: int, quick: bool) -> dict[str, Any]:
    """An empty record of a run: where, with what and how it is made."""
    from trimpot.store.environment import LIBRARIES, environment

    found = environment((*LIBRARIES, *PEER_LIBRARIES))
    threads = int(os.environ.get("OMP_NUM_THREADS", 0)) or found["cpu_count"]
    settings = {"repeats": repeats, "quick": quick, "threads": threads}
    load = os.getloadavg()[0]
    return {
        "environment": found, "settings": settings, "load_average": load,
        "matmul": [], "rows": [], "failures": [], "finished": [], "targets": [],
    }  # fmt: skip


def refuse_other(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Why a run cannot go on with these results: other settings, another commit, another machine. None: it can."""
    for part, names in (("settings", ("repeats", "quick", "threads")), ("environment", ("commit", "processor"))):
        for name in names:
            if old[part][name] != new[part][name]:
                return f"{name} was {old[part][name]}, and is {new[part][name]}"
    return None


def measured(result: Result) -> dict[str, Any]:
    """A result with lists where a job gives one value for one run, so that several runs can be joined."""
    lists: dict[str, Any] = {name: [result[name]] for name in ("value", "seconds", "operations") if name in result}
    rest = {name: value for name, value in result.items() if name not in lists}
    return {**rest, **{"values" if name == "value" else name: value for name, value in lists.items()}}


def joined(results: Sequence[Result]) -> dict[str, Any]:
    """Several runs of a peer as one: values side by side, the highest memory, the rest of the first."""
    parts = [measured(result) if "value" in result else dict(result) for result in results]
    lists: dict[str, Any] = {
        name: [value for part in parts for value in part[name]]
        for name in ("values", "seconds", "operations")
        if name in parts[0]
    }
    return {**parts[0], **lists, "peak_memory_bytes": max(part["peak_memory_bytes"] for part in parts)}


def row(job: Job, peer: str | None, theirs: Result | None, ours: Result) -> dict[str, Any]:
    """The row of a peer against trimpot; without a peer, trimpot alone."""
    operations = None
    if "operations" in ours:
        pairs = zip(ours["operations"], ours["seconds"], strict=True)
        operations = statistics.median(count / seconds for count, seconds in pairs)
    found: dict[str, Any] = {
        "job": job.name, "title": job.title, "unit": job.unit, "peer": peer,
        "ours": ours["values"], "our_memory_bytes": ours["peak_memory_bytes"],
        "operations_per_second": operations, "work": ours.get("work", {}), "details": ours.get("details", {}),
        "same_work": True,
    }  # fmt: skip
    if theirs is None:
        return found
    ratios = [our / their for our, their in zip(ours["values"], theirs["values"], strict=True)]
    difference = largest_difference(theirs.get("numbers", {}), ours.get("numbers", {}))
    memory = ours["peak_memory_bytes"] / theirs["peak_memory_bytes"]
    return {
        **found,
        "theirs": theirs["values"],
        "their_memory_bytes": theirs["peak_memory_bytes"],
        "ratios": ratios,
        "ratio": statistics.median(ratios),
        "memory_ratio": memory,
        "their_work": theirs.get("work", {}),
        "largest_difference": difference,
        "same_work": theirs.get("work", {}) == ours.get("work", {}) and difference <= job.tolerance,
    }


def largest_difference(theirs: Mapping[str, Sequence[float]], ours: Mapping[str, Sequence[float]]) -> float:
    """Of numbers that must agree, in parts of the larger of 1 and theirs; infinite where one side has other numbers."""
    if theirs.keys() != ours.keys() or any(len(theirs[name]) != len(ours[name]) for name in theirs):
        return float("inf")
    return max(
        (
            abs(own - other) / max(1.0, abs(other))
            for name in theirs
            for other, own in zip(theirs[name], ours[name], strict=True)
        ),
        default=0.0,
    )


def limit_of(results: Mapping[str, Any]) -> float | None:
    """The machine's rate of matrix products in operations per second: the highest that was measured."""
    return max((one["value"] for one in results["matmul"]), default=0.0) * 1e9 or None


def share_of_limit(results: Mapping[str, Any], found: Mapping[str, Any]) -> float | None:
    """A row's operations per second in parts of the machine's rate. None: not counted, or the rate is not measured."""
    limit = limit_of(results)
    return found["operations_per_second"] / limit if limit and found["operations_per_second"] else None


def judged(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every target with what was found (None: not measured) and whether it was reached."""
    return [_judged(results, target) for target in TARGETS]


def _judged(results: Mapping[str, Any], target: Target) -> dict[str, Any]:
    rows = [one for one in results["rows"] if one["job"] == target.job and one["same_work"]]
    if target.peers:
        rows = [one for one in rows if one["peer"] in target.peers]
    values = [value for one in rows if (value := _value(results, one, target.kind)) is not None]
    at_most = target.kind in ("memory", "seconds")
    # Of several peers the best one counts, of several measurements of trimpot the median.
    value = None
    if len(rows) >= len(target.peers) and values:
        value = statistics.median(values) if not target.peers else max(values) if at_most else min(values)
    reached = None if value is None else value <= target.limit if at_most else value >= target.limit
    named = {"what": target.what, "job": target.job, "peers": list(target.peers), "kind": target.kind}
    return {**named, "limit": target.limit, "value": value, "reached": reached}


def _value(results: Mapping[str, Any], found: Mapping[str, Any], kind: str) -> float | None:
    if kind == "of_limit":
        return share_of_limit(results, found)
    if kind == "seconds":
        return statistics.median(found["ours"])
    value: float = found["ratio" if kind == "ratio" else "memory_ratio"]
    return value


def read_results(path: Path) -> dict[str, Any]:
    """The results in a file."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Writes the results whole, with the targets judged anew."""
    from trimpot.store.atomic import write_json

    write_json(path, {**results, "targets": judged(results)})
