import json
import math

import pytest

from trimpot.core.errors import UsageError
from trimpot.site.summary import as_json, summarise
from trimpot.store.run_folder import RunFolder


@pytest.fixture(scope="module")
def summary(constructed_run):
    return summarise(constructed_run)


def test_stages_in_order_with_their_numbers(summary):
    assert [stage.name for stage in summary.stages] == ["evaluate", "sft", "reward", "preference", "policy_gradient"]
    sft = summary.stages[1]
    assert (sft.steps, sft.seconds, sft.tokens) == (60, 141.2, 38_400)
    assert sft.tokens_per_second == pytest.approx(300.0)
    assert sft.did == "supervised fine-tuning: objective sft, learning_rate 5e-05"
    assert summary.seconds == pytest.approx(619.0)


def test_model_and_seed_come_from_the_recipe(summary):
    assert (summary.name, summary.model, summary.seed) == ("constructed", "smollm2-135m", 0)


def test_base_is_the_evaluation_at_index_0(summary):
    assert summary.base == "evaluate"
    assert summary.label("evaluate") == "base"
    assert summary.evaluated == ("evaluate", "sft", "preference", "policy_gradient")
    base, sft, reward = (stage.evaluation for stage in summary.stages[:3])
    assert base.difference is None
    assert base.parse_failures > 0
    assert sft.difference.excludes(0.0)
    assert sft.difference.value == pytest.approx((sft.gained - sft.lost) / 96)
    assert reward is None
    assert summary.last_evaluated.name == "policy_gradient"


def test_curves_leave_out_what_was_not_reported_and_keep_nan(summary):
    curves = {curve.name: curve for curve in summary.stages[4].curves}
    assert curves["frac_reward_zero_std"].steps == tuple(range(2, 25, 2))
    names = [curve.name for curve in summary.stages[4].curves]
    assert names[:6] == ["loss", "reward", "entropy", "kl", "grad_norm", "learning_rate"]
    assert "step" not in names
    loss = summary.stages[1].curves[0]
    assert math.isnan(loss.values[6])
    assert len(loss.finite) == 59


def test_alarms_name_their_stage(summary):
    (alarm,) = summary.alarms
    assert (alarm.stage, alarm.step, alarm.detector) == ("policy_gradient", 18, "entropy_collapse")


def test_json_is_strict(summary):
    text = json.dumps(as_json(summary), allow_nan=False)
    read = json.loads(text)
    assert read["stages"][1]["curves"][0]["values"][6] is None
    assert read["stages"][1]["evaluation"]["accuracy"]["n"] == 96


def test_a_run_that_has_just_begun(tmp_path):
    run = RunFolder.create(tmp_path / "r")
    run.write_recipe("model: [unclosed")
    found = summarise(run)
    assert (found.model, found.stages, found.seconds, found.last_evaluated) == ("unknown model", (), None, None)
    run.stage("sft").write_record({"kind": "sft", "index": 0, "status": "running"})
    (stage,) = summarise(run).stages
    assert (stage.status, stage.steps, stage.tokens_per_second, stage.evaluation) == ("running", None, None, None)


def test_an_unreadable_outcome_file_is_named(tmp_path):
    run = RunFolder.create(tmp_path / "r")
    stage = run.stage("sft")
    stage.write_record({"kind": "sft", "index": 1, "status": "done"})
    stage.outcomes_path.write_text("broken")
    with pytest.raises(UsageError, match=r"sft/outcomes.parquet: not a readable"):
        summarise(run)
