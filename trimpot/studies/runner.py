"""Runs a study: hypothesis first, then the runs the ledger does not have yet, then the verdicts."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from trimpot.core.errors import UsageError
from trimpot.knobs.evidence import Conditions, Evidence
from trimpot.knobs.library import Library, library
from trimpot.store.environment import environment, now
from trimpot.store.ledger import Ledger
from trimpot.studies.decide import decide
from trimpot.studies.study import Budget, Run, Settings, Study, Values
from trimpot.studies.workers import Task, Workers

WORKERS = 2
Progress = Callable[[int, int, str], None]
"""Called with runs done, runs in all, and what was done last."""


def run_study(
    study: Study,
    ledger: Ledger,
    work: Path,
    budget: str = "quick",
    seeds: int | None = None,
    workers: int = WORKERS,
    progress: Progress = lambda done, total, text: None,
    known: Library | None = None,
) -> Evidence:
    """Runs a study and returns its evidence.

    The plan is written to the ledger before the first run. Each run is written when it ends, so a study that was
    killed goes on with the runs that are missing, and ends with the numbers it would have had. ``work`` holds the
    base models of the seeds until the study is done.

    Raises:
        UsageError: unknown budget, fewer than one seed, or a claim of the study that is not in the library.
    """
    chosen, claims = study.budget(budget), (known or library()).claims
    count = chosen.seeds if seeds is None else seeds
    if count < 1:
        raise UsageError("seeds", f"{count} is too few", "Give at least 1; an interval needs 2.")
    missing = [name for name in study.claims if name not in claims]
    if missing:
        raise UsageError(f"study {study.id}", f"claim {missing[0]!r} is unknown", "Add it to claims.yaml.")
    plan = study.plan(budget, count, {name: claim.statement for name, claim in claims.items()})
    plan_hash = ledger.record_hypothesis(study.id, plan)
    progress(0, len(chosen.arms) * count, f"hypothesis {plan_hash} is written")
    folder = work / plan_hash
    work.mkdir(parents=True, exist_ok=True)
    # A second process with the same plan waits here, and then finds every run in the ledger.
    with FileLock(f"{folder}.lock"), Workers(workers) as pool:
        _run_missing(study, chosen, ledger, plan_hash, plan["seeds"], folder, pool, progress)
        shutil.rmtree(folder, ignore_errors=True)
    return _evidence(study, budget, ledger, plan_hash, plan, claims)


def _run_missing(
    study: Study, budget: Budget, ledger: Ledger, plan_hash: str, seeds: Sequence[int], folder: Path,
    workers: Workers, progress: Progress,
) -> None:  # fmt: skip
    done = {(run["arm"], run["seed"]) for run in ledger.runs(plan_hash)}
    total = len(budget.arms) * len(seeds)
    todo = [(arm, seed) for seed in seeds for arm in budget.arms if (arm, seed) not in done]
    waiting = [seed for seed in seeds if any(seed == other for _, other in todo)]
    bases = [seed for seed in waiting if not (folder / f"seed-{seed}" / "ready").exists()]
    tasks: list[Task] = [(prepare_seed, (study.prepare, budget.settings, seed, folder)) for seed in bases]
    for index, _ in workers.run(tasks):
        progress(len(done), total, f"seed {bases[index]}: base ready")
    runs: list[Task] = [(run_arm, (study.run, budget.arms[arm], budget.settings, seed, folder)) for arm, seed in todo]
    for index, (result, status) in workers.run(runs):
        arm, seed = todo[index]
        ledger.record_run(plan_hash, arm, seed, result, status)
        done.add((arm, seed))
        progress(len(done), total, f"{arm}, seed {seed}")


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
    study: Study, budget: str, ledger: Ledger, plan_hash: str, plan: Mapping[str, Any], claims: Mapping[str, Any]
) -> Evidence:
    runs = ledger.runs(plan_hash)
    results: dict[str, dict[str, dict[str, float]]] = {arm: {} for arm in plan["arms"]}
    for run in runs:
        if run["status"] == "done":
            results[run["arm"]][str(run["seed"])] = run["result"]["metrics"]
    tested, control = decide(study, study.budget(budget), results, plan["seeds"], claims)
    machine = environment()
    machine.pop("time")
    commit, changed = machine.pop("commit"), machine.pop("uncommitted_changes")
    conditions = Conditions(
        model=study.model,
        scale=study.scale,
        budget=budget,
        settings={**plan["settings"], "code": plan["code"]},
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
    )
