"""Runs a study: hypothesis first, then the runs the ledger does not have yet, then the verdicts."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict, Unpack

from filelock import FileLock

from trimpot.core.errors import UsageError
from trimpot.knobs.evidence import Conditions, Evidence
from trimpot.knobs.library import Library, library
from trimpot.knobs.schema import Claim
from trimpot.store.environment import environment, now
from trimpot.store.ledger import Ledger
from trimpot.studies.decide import decide
from trimpot.studies.partial import PartialFile
from trimpot.studies.study import Budget, Run, Settings, Study, Values
from trimpot.studies.tune import Job, choose, counted_jobs, tuning_jobs
from trimpot.studies.workers import Task, Workers

WORKERS = 2
Progress = Callable[[int, int, str], None]
"""Called with runs done, runs in all, and what was done last with the time that is left."""


class Beside(TypedDict, total=False):
    """What a study is run beside: see ``run_study``."""

    partial: Path | None
    known: Library | None


def run_study(
    study: Study,
    ledger: Ledger,
    work: Path,
    budget: str = "quick",
    seeds: int | None = None,
    workers: int = WORKERS,
    progress: Progress = lambda done, total, text: None,
    **beside: Unpack[Beside],
) -> Evidence:
    """Runs a study and returns its evidence.

    The plan is written to the ledger before the first run. Each run is written when it ends, so a study that was
    killed goes on with the runs that are missing, and ends with the numbers it would have had. Where arms are tuned,
    the runs that tune them come first. ``work`` holds the base models of the seeds until the study is done.

    ``partial``: a file in which the runs of the ledger are kept too (see ``PartialFile``), until the study is done: on
    a machine with another ledger it goes on from there. ``known``: the library that has the study's claims; by default
    that of the package.

    Raises:
        UsageError: unknown budget, fewer than one seed, a claim of the study that is not in the library, a claim of
            equality without a margin, or a partial file that was changed.
    """
    chosen, claims = study.budget(budget), (beside.get("known") or library()).claims
    count = chosen.seeds if seeds is None else seeds
    if count < 1:
        raise UsageError("seeds", f"{count} is too few", "Give at least 1; an interval needs 2.")
    missing = [name for name in study.claims if name not in claims]
    if missing:
        raise UsageError(f"study {study.id}", f"claim {missing[0]!r} is unknown", "Add it to claims.yaml.")
    plan = study.plan(budget, count, claims)
    plan_hash = ledger.record_hypothesis(study.id, plan)
    folder = work / plan_hash
    work.mkdir(parents=True, exist_ok=True)
    # A second process with the same plan waits here, and then finds every run in the ledger.
    with FileLock(f"{folder}.lock"), Workers(workers) as pool:
        kept = PartialFile(beside.get("partial"), ledger, plan_hash)
        kept.read()
        runs = _Runs(study, chosen, plan["seeds"], ledger, plan_hash, folder, pool, progress, kept)
        try:
            tuned = runs.all()
        except BaseException:
            kept.write(at_once=True)
            raise
        kept.remove()
        shutil.rmtree(folder, ignore_errors=True)
    return _evidence(study, ledger, plan_hash, plan, tuned, claims)


@dataclass
class _Runs:
    """The runs of one plan: which are missing, who runs them, and how long the rest will take."""

    study: Study
    budget: Budget
    seeds: Sequence[int]
    ledger: Ledger
    plan_hash: str
    folder: Path
    workers: Workers
    progress: Progress
    partial: PartialFile
    total: int = field(default=0, init=False)
    waiting: dict[tuple[str, int], str] = field(default_factory=dict, init=False)
    """The name and seed of every run that is missing -> its arm."""
    seconds: dict[str, list[float]] = field(default_factory=dict, init=False)
    """Arm -> how long each of its runs took."""

    def all(self) -> dict[str, dict[str, Any]]:
        """Makes every run that the ledger lacks; returns what each arm was tuned to."""
        tuning = tuning_jobs(self.study, self.budget)
        later = [Job(arm, arm, {}, seed) for seed in self.seeds for arm in self.budget.arms]
        self.waiting = {(job.name, job.seed): job.arm for job in [*tuning, *later]}
        self.total = len(self.waiting)
        for run in self.ledger.runs(self.plan_hash):
            arm = self.waiting.pop((run["arm"], run["seed"]))
            self.seconds.setdefault(arm, []).append(run["result"]["seconds"])
        untouched = len(self.waiting) == self.total
        minutes = self.budget.minutes * len(self.seeds) / self.budget.seeds
        expected = f"; about {minutes:.2g} min on two cores" if untouched else ""
        self._tell(f"hypothesis {self.plan_hash} is written{expected}")
        self._run(tuning)
        tuned = choose(self.study, self.budget, self.ledger.runs(self.plan_hash))
        self._run(counted_jobs(self.budget, self.seeds, self.study.tuning, tuned))
        return tuned

    def _run(self, jobs: Sequence[Job]) -> None:
        todo = [job for job in jobs if (job.name, job.seed) in self.waiting]
        self._prepare(list(dict.fromkeys(job.seed for job in todo)))
        settings = self.budget.settings
        tasks: list[Task] = [(run_arm, (self.study.run, one.values, settings, one.seed, self.folder)) for one in todo]
        for index, (result, status) in self.workers.run(tasks):
            job = todo[index]
            self.ledger.record_run(self.plan_hash, job.name, job.seed, result, status)
            self.partial.write()
            del self.waiting[job.name, job.seed]
            self.seconds.setdefault(job.arm, []).append(result["seconds"])
            self._tell(f"{job.name}, seed {job.seed}{self._left()}")

    def _prepare(self, seeds: Sequence[int]) -> None:
        bases = [seed for seed in seeds if not (self.folder / f"seed-{seed}" / "ready").exists()]
        prepare, settings = self.study.prepare, self.budget.settings
        tasks: list[Task] = [(prepare_seed, (prepare, settings, seed, self.folder)) for seed in bases]
        for index, _ in self.workers.run(tasks):
            self._tell(f"seed {bases[index]}: base ready{self._left()}")

    def _tell(self, text: str) -> None:
        self.progress(self.total - len(self.waiting), self.total, text)

    def _left(self) -> str:
        """The time that the missing runs take, if each takes the mean of its arm's, or of all, side by side."""
        every = [seconds for many in self.seconds.values() for seconds in many]
        if not every or not self.waiting:
            return ""
        means = {arm: math.fsum(many) / len(many) for arm, many in self.seconds.items()}
        overall = math.fsum(every) / len(every)
        seconds = math.fsum(means.get(arm, overall) for arm in self.waiting.values())
        seconds /= min(self.workers.count, len(self.waiting))
        return f"; about {seconds / 60:.0f} min left" if seconds > 90 else f"; about {seconds:.0f} s left"


def prepare_seed(prepare: Callable[[Settings, int, Path], None], settings: Settings, seed: int, folder: Path) -> None:
    """Makes what the arms of a seed share. The mark ``ready`` comes last: a killed preparation is made again."""
    target = folder / f"seed-{seed}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    prepare(settings, seed, target)
    (target / "ready").touch()


def run_arm(
    run: Run, values: Values, settings: Settings, seed: int, folder: Path
) -> tuple[dict[str, Any], str]:  # fmt: skip
    """One arm on one seed: its metrics and seconds, or ``failed`` when a metric is not finite (it diverged)."""
    began = time.perf_counter()
    metrics = dict(run(values, settings, seed, folder / f"seed-{seed}"))
    seconds = round(time.perf_counter() - began, 3)
    bad = [name for name, value in metrics.items() if not math.isfinite(value)]
    if bad:
        return {"not_finite": bad, "seconds": seconds}, "failed"
    return {"metrics": metrics, "seconds": seconds}, "done"


def _evidence(
    study: Study, ledger: Ledger, plan_hash: str, plan: Mapping[str, Any], tuned: Mapping[str, Any],
    claims: Mapping[str, Claim],
) -> Evidence:  # fmt: skip
    runs = ledger.runs(plan_hash)
    results: dict[str, dict[str, dict[str, float]]] = {arm: {} for arm in plan["arms"]}
    for run in runs:
        if run["status"] == "done" and run["arm"] in results:
            results[run["arm"]][str(run["seed"])] = run["result"]["metrics"]
    tested, control = decide(study, study.budget(plan["budget"]), results, plan["seeds"], claims)
    machine = environment()
    machine.pop("time")
    commit, changed = machine.pop("commit"), machine.pop("uncommitted_changes")
    conditions = Conditions(
        model=study.model,
        scale=study.scale,
        budget=plan["budget"],
        settings={**plan["settings"], "code": plan["code"]["hash"]},
        machine=machine,
        commit=None if commit is None else f"{commit}{' with uncommitted changes' if changed else ''}",
        created=now(),
        seconds=round(sum(run["result"]["seconds"] for run in runs), 1),
    )
    return Evidence(
        study=study.id,
        question=study.question,
        plan_hash=plan_hash,
        seeds=tuple(plan["seeds"]),
        arms=plan["arms"],
        results=results,
        failed=tuple(f"{run['arm']}, seed {run['seed']}" for run in runs if run["status"] == "failed"),
        tested=tested,
        control=control,
        conditions=conditions,
        tuned=tuned,
        plan=plan,
    )
