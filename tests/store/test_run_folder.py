import pytest

from trimpot.core.errors import UsageError
from trimpot.store.run_folder import RunFolder, stage_names


def test_stage_names_count_repeats():
    assert stage_names(["sft", "evaluate", "sft", "preference", "sft"]) == (
        "sft", "evaluate", "sft-2", "preference", "sft-3",
    )  # fmt: skip


def test_create_then_open(tmp_path):
    run = RunFolder.create(tmp_path / "runs" / "one")
    assert run.recipe_text == ""
    run.write_recipe("model: x\n")
    again = RunFolder.open(tmp_path / "runs" / "one")
    assert again == run
    assert again.name == "one"
    assert again.recipe_text == "model: x\n"
    assert again.environment["python"].startswith("3.")
    assert again.stages() == []


def test_create_refuses_what_is_there(tmp_path):
    (tmp_path / "empty").mkdir()
    RunFolder.create(tmp_path / "empty").write_recipe("model: x\n")
    with pytest.raises(UsageError, match=r"exists already and is not empty. Choose another --output, or --resume"):
        RunFolder.create(tmp_path / "empty")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        RunFolder.create(tmp_path / "file")
    assert (tmp_path / "file").read_text() == ""


def test_a_folder_that_was_never_whole_is_made_again(tmp_path):
    path = tmp_path / "killed"
    RunFolder.create(path)
    (path / "lineage.parquet").write_bytes(b"half")
    (path / ".recipe.yaml.0123456789ab.tmp").write_text("model: x")
    assert RunFolder.is_free(path)
    assert RunFolder.create(path).recipe_text == ""
    (path / "notes.txt").write_text("mine")
    assert not RunFolder.is_free(path)
    with pytest.raises(UsageError, match="exists already and is not empty"):
        RunFolder.create(path)


def test_open_refuses_other_folders(tmp_path):
    with pytest.raises(UsageError, match="is no run folder"):
        RunFolder.open(tmp_path)
    with pytest.raises(UsageError, match="there is no such folder"):
        RunFolder.open(tmp_path / "none")


def test_stages_come_in_the_order_of_their_index(tmp_path):
    run = RunFolder.create(tmp_path / "r")
    for index, name in [(1, "sft"), (10, "sft-3"), (0, "evaluate"), (2, "preference")]:
        run.stage(name).write_record({"kind": name.split("-")[0], "index": index, "status": "done"})
    run.stage("reward")
    assert [stage.name for stage in run.stages()] == ["evaluate", "sft", "preference", "sft-3"]
    assert run.stage("reward").record() == {}


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".hidden", "Sft", "sft-"])
def test_names_that_are_no_stage(tmp_path, name):
    with pytest.raises(UsageError, match="is no stage name"):
        RunFolder.create(tmp_path / "r").stage(name)


def test_records(tmp_path):
    stage = RunFolder.create(tmp_path / "r").stage("sft")
    record = {"kind": "sft", "index": 1, "status": "running", "settings": {"steps": 3}, "tokens": None}
    stage.write_record(record)
    assert stage.record() == record
    with pytest.raises(ValueError, match="needs kind, index and a status"):
        stage.write_record({**record, "status": "finished"})
    with pytest.raises(ValueError, match="needs kind"):
        stage.write_record({"index": 1, "status": "done"})
    assert stage.record() == record
    (stage.path / "stage.json").write_text("{")
    with pytest.raises(UsageError, match=r"stage.json: cannot be read as JSON"):
        stage.record()


def test_logs_are_cut_together(tmp_path):
    stage = RunFolder.create(tmp_path / "r").stage("sft")
    for step in (1, 2, 3):
        stage.append_metrics({"step": step, "loss": 1.0 / step})
        stage.append_alarm({"step": step, "detector": "spike"})
        stage.append_sample({"step": step, "output": "x"})
        stage.append_batch(step, ("a", "b"))
    stage.truncate_after(2)
    for log in (stage.metrics(), stage.alarms(), stage.samples(), stage.batches()):
        assert [row["step"] for row in log] == [1, 2]
    assert stage.batches()[0] == {"step": 1, "row_ids": ["a", "b"]}


def test_a_line_without_step_is_refused(tmp_path):
    stage = RunFolder.create(tmp_path / "r").stage("sft")
    with pytest.raises(ValueError, match="needs its step"):
        stage.append_metrics({"loss": 1.0})
    assert stage.metrics() == []
