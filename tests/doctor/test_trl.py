"""Real runs of TRL: the committed ones, and, slow, new ones."""

import pytest

from tests.doctor import logs, trl_runs
from trimpot.doctor.examine import FINDINGS, HEALTHY, examine
from trimpot.doctor.read import read_logs


def examined(path):
    (log,) = read_logs(path)
    return examine(log)


@pytest.mark.parametrize("name", ["trl_sft", "trl_dpo"])
def test_a_run_of_trls_without_a_fault_is_healthy(name):
    found = examined(logs.DATA / name)
    assert found.verdict == HEALTHY
    assert found.log.steps == tuple(range(1, trl_runs.STEPS + 1))
    checked = {one.detector for one in found.checked}
    assert {"loss_spike", "gradient_norm"} <= checked
    assert ("wrong_reference" in checked) == (name == "trl_dpo")


def test_the_gradient_norm_of_a_diverging_run_of_trls_is_found():
    found = examined(logs.DATA / "trl_sft_diverging")
    assert [one.finding.detector for one in found.diagnoses] == ["gradient_norm"]
    assert found.diagnoses[0].lasts


def test_the_wrong_reference_of_a_run_of_trls_is_found():
    found = examined(logs.DATA / "trl_dpo_wrong_reference")
    (one,) = found.diagnoses
    assert (one.finding.detector, one.severity, one.rows) == ("wrong_reference", "void", trl_runs.STEPS)
    # rewards/chosen 0.352 at step 1, at TRL's beta of 0.1.
    assert one.finding.value == pytest.approx(3.52, abs=0.01)
    assert all(name.startswith("DPOConfig.") for name in one.in_trl)


@pytest.mark.slow
def test_a_new_run_of_sft_in_trl_reads_as_the_committed_one_does(tmp_path):
    found = examined(trl_runs.sft(tmp_path))
    assert found.verdict == HEALTHY
    committed = examined(logs.DATA / "trl_sft")
    assert found.log.series.keys() == committed.log.series.keys()
    assert found.checked == committed.checked
    assert found.log.series["loss"] == pytest.approx(committed.log.series["loss"], rel=1e-2)


@pytest.mark.slow
def test_faults_in_new_runs_of_trl_are_found(tmp_path):
    diverging = examined(trl_runs.sft(tmp_path / "sft", learning_rate=trl_runs.HUGE_RATE, max_grad_norm=1e9))
    # Whether it goes as far as NaN depends on the machine.
    assert {one.finding.detector for one in diverging.diagnoses} & {"gradient_norm", "loss_spike"}
    start = trl_runs.sft(tmp_path / "start")
    wrong = examined(trl_runs.dpo(tmp_path / "dpo", start))
    assert wrong.diagnoses[0].finding.detector == "wrong_reference"
    assert examined(trl_runs.dpo(tmp_path / "right")).verdict == HEALTHY


@pytest.mark.slow
def test_logging_every_fourth_step_is_said_and_the_first_step_is_missed(tmp_path):
    start = trl_runs.sft(tmp_path / "start")
    found = examined(trl_runs.dpo(tmp_path / "dpo", start, logging_steps=4))
    assert found.verdict != FINDINGS
    assert any("a row every 4 steps" in note for note in found.notes)
    missing = {one.detector: one.why for one in found.not_checked}
    assert "the first row is step 4" in missing["wrong_reference"]
