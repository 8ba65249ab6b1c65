"""Every format gives the same log; broken files give one line."""

import math
import shutil

import polars
import pytest

from tests.doctor import logs
from trimpot.core.errors import UsageError
from trimpot.doctor.read import read_logs, read_raw
from trimpot.doctor.readers.tensorboard import crc32c
from trimpot.store.jsonl import write_lines

EXPECTED = {"loss": [logs.loss(step) for step in range(1, 41)], "grad_norm": [logs.grad_norm(s) for s in range(1, 41)]}
OLD_TRACKIO = "id INTEGER PRIMARY KEY, timestamp TEXT, project_name TEXT, run_name TEXT, step INTEGER, metrics TEXT"
NEW_TRACKIO = "id INTEGER PRIMARY KEY, run_id TEXT, timestamp TEXT, run_name TEXT, step INTEGER, metrics TEXT"


def one(path, run=None):
    (log,) = read_logs(path, run)
    return log


def is_the_run(log, relative=0.0):
    assert log.steps == tuple(range(1, 41))
    for name, values in EXPECTED.items():
        assert log.series[name] == pytest.approx(values, rel=relative)
    return True


def test_a_trimpot_run_has_a_log_for_each_stage_that_trained(tmp_path):
    (tmp_path / "environment.json").write_text("{}")
    for index, name in enumerate(("sft", "data", "preference")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "stage.json").write_text(f'{{"kind": "{name}", "index": {index}, "status": "done"}}')
        if name != "data":
            write_lines(tmp_path / name / "metrics.jsonl", logs.rows())
    assert [log.run for log in read_logs(tmp_path)] == ["sft", "preference"]
    assert is_the_run(one(tmp_path, "preference"))
    assert is_the_run(one(tmp_path / "sft"))
    with pytest.raises(UsageError, match=r"has no run 'prefrence'.*Did you mean 'preference'"):
        read_logs(tmp_path, "prefrence")


def test_a_state_is_read_as_a_file_as_a_checkpoint_and_as_the_last_of_an_output_folder(tmp_path):
    for step, history in ((9, logs.rows()[:9]), (40, logs.rows())):
        logs.state(tmp_path / f"checkpoint-{step}" / "trainer_state.json", history)
    for path in (tmp_path, tmp_path / "checkpoint-40", tmp_path / "checkpoint-40" / "trainer_state.json"):
        log = one(path)
        assert is_the_run(log)
        assert log.of_transformers
    renamed = logs.state(tmp_path / "state.json")
    assert is_the_run(one(renamed))


def test_rows_of_evaluation_and_the_summary_of_a_run_change_nothing(tmp_path):
    history = logs.rows()
    history.insert(20, {"step": 20, "eval_loss": 1.0, "epoch": 0.5})
    history.append({"step": 40, "train_runtime": 3.0, "train_loss": 0.9, "total_flos": 1.0})
    assert is_the_run(one(logs.state(tmp_path / "trainer_state.json", history)))


def test_event_files_are_read_as_the_package_tensorboard_writes_them():
    """The fixture: tensorboard 2.21's EventFileWriter, simple values, float and double tensors, a text, a summary."""
    log = one(logs.DATA / "tensorboard")
    assert is_the_run(log, 1e-6)
    assert set(log.series["entropy"]) == {1.5}
    assert log.of_transformers
    (raw,) = read_raw(logs.DATA / "tensorboard")
    assert raw.rows[0]["train/learning_rate"] == pytest.approx(1e-3)
    assert raw.rows[-1]["train/train_loss"] == pytest.approx(1.2)


def event_file(tmp_path):
    (source,) = (logs.DATA / "tensorboard").iterdir()
    return shutil.copy(source, tmp_path / source.name)


def test_an_event_file_that_is_cut_off_is_read_up_to_there(tmp_path):
    path = event_file(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    log = one(path)
    assert log.steps == tuple(range(1, log.steps[-1] + 1))
    assert 15 < log.steps[-1] < 25
    assert any("cut off" in note for note in log.notes)
    path.write_bytes(data[:20])
    with pytest.raises(UsageError, match="cut off within its first record"):
        read_logs(path)


def test_a_damaged_event_file_is_refused_with_the_byte(tmp_path):
    path = event_file(tmp_path)
    data = bytearray(path.read_bytes())
    place = data.index(b"train/loss")
    data[place] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(UsageError, match=r"damaged: a record and its checksum differ \(byte \d+\)"):
        read_logs(path)
    path.write_text("no events at all, but text of some length")
    with pytest.raises(UsageError, match="length of a record"):
        read_logs(path)


def test_the_checksum_is_castagnolis():
    assert crc32c(b"123456789") == 0xE3069283


def test_event_folders_are_runs(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        event_file(tmp_path / name)
    assert [log.run for log in read_logs(tmp_path)] == ["a", "b"]


def test_a_history_of_wandb_is_read_by_the_true_step(tmp_path):
    lines = [
        {
            "_step": 2 * number,
            "train/global_step": row["step"],
            "train/loss": row["loss"],
            "train/grad_norm": row["grad_norm"],
        }
        for number, row in enumerate(logs.rows())
    ]
    assert is_the_run(one(logs.jsonl(tmp_path / "history.jsonl", lines)))
    header = list(lines[0])
    path = logs.table(tmp_path / "history.csv", header, [[line[name] for name in header] for line in lines])
    assert is_the_run(one(path))
    path = logs.table(tmp_path / "history.tsv", header, [[line[name] for name in header] for line in lines], "\t")
    assert is_the_run(one(path))
    polars.DataFrame(lines).write_parquet(tmp_path / "history.parquet")
    assert is_the_run(one(tmp_path / "history.parquet"))


def test_a_chart_of_wandb_has_a_column_for_each_run(tmp_path):
    header = [
        "Step",
        *(f'"{run} - train/loss{end}"' for run in ("cold-sun-1", "a - b") for end in ("", "__MIN", "__MAX")),
    ]
    lines = [[step, *([logs.loss(step), 0, 99] * 2)] for step in range(1, 41)]
    found = read_logs(logs.table(tmp_path / "chart.csv", header, lines))
    assert [log.run for log in found] == ["cold-sun-1", "a - b"]
    assert found[0].series["loss"] == pytest.approx(EXPECTED["loss"])


@pytest.mark.parametrize("schema", [OLD_TRACKIO, NEW_TRACKIO])
def test_a_database_of_trackio_is_read_with_its_texts_for_nan(tmp_path, schema):
    metrics = [
        (
            "first",
            row["step"] - 1,
            {"train/loss": row["loss"], "train/grad_norm": row["grad_norm"], "train/global_step": row["step"]},
        )
        for row in logs.rows()
    ]
    metrics.append(("second", 0, {"train/loss": "NaN", "train/global_step": 1}))
    path = logs.trackio(tmp_path / "project.db", metrics, schema)
    assert is_the_run(one(path, "first"))
    assert math.isnan(one(tmp_path, "second").series["loss"][0])


def test_databases_and_folders_of_mlflow_are_read(tmp_path):
    lines = [("loss", "run1", row["loss"], row["step"], 0) for row in logs.rows()]
    lines += [("grad_norm", "run1", row["grad_norm"], row["step"], 0) for row in logs.rows()]
    lines += [("loss", "run2", 0.0, 1, 1)]
    path = logs.mlflow(tmp_path / "mlflow.db", lines)
    assert is_the_run(one(path, "run1"))
    assert math.isnan(one(path, "run2").series["loss"][0])
    run = tmp_path / "mlruns" / "0" / "abc"
    (run / "metrics" / "rewards").mkdir(parents=True)
    (run / "meta.yaml").write_text("run_id: abc\n")
    (run / "tags").mkdir()
    (run / "tags" / "mlflow.runName").write_text("calm-bird")
    for name in ("loss", "grad_norm"):
        text = "".join(f"1700000000000 {row[name]} {row['step']}\n" for row in logs.rows())
        (run / "metrics" / name).write_text(text)
    (run / "metrics" / "train_loss").write_text("1700000000000 0.9 40\n")
    (run / "metrics" / "train_runtime").write_text("1700000000000 3.0 40\n")
    (run / "metrics" / "rewards" / "margins").write_text("1700000000000 0.1 1 set digest\n")
    for folder in (tmp_path / "mlruns", tmp_path / "mlruns" / "0", run):
        log = one(folder)
        assert is_the_run(log)
        assert log.run == "calm-bird"
        assert log.count("rewards/margins") == 1
    (run / "metrics" / "loss").write_text("1700000000000 many words here\n")
    with pytest.raises(UsageError, match=r"loss:1: is no line of time, value and step"):
        read_logs(run)


BROKEN = {
    "empty.csv": ("", "is empty"),
    "log.txt": ("loss 1", "is of no format that is known. Give a trimpot run"),
    "bad.json": ("{", "cannot be read as JSON"),
    "summary.json": ('{"loss": 1.0}', "has neither log_history nor rows"),
    "none.json": ('{"log_history": 3}', "has no log_history with rows"),
    "bad.jsonl": ("[1]\n{}\n", "bad.jsonl:1: not a JSON object"),
    "more.csv": ("step,loss\n1,2,3\n", "more.csv:2: has more cells than the header has columns"),
    "twice.csv": ("step,loss,loss\n1,2,3\n", "names the column 'loss' twice"),
    "bad.parquet": ("PAR1 and no more", "cannot be read as Parquet"),
    "run-abc.wandb": ("x", "is an offline run of W&B.*wandb sync"),
    "header.csv": ("step,loss\n", "has no row of metrics"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_in_one_line(tmp_path, name):
    text, problem = BROKEN[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=problem) as caught:
        read_logs(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_other_databases_and_folders_are_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no such file or folder"):
        read_logs(tmp_path / "none")
    with pytest.raises(UsageError, match="holds no log that is known"):
        read_logs(tmp_path)
    (tmp_path / "offline-run-1").mkdir()
    with pytest.raises(UsageError, match="offline run of W&B"):
        read_logs(tmp_path)
    path = logs.trackio(tmp_path / "other.db", [], "timestamp TEXT, run_name TEXT, other TEXT")
    with pytest.raises(UsageError, match="neither trackio nor MLflow"):
        read_logs(path)
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"SQLite format 3\x00" + b"\x01" * 200)
    with pytest.raises(UsageError, match="cannot be read as an SQLite database"):
        read_logs(broken)
