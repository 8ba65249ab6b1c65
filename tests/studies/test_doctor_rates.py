"""The doctor's rates: logs in every format say the same, and shares are counts of the logs that were counted."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest

from trimpot.doctor.read import read_logs
from trimpot.knobs.evidence import Conditions, Evidence
from trimpot.studies import doctor_rates, failure_labs
from trimpot.studies.doctor_logs import WRITERS, coarse
from trimpot.studies.labs.bench import prepare
from trimpot.studies.labs.faults import FAULTS

ROWS = [
    {"step": float(step), "loss": 2.0 / step, "kl": None, "grad_norm": math.nan if step == 3 else 1.0}
    for step in range(1, 8)
]


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_holds_the_run(name, tmp_path):
    (log,) = read_logs(WRITERS[name](ROWS, tmp_path))
    assert log.steps == tuple(range(1, 8))
    assert log.series["loss"] == pytest.approx([row["loss"] for row in ROWS], rel=1e-6)
    assert [math.isnan(value) for value in log.series["grad_norm"]] == [step == 3 for step in range(1, 8)]
    assert not log.has("kl")


def test_rows_of_several_steps_are_means():
    found = coarse([{"step": 1.0, "loss": 1.0}, {"step": 2.0, "loss": 3.0, "kl": 5.0}, {"step": 3.0, "loss": 9.0}], 2)
    assert found == [{"loss": 2.0, "kl": 5.0, "step": 2.0}]


def test_no_seed_chose_a_threshold_or_measured_a_rate():
    study, rates = doctor_rates.STUDY, failure_labs.STUDY
    counted = {study.first_seed + number for number in range(study.budgets["full"].seeds)}
    earlier = {rates.first_seed + number for number in range(rates.budgets["full"].seeds)}
    assert not counted & (earlier | set(failure_labs.THRESHOLD_SEEDS))
    clean = [name for name in study.budgets["full"].arms if name.startswith("clean: ")]
    assert len(clean) * len(counted) >= 20
    assert len(FAULTS) * len(counted) >= 20


def test_a_run_is_read_in_every_format_and_its_fault_put_first(tmp_path):
    prepare({"sft_steps": 40}, 0, tmp_path)
    number = next(place for place, fault in enumerate(FAULTS) if fault.name == "two scores")
    found = doctor_rates.run({"fault": float(number)}, {}, 0, tmp_path)
    assert found["rank/verifier_errors"] >= 1
    assert {name: found[f"agrees/{name}"] for name in WRITERS} == dict.fromkeys(WRITERS, 1.0)
    assert {file.suffix for file in tmp_path.iterdir()} <= {".json", ".safetensors", ".py"}


def test_shares_are_counts():
    agrees = {f"agrees/{name}": 1.0 for name in WRITERS}
    results = {name: {"400": {"steps": 9.0, **agrees}} for name in doctor_rates.ARMS}
    results["clean: sft"]["400"] = {"steps": 9.0, **agrees, "agrees/CSV": 0.0, "rank/loss_spike": 1.0}
    results["garbled batch"] = {
        "400": {**agrees, "rank/loss_spike": 2.0, "rank/prompt_leak": 1.0},
        "401": {**agrees, "rank/loss_spike": 1.0, "coarse_rank/loss_spike": 1.0},
        "402": dict(agrees),
    }
    conditions = Conditions("tiny", "small", "quick", {}, {}, None, "now", 1.0)
    evidence = Evidence("doctor-rates", "?", "0", (400,), doctor_rates.ARMS, results, (), {}, None, conditions)
    found = doctor_rates.shares(evidence)
    spike = found["loss_spike"]
    assert [(spike[name].value, spike[name].n) for name in ("sensitivity", "first", "coarse")] == [
        (2 / 3, 3),
        (1 / 3, 3),
        (1 / 3, 3),
    ]
    clean = len(failure_labs.CLEAN_NAMES)
    assert (spike["false_alarms"].value, spike["false_alarms"].n) == (1 / clean, clean)
    assert found["any"]["false_alarms"].value == 1 / clean
    logs = clean + len(FAULTS) + 2
    assert found["any"]["agrees/CSV"].value == pytest.approx((logs - 1) / logs)
    assert found["any"]["agrees/trimpot"].value == 1.0


def test_the_table_in_the_docs_is_made_of_the_shares(tool):
    agrees = {f"agrees/{name}": 1.0 for name in WRITERS}
    results = {name: {"400": {**agrees}} for name in doctor_rates.ARMS}
    results["garbled batch"]["400"] = {**agrees, "rank/loss_spike": 1.0}
    conditions = Conditions("tiny", "small", "full", {}, {}, None, "now", 1.0)
    evidence = Evidence("doctor-rates", "?", "0", (400,), doctor_rates.ARMS, results, (), {}, None, conditions)
    text = tool.section(evidence)
    assert "| loss_spike | 1/1 [21%, 100%] | 1/1 [21%, 100%] | 0/1 [0%, 79%] | 0/9 [0%, 30%] |" in text
    assert f"| the doctor | 1/{len(FAULTS)} " in text
    once = tool.with_section("# Runbooks\n", text)
    assert tool.with_section(once, text) == once
    assert once.startswith("# Runbooks\n\n## Measured\n")


@pytest.fixture(scope="module")
def tool():
    path = Path(__file__).parents[2] / "tools/doctor_rates.py"
    spec = importlib.util.spec_from_file_location("doctor_rates_tool", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
