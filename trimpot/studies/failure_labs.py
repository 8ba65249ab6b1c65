"""Do detectors fire on the failures they are for, and stay silent on runs without one?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trimpot.detectors import DETECTORS
from trimpot.detectors.rates import DetectorRate, settings_of
from trimpot.detectors.watch import Watcher, all_detectors
from trimpot.knobs.evidence import Evidence
from trimpot.studies.labs.bench import Bench, Metrics, prepare
from trimpot.studies.labs.clean import CLEAN
from trimpot.studies.labs.faults import FAULTS
from trimpot.studies.study import Budget, Settings, Study, Values

THRESHOLD_SEEDS = (1, 2, *range(100, 117), *range(200, 220))
"""Seeds on which thresholds and faults were chosen; none of them is counted."""
FIRED = "fired/"
CLEAN_NAMES = tuple(CLEAN)


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """The step at which each detector first fired in one run, by ``fired/DETECTOR``; absent: it stayed silent."""
    bench = Bench(seed, folder)
    if "clean" in values:
        metrics = CLEAN[CLEAN_NAMES[int(values["clean"])]](bench)
    else:
        metrics = FAULTS[int(values["fault"])].run(bench)
    return {"steps": float(len(metrics)), **{FIRED + name: float(step) for name, step in first_alarms(metrics).items()}}


def first_alarms(metrics: Sequence[Metrics]) -> dict[str, int]:
    """The first step at which each detector spoke."""
    watcher = Watcher(all_detectors())
    fired: dict[str, int] = {}
    for line in metrics:
        step = line["step"]
        assert step is not None
        for finding in watcher.observe(int(step), line):
            fired.setdefault(finding.detector, finding.step)
    return fired


ARMS: Mapping[str, Mapping[str, float]] = {
    **{f"clean: {name}": {"clean": float(number)} for number, name in enumerate(CLEAN_NAMES)},
    **{fault.name: {"fault": float(number)} for number, fault in enumerate(FAULTS)},
}
SETTINGS = {"sft_steps": 600}

STUDY = Study(
    id="failure-labs",
    question="Do detectors fire on the failures they are for, and stay silent on runs without one?",
    model="tiny-0.1m",
    scale=(
        "a random Llama on bytes, fine-tuned to write four letters backwards, trained on by every kind of objective"
        f" for 12 to 280 steps; thresholds and faults chosen on seeds {THRESHOLD_SEEDS}"
    ),
    tests={},
    claims={},
    budgets={"quick": Budget(ARMS, 3, SETTINGS), "full": Budget(ARMS, 20, SETTINGS)},
    prepare=prepare,
    run=run,
    first_seed=300,
)


def rates(evidence: Evidence) -> list[DetectorRate]:
    """What the study counted, one rate for each fault, and one without a fault for detectors that have none.

    False alarms are counted over all clean runs of all kinds of training. A run that failed counts for nothing.
    """
    clean = [run for name in CLEAN_NAMES for run in evidence.results[f"clean: {name}"].values()]
    conditions: dict[str, Any] = {
        "study": evidence.study,
        "plan": evidence.plan_hash,
        "model": evidence.conditions.model,
        "scale": evidence.conditions.scale,
        "commit": evidence.conditions.commit,
        "machine": dict(evidence.conditions.machine),
    }

    def rate(detector: str, lab: str, what: str, runs: Sequence[Mapping[str, float]]) -> DetectorRate:
        key = FIRED + detector
        return DetectorRate(
            detector=detector,
            lab=lab,
            fault=what,
            fired=sum(key in one for one in runs),
            runs=len(runs),
            clean_fired=sum(key in one for one in clean),
            clean_runs=len(clean),
            threshold_seeds=THRESHOLD_SEEDS,
            seeds=evidence.seeds,
            settings=settings_of(detector),
            conditions=conditions,
        )

    found = [
        rate(fault.detector, slug(fault.name), fault.what, list(evidence.results[fault.name].values()))
        for fault in FAULTS
    ]
    covered = {fault.detector for fault in FAULTS}
    found += [rate(name, "clean-only", "no fault was injected", []) for name in DETECTORS if name not in covered]
    return found


def slug(name: str) -> str:
    """A fault's name as part of a file's."""
    return name.replace(", ", "-").replace(" ", "-")
