"""Does the doctor find in a log the fault that the run had, put it first, and call a clean run healthy?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from trimpot.core.stats import Estimate
from trimpot.doctor.examine import Examination, examine
from trimpot.doctor.read import read_logs
from trimpot.knobs.evidence import Evidence
from trimpot.statistics.intervals import wilson
from trimpot.studies.doctor_logs import WRITERS, coarse
from trimpot.studies.failure_labs import ARMS, CLEAN_NAMES, first_alarms
from trimpot.studies.labs.bench import Bench, prepare
from trimpot.studies.labs.clean import CLEAN
from trimpot.studies.labs.faults import FAULTS
from trimpot.studies.study import Budget, Settings, Study, Values

EVERY = 5
"""Steps of a row in the log that is read a second time, as at ``logging_steps: 5``."""
RANK, COARSE_RANK, AGREES = "rank/", "coarse_rank/", "agrees/"


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """What the doctor says of one run, from logs in every format.

    ``rank/DETECTOR``: its place among the findings, 1 the strongest; absent where it found nothing.
    ``coarse_rank/DETECTOR``: the same of rows that are means over EVERY steps. ``agrees/FORMAT``: 1 where the doctor
    names the detectors, and the steps at which they first fired, that fired in the live run.
    """
    bench = Bench(seed, folder)
    if "clean" in values:
        metrics = CLEAN[CLEAN_NAMES[int(values["clean"])]](bench)
    else:
        metrics = FAULTS[int(values["fault"])].run(bench)
    live = first_alarms(metrics)
    found: dict[str, float] = {"steps": float(len(metrics))}
    # The arms of a seed share its folder and run side by side.
    with TemporaryDirectory(dir=folder) as own:
        for name, write in WRITERS.items():
            seen = _examined(write(metrics, Path(own) / name))
            found[AGREES + name] = float({one.finding.detector: one.first for one in seen.diagnoses} == live)
            if name == "trainer_state":
                found |= _ranks(RANK, seen)
        found |= _ranks(COARSE_RANK, _examined(WRITERS["trainer_state"](coarse(metrics, EVERY), Path(own) / "coarse")))
    return found


def _examined(path: Path) -> Examination:
    (log,) = read_logs(path)
    return examine(log)


def _ranks(prefix: str, seen: Examination) -> dict[str, float]:
    return {prefix + one.finding.detector: float(rank) for rank, one in enumerate(seen.diagnoses, start=1)}


SETTINGS = {"sft_steps": 600}
STUDY = Study(
    id="doctor-rates",
    question="Does the doctor find in a log the fault that the run had, put it first, and call a clean run healthy?",
    model="tiny-0.1m",
    scale=(
        "the runs of failure-labs on other seeds: a random Llama on bytes, every kind of objective, 12 to 280 steps,"
        f" each logged in {len(WRITERS)} formats, and once more with means over {EVERY} steps as rows"
    ),
    tests={},
    claims={},
    budgets={"quick": Budget(ARMS, 1, SETTINGS), "full": Budget(ARMS, 5, SETTINGS, minutes=20.0)},
    prepare=prepare,
    run=run,
    first_seed=400,
)
"""Seeds from 400 on: thresholds were chosen below 220, and the rates that rank findings were measured on 300 to 319."""


def shares(evidence: Evidence) -> dict[str, dict[str, Estimate]]:
    """Detector -> its shares with 95% Wilson intervals; under ``any`` those of the doctor as a whole.

    sensitivity: of logs with its fault, in how many it was found; first: in how many it was the strongest finding;
    coarse: in how many it was found in rows of EVERY steps. false_alarms: of clean logs, in how many it spoke; under
    ``any`` in how many anything did. Under ``any`` also, by format, in how many logs the doctor agrees with the live
    detectors. A run that failed counts for nothing.
    """
    clean = [run for name in CLEAN_NAMES for run in evidence.results[f"clean: {name}"].values()]
    faulty = {fault: list(evidence.results[fault.name].values()) for fault in FAULTS}
    found: dict[str, dict[str, Estimate]] = {}
    for detector in sorted({fault.detector for fault in FAULTS}):
        runs = [run for fault, ones in faulty.items() if fault.detector == detector for run in ones]
        found[detector] = {
            "sensitivity": _share(RANK + detector in run for run in runs),
            "first": _share(run.get(RANK + detector) == 1 for run in runs),
            "coarse": _share(COARSE_RANK + detector in run for run in runs),
            "false_alarms": _share(RANK + detector in run for run in clean),
        }
    both = [(fault.detector, run) for fault, runs in faulty.items() for run in runs]
    found["any"] = {
        "sensitivity": _share(RANK + detector in run for detector, run in both),
        "first": _share(run.get(RANK + detector) == 1 for detector, run in both),
        "coarse": _share(COARSE_RANK + detector in run for detector, run in both),
        "false_alarms": _share(any(name.startswith(RANK) for name in run) for run in clean),
        **{
            AGREES + name: _share(run[AGREES + name] == 1 for run in [*clean, *(r for _, r in both)])
            for name in WRITERS
        },
    }
    return found


def _share(holds: Iterable[bool]) -> Estimate:
    counted = list(holds)
    return wilson(sum(counted), len(counted))
