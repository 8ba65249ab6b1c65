"""Finds out what a path is and reads the logs in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trimpot.core.errors import UsageError, nearest
from trimpot.core.progress import Progress, ignore
from trimpot.doctor.log import Log, RawLog, clean
from trimpot.doctor.readers import files, stores, tensorboard
from trimpot.store.run_folder import RunFolder, StageFolder

KNOWN = (
    "Give a trimpot run, trainer_state.json, event files of TensorBoard, a CSV, JSON, JSONL or Parquet history, "
    "trackio's or MLflow's database, or mlruns."
)
EXPORT = "Export its history: wandb sync FOLDER, then wandb.Api().run(PATH).history(pandas=True).to_csv(FILE)."
_BY_ENDING: dict[str, Callable[[Path], list[RawLog]]] = {
    ".json": files.read_json,
    ".jsonl": files.read_jsonl,
    ".csv": files.read_csv,
    ".tsv": files.read_csv,
    ".parquet": files.read_parquet,
}


def read_logs(path: Path, run: str | None = None, progress: Progress = ignore) -> list[Log]:
    """The logs at a path, one for each run or stage in it, as detectors read them.

    ``run`` chooses one of several runs by name. Where several are given and some hold no metric that a detector reads
    (an evaluation beside a training), those are left out.

    Raises:
        UsageError: nothing is there, or nothing that can be read; see the readers and `trimpot.doctor.log.clean`.
    """
    raws = [raw for raw in read_raw(path, progress) if raw.rows or run is not None] or read_raw(path, progress)
    if run is not None:
        runs = [raw.run for raw in raws]
        if run not in runs:
            raise UsageError(
                str(path), f"has no run {run!r}", nearest(run, [name or "(one run, no name)" for name in runs])
            )
        raws = [raw for raw in raws if raw.run == run]
    logs, errors = [], []
    for raw in raws:
        try:
            logs.append(clean(raw))
        except UsageError as error:
            errors.append(error)
    if not logs:
        raise errors[0] if errors else UsageError(str(path), "has no log in it", KNOWN)
    return logs


def read_raw(path: Path, progress: Progress = ignore) -> list[RawLog]:
    """The logs at a path under their loggers' own names.

    Raises:
        UsageError: see `read_logs`.
    """
    if path.is_dir():
        return _read_folder(path, progress)
    if not path.is_file():
        raise UsageError(str(path), "there is no such file or folder", KNOWN)
    if path.stat().st_size == 0:
        raise UsageError(str(path), "is empty", "Give the log of a run that has taken a step.")
    if path.name.endswith(".wandb"):
        raise _offline(path)
    if "tfevents" in path.name:
        return [tensorboard.read_events(path, [path], progress)]
    with path.open("rb") as file:
        start = file.read(len(stores.MAGIC))
    if start == stores.MAGIC:
        return stores.read_database(path)
    reader = _BY_ENDING.get(path.suffix.lower())
    if reader is None:
        raise UsageError(str(path), "is of no format that is known", KNOWN)
    return reader(path)


def _read_folder(folder: Path, progress: Progress) -> list[RawLog]:
    """A folder by what lies in it, the most exact log first: an event file has the same numbers as float32."""
    if stages := _stages(folder):
        return [RawLog(str(stage.path), "trimpot", stage.metrics(), stage.name) for stage in stages]
    if (state := _newest_state(folder)) is not None:
        return [files.read_state(state)]
    events: dict[Path, list[Path]] = {}
    for file in sorted(folder.rglob(tensorboard.PATTERN)):
        events.setdefault(file.parent, []).append(file)
    if events:
        return _read_event_folders(folder, events, progress)
    if runs := stores.mlflow_runs(folder):
        return stores.read_mlflow_runs(runs, progress)
    databases = [file for file in sorted(folder.glob("*.db")) if file.stat().st_size]
    if databases:
        return [raw for file in databases for raw in stores.read_database(file)]
    if any(folder.glob("*.wandb")) or any(folder.glob("offline-run-*")):
        raise _offline(folder)
    raise UsageError(str(folder), "holds no log that is known", KNOWN)


def _stages(folder: Path) -> list[StageFolder]:
    """The stages of a trimpot run that logged metrics; of a stage's folder itself that one."""
    if (folder / "environment.json").is_file():
        return [stage for stage in RunFolder.open(folder).stages() if (stage.path / "metrics.jsonl").is_file()]
    return [StageFolder(folder)] if (folder / "metrics.jsonl").is_file() else []


def _newest_state(folder: Path) -> Path | None:
    """The trainer_state.json of a checkpoint, or of the last of several: it has the whole history."""
    own = folder / files.STATE
    if own.is_file():
        return own

    def step(path: Path) -> int:
        number = path.parent.name.rpartition("-")[2]
        return int(number) if number.isdecimal() else -1

    return max(folder.glob(f"checkpoint-*/{files.STATE}"), key=step, default=None)


def _read_event_folders(folder: Path, events: dict[Path, list[Path]], progress: Progress) -> list[RawLog]:
    """Each folder with event files is a run, named by its path within the folder that was given."""
    sizes = {run: sum(file.stat().st_size for file in found) for run, found in events.items()}
    done, total, logs = 0, sum(sizes.values()), []
    for run, found in events.items():
        raw = tensorboard.read_events(run, found, lambda now, _, before=done: progress(before + now, total))  # type: ignore[misc]
        name = run.relative_to(folder).as_posix() if len(events) > 1 else ""
        logs.append(RawLog(str(folder), raw.kind, raw.rows, name, raw.notes, raw.of_transformers))
        done += sizes[run]
    return logs


def _offline(path: Path) -> UsageError:
    return UsageError(str(path), "is an offline run of W&B, whose format has no public reader", EXPORT)
