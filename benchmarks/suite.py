"""The suite: every job's rows, peer and trimpot in turn, into benchmarks/results.json.

    python -m benchmarks [--only sft,dpo] [--repeats 3] [--quick] [--resume] [--json] [--output FILE]

Every peer runs in a process of its own. Training jobs take turns step by step: a step of the peer, a step of trimpot,
after a warm-up step of each; the others run anew in every repeat. A row is written when it ends, so a run that is
stopped keeps what it has, and `--resume` measures what is missing. Exit status 1: a job failed, or its peers did
different work (other counts of rows or tokens, or losses further apart than 1e-3). A missed target is told, no failure.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import matmul
from benchmarks.jobs import JOBS, MATMUL, OURS, Job, Result
from benchmarks.processes import PeerError, alone, in_turn, started
from benchmarks.results import (
    RESULTS,
    joined,
    judged,
    new_results,
    read_results,
    refuse_other,
    row,
    share_of_limit,
    write_results,
)

IDLE = 0.5
"""Load average above which the machine is not idle, and the figures are not worth citing."""


class Progress:
    """Tells, on standard error, what was measured and about how long the rest takes."""

    def __init__(self, jobs: Sequence[Job], repeats: int, quick: bool) -> None:
        # Half of a training job is start and warm-up, whatever the number of repeats.
        scale = 0.1 if quick else (1 + repeats) / 4
        self.left = {job.name: job.minutes * 60 * scale for job in jobs}
        self.expected, self.spent = 0.0, 0.0

    def job_done(self, job: Job, seconds: float) -> None:
        """Corrects what is left by how long this job took against what was expected of it."""
        self.expected += self.left.pop(job.name)
        self.spent += seconds
        rest = sum(self.left.values()) * self.spent / self.expected
        self.say(f"{job.name} took {seconds / 60:.1f} min; about {rest / 60:.0f} min left")

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def rows_of(job: Job, repeats: int, quick: bool, progress: Progress, done: Collection[str]) -> Iterator[dict[str, Any]]:
    """The rows of one job, each as soon as it is measured; those of the peers in ``done`` are there already."""
    sizes = job.size(quick)
    if job.takes_turns:
        for peer in (one for one in job.peers if one not in done):
            progress.say(f"{job.name}: {peer}")
            found = dict(in_turn(job, peer, sizes, repeats))
            yield row(job, peer, found[peer], found[OURS])
        return
    runs: dict[str, list[Result]] = {}
    for repeat in range(1 if job.once else repeats):
        for peer in (*job.peers, OURS):
            progress.say(f"{job.name}: {peer}, {repeat + 1}")
            runs.setdefault(peer, []).append(alone(job, peer, sizes))
    merged = {peer: joined(results) for peer, results in runs.items()}
    for other in job.peers or (None,):
        yield row(job, other, None if other is None else merged[other], merged[OURS])


def measure_limit(quick: bool) -> Result:
    """The machine's rate of matrix products, in a process of its own."""
    with started(*MATMUL, matmul.QUICK if quick else matmul.FULL) as process:
        found: Result = process.hear()["result"]
        return found


def run(jobs: Sequence[Job], results: dict[str, Any], path: Path) -> bool:
    """Runs what is not finished, writing after every row. Returns whether all went well."""
    settings = results["settings"]
    waiting = [job for job in jobs if job.name not in results["finished"]]
    progress = Progress(waiting, settings["repeats"], settings["quick"])
    if results["load_average"] > IDLE:
        progress.say(f"the machine is not idle (load average {results['load_average']:.1f}): the figures suffer")
    results["matmul"].append(measure_limit(settings["quick"]))
    write_results(path, results)
    for job in waiting:
        began = time.perf_counter()
        # What a stopped run left of this job stays where rows are measured one by one.
        kept = [one for one in results["rows"] if one["job"] != job.name or job.takes_turns]
        done = [one["peer"] for one in kept if one["job"] == job.name]
        results["rows"], results["failures"] = kept, [one for one in results["failures"] if one["job"] != job.name]
        try:
            for found in rows_of(job, settings["repeats"], settings["quick"], progress, done):
                results["rows"].append(found)
                write_results(path, results)
                progress.say(line_of(results, found))
            results["finished"].append(job.name)
        except PeerError as error:
            results["failures"].append({"job": job.name, "error": str(error)})
            progress.say(f"{job.name} FAILED: {error}")
        write_results(path, results)
        progress.job_done(job, time.perf_counter() - began)
    results["matmul"].append(measure_limit(settings["quick"]))
    write_results(path, results)
    for target in judged(results):
        progress.say(line_of_target(target))
    return not results["failures"] and all(one["same_work"] for one in results["rows"])


def line_of(results: dict[str, Any], found: dict[str, Any]) -> str:
    """A row as one line."""
    text = f"  {found['job']}: trimpot {statistics.median(found['ours']):.4g} {found['unit']}"
    text += f", {found['our_memory_bytes'] / 1e9:.1f} GB"
    share = share_of_limit(results, found)
    if share is not None:
        text += f", {share:.0%} of the matmul rate"
    if found["peer"] is not None:
        theirs = statistics.median(found["theirs"])
        text += f"; {found['peer']} {theirs:.4g}, {found['their_memory_bytes'] / 1e9:.1f} GB: {found['ratio']:.2f}x"
    return text + ("" if found["same_work"] else "  DIFFERENT WORK")


def line_of_target(target: dict[str, Any]) -> str:
    """A target as one line."""
    value = "not measured" if target["value"] is None else f"{target['value']:.3g}"
    mark = {None: "     ", True: "yes  ", False: "NO   "}[target["reached"]]
    return f"{mark}{target['what']}: {value} (target {target['limit']:g})"


def main(arguments: list[str]) -> int:
    """Entry point; returns the exit status."""
    names = ",".join(job.name for job in JOBS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="trimpot and its peers in turn")
    parser.add_argument("--only", default=names, help=f"jobs, separated by commas; default: {names}")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one repeat of small sizes: to see that all of it runs")
    parser.add_argument("--resume", action="store_true", help="go on with the results that are there")
    parser.add_argument("--json", action="store_true", help="print the results at the end")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the file of the results")
    given = parser.parse_args(arguments)
    chosen = given.only.split(",")
    if unknown := set(chosen) - {job.name for job in JOBS}:
        parser.error(f"unknown jobs: {', '.join(sorted(unknown))}; known: {names}")
    if given.repeats < 1:
        parser.error("--repeats must be at least 1")
    if given.quick and given.output == RESULTS:
        parser.error("--quick needs an --output: small sizes do not replace the record")
    there = read_results(given.output)["finished"] if given.output.exists() and not given.resume else ()
    if lost := set(there) - set(chosen):
        parser.error(f"{given.output} holds {', '.join(sorted(lost))} too: give another --output, or --resume")
    results = new_results(1 if given.quick else given.repeats, given.quick)
    if given.resume and given.output.exists():
        old = read_results(given.output)
        if reason := refuse_other(old, results):
            parser.error(f"cannot go on with {given.output}: {reason}; run without --resume")
        results = {**old, "load_average": max(old["load_average"], results["load_average"])}
    # A terminated run ends its peers' processes as an interrupted one does.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        good = run([job for job in JOBS if job.name in chosen], results, given.output)
    finally:
        signal.signal(signal.SIGTERM, before)
    if given.json:
        print(given.output.read_text())
    return 0 if good else 1
