"""The labs: every fault names a detector, runs repeat, and rates are counts of the runs that were counted."""

from __future__ import annotations

import dataclasses

import pytest

from trimpot.core.stats import Estimate
from trimpot.detectors import DETECTORS
from trimpot.knobs.evidence import Conditions, Evidence
from trimpot.studies import failure_labs
from trimpot.studies.labs.bench import Bench, prepare
from trimpot.studies.labs.clean import CLEAN
from trimpot.studies.labs.faults import FAULTS


def test_every_fault_has_a_detector_and_a_name_of_its_own():
    assert {fault.detector for fault in FAULTS} <= DETECTORS.keys()
    slugs = [failure_labs.slug(fault.name) for fault in FAULTS]
    assert len(set(slugs)) == len(FAULTS) == len({fault.name for fault in FAULTS})
    assert all(slug.replace("-", "").isalnum() for slug in slugs)


def test_counted_seeds_chose_no_threshold():
    study = failure_labs.STUDY
    counted = {study.first_seed + number for number in range(max(one.seeds for one in study.budgets.values()))}
    assert not counted & set(failure_labs.THRESHOLD_SEEDS)


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    folder = tmp_path_factory.mktemp("bench")
    prepare({"sft_steps": 40}, 0, folder)
    return Bench(0, folder)


def test_a_run_repeats_and_its_alarms_are_by_first_step(bench):
    fault = next(fault for fault in FAULTS if fault.name == "two scores")
    once, again = (failure_labs.first_alarms(fault.run(bench)) for _ in range(2))
    assert once == again
    number = float(FAULTS.index(fault))
    metrics = failure_labs.run({"fault": number}, {}, 0, bench.folder)
    assert {name: step for name, step in metrics.items() if name != "steps"} == {
        f"fired/{name}": float(step) for name, step in once.items()
    }


def test_a_clean_run_differs_from_its_faulty_twin_in_the_fault(bench):
    clean = failure_labs.first_alarms(CLEAN["sft"](bench))
    faulty = failure_labs.first_alarms(next(one for one in FAULTS if one.name == "everything masked").run(bench))
    assert "nothing_supervised" not in clean
    assert faulty["nothing_supervised"] == 1


def test_rates_count_runs():
    results = {name: {"200": {"steps": 9.0}, "201": {"steps": 9.0}} for name in failure_labs.ARMS}
    results["clean: sft"]["200"] = {"steps": 9.0, "fired/loss_spike": 3.0}
    results["garbled batch"] = {"200": {"steps": 9.0, "fired/loss_spike": 5.0, "fired/prompt_leak": 1.0}}
    conditions = Conditions("tiny", "small", "quick", {}, {}, None, "now", 1.0)
    evidence = Evidence("failure-labs", "?", "hash", (300, 301), failure_labs.ARMS, results, (), {}, None, conditions)
    found = {(rate.detector, rate.lab): rate for rate in failure_labs.rates(evidence)}
    spike = found["loss_spike", "garbled-batch"]
    assert (spike.fired, spike.runs) == (1, 1)
    assert (spike.clean_fired, spike.clean_runs) == (1, 2 * len(CLEAN))
    assert isinstance(spike.true_positive, Estimate)
    assert {rate.detector for rate in found.values()} == set(DETECTORS)
    assert found["gradient_norm", "clean-only"].runs == 0
    assert dataclasses.asdict(spike)["threshold_seeds"] == failure_labs.THRESHOLD_SEEDS
