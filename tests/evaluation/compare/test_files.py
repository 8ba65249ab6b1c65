"""Where outcomes lie, and a plan's spread from them."""

import json
import os

import pytest

from tests.evaluation.compare.made import outcome, side
from trimpot.core.errors import UsageError
from trimpot.evaluation.compare.files import frames_of, outcomes_of, outcomes_path
from trimpot.evaluation.compare.frames import frame_of
from trimpot.evaluation.compare.plan import spread_of
from trimpot.store.outcomes import write_outcomes

ONE = [outcome(0, 1.0)]


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_outcomes(path, ONE)


def test_a_stage_a_folder_and_a_file(tmp_path):
    write(tmp_path / "run/sft/outcomes.parquet")
    for given in (tmp_path / "run/sft", tmp_path / "run/sft/outcomes.parquet"):
        assert outcomes_path(given) == tmp_path / "run/sft/outcomes.parquet"
        assert outcomes_of(str(given)) == ONE


def test_a_whole_run_names_its_stages(tmp_path):
    write(tmp_path / "run/base/outcomes.parquet")
    write(tmp_path / "run/sft/outcomes.parquet")
    with pytest.raises(UsageError, match=r"it holds 2 evaluated stages. Give one of them: .*run/base, .*run/sft"):
        outcomes_path(tmp_path / "run")


def test_what_was_not_evaluated_says_how(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(UsageError, match=r"Evaluate it first: trimpot eval .*model"):
        outcomes_path(tmp_path / "model")
    with pytest.raises(UsageError, match="trimpot eval MODEL"):
        outcomes_path("smollm2-135m")
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(UsageError, match="not a readable Parquet file"):
        frames_of(str(tmp_path / "x.parquet"))


def evaluation(folder, model, age):
    write(folder / "outcomes.parquet")
    (folder / "evaluation.json").write_text(json.dumps({"model": {"name": model}}))
    os.utime(folder / "evaluation.json", (age, age))


def test_a_model_stands_for_its_newest_evaluation(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = tmp_path / "evaluations"
    evaluation(here / "old", "runs/first/sft", 1)
    evaluation(here / "new", "runs/first/sft", 2)
    evaluation(here / "base", "smollm2-135m", 3)
    (tmp_path / "runs/first/sft").mkdir(parents=True)  # weights without outcomes
    for name in ("sft", "runs/first/sft", "runs/first/sft/"):
        assert outcomes_path(name).parent.name == "new"
    assert outcomes_path("smollm2-135m").parent.name == "base"
    assert outcomes_path("old").parent.name == "old"
    evaluation(here / "other", "runs/second/sft", 4)
    with pytest.raises(UsageError, match=r"2 evaluated models end so. Give one of runs/first/sft, runs/second/sft"):
        outcomes_path("sft")
    assert outcomes_path("runs/first/sft").parent.name == "new"


def test_seeds_are_parted_by_commas(tmp_path):
    for name in "ab":
        write(tmp_path / name / "outcomes.parquet")
    assert len(frames_of(f"{tmp_path}/a, {tmp_path}/b")) == 2
    with pytest.raises(UsageError, match="twice"):
        frames_of(f"{tmp_path}/a,{tmp_path}/a/outcomes.parquet")
    with pytest.raises(UsageError, match="names no outcomes"):
        frames_of(",")


def test_the_spread_of_one_or_two_evaluations():
    a, b = side([1.0, 0.0, 1.0, 0.0], "old"), side([1.0, 1.0, 1.0, 0.0], "new")
    two = spread_of([frame_of(a), frame_of(b)])
    assert (two.sd, two.icc, two.items) == (pytest.approx(0.5), 0.0, 4)
    one = spread_of([frame_of(a)])
    assert one.sd == pytest.approx((1 / 3) ** 0.5)
    assert "assumed" in one.source
    clustered = spread_of([frame_of(side([1.0, 1.0, 0.0, 0.0], "w", cluster=lambda i: f"c{i // 2}"))])
    assert (clustered.icc, clustered.clusters) == (1.0, 2)
    with pytest.raises(UsageError, match="without spread"):
        spread_of([frame_of(side([1.0, 1.0], "w"))])
    with pytest.raises(UsageError, match="3 files"):
        spread_of([frame_of(a)] * 3)


def test_of_several_groups_accuracy_is_planned_for():
    scores = [1.0, 0.0, 1.0, 0.0]
    bits = [outcome(10 + i, 3.0 * i, task="p", metric_group="accuracy", better="lower") for i in range(4)]
    found = spread_of([frame_of(side(scores, "old") + bits), frame_of(side(scores[::-1], "new") + bits)])
    assert (found.items, found.sd) == (4, pytest.approx((4 / 3) ** 0.5))
