"""What experiment trackers keep on disk: trackio's and MLflow's databases, and MLflow's folders of metric files."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from trimpot.core.errors import UsageError
from trimpot.core.progress import Progress
from trimpot.doctor.log import RawLog

MAGIC = b"SQLite format 3\x00"
TRACKIO, MLFLOW = {"run_name", "step", "metrics"}, {"key", "value", "run_uuid", "step", "is_nan"}


def read_database(path: Path) -> list[RawLog]:
    """The runs of a trackio project (one row a call of log) or of an MLflow tracking database.

    The file is opened for reading only.

    Raises:
        UsageError: it is no SQLite database, or of neither.
    """
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            columns = {row[1] for row in connection.execute("PRAGMA table_info(metrics)")}
            if columns >= TRACKIO:
                return _trackio(path, connection)
            if columns >= MLFLOW:
                return _mlflow(path, connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        mend = "Copy it again, with its -wal file, when nothing writes to it."
        raise UsageError(str(path), f"cannot be read as an SQLite database ({error})", mend) from error
    mend = "Give trackio's PROJECT.db or MLflow's mlflow.db, or export the history as CSV."
    raise UsageError(str(path), "is a database of neither trackio nor MLflow: its table metrics is not theirs", mend)


def _trackio(path: Path, connection: sqlite3.Connection) -> list[RawLog]:
    runs: dict[str, list[dict[str, object]]] = {}
    for run, step, text in connection.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id"):
        try:
            metrics = json.loads(text)
        except (ValueError, TypeError) as error:
            problem = f"step {step} of run {run!r} holds no JSON"
            raise UsageError(str(path), problem, "Export the run's history as CSV or JSONL.") from error
        if isinstance(metrics, dict):
            runs.setdefault(str(run), []).append({"step": step, **metrics})
    return [RawLog(str(path), "trackio", rows, run, (), _is_transformers(rows)) for run, rows in runs.items()]


def _mlflow(path: Path, connection: sqlite3.Connection) -> list[RawLog]:
    found: dict[str, dict[int, dict[str, object]]] = {}
    query = "SELECT run_uuid, key, value, step, is_nan FROM metrics ORDER BY step, timestamp"
    for run, key, value, step, is_nan in connection.execute(query):
        found.setdefault(str(run), {}).setdefault(int(step), {"step": int(step)})[str(key)] = (
            float("nan") if is_nan else value
        )
    return [_of_steps(path, run, steps) for run, steps in found.items()]


def mlflow_runs(folder: Path) -> list[Path]:
    """The folders of MLflow runs in a tracking folder (mlruns), an experiment's or a run's, sorted."""
    metas = [folder / "meta.yaml", *folder.glob("*/meta.yaml"), *folder.glob("*/*/meta.yaml")]
    return sorted({meta.parent for meta in metas if meta.is_file() and (meta.parent / "metrics").is_dir()})


def read_mlflow_runs(runs: Sequence[Path], progress: Progress) -> list[RawLog]:
    """The metrics of MLflow's file store: one file for each metric, with lines of time, value and step.

    Raises:
        UsageError: a line is of another form; names file and line.
    """
    found = []
    for done, run in enumerate(runs):
        progress(done, len(runs))
        steps: dict[int, dict[str, object]] = {}
        for file in sorted(path for path in (run / "metrics").rglob("*") if path.is_file()):
            name = file.relative_to(run / "metrics").as_posix()
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
                value, step = _mlflow_line(file, number, line)
                steps.setdefault(step, {"step": step})[name] = value
        title = run / "tags" / "mlflow.runName"
        name = title.read_text(encoding="utf-8").strip() if title.is_file() else run.name
        found.append(_of_steps(run, name, dict(sorted(steps.items()))))
    return found


def _mlflow_line(file: Path, number: int, line: str) -> tuple[float, int]:
    """(value, step) of ``TIMESTAMP VALUE STEP``; a data set may be named behind it, and old lines have no step."""
    try:
        _, value, *rest = line.split()
        return float(value), int(rest[0]) if rest else 0
    except ValueError as error:
        raise UsageError(f"{file}:{number}", "is no line of time, value and step", "Remove the line.") from error


def _of_steps(path: Path, run: str, steps: dict[int, dict[str, object]]) -> RawLog:
    rows = list(steps.values())
    return RawLog(
        str(path), "MLflow", rows, run, (), any("total_flos" in row or "train_runtime" in row for row in rows)
    )


def _is_transformers(rows: Sequence[dict[str, object]]) -> bool:
    return any("train/loss" in row and "train/learning_rate" in row for row in rows)
