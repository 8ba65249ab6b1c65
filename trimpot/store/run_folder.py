"""The run folder: what a run leaves, and the only thing reports and comparisons read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.store import jsonl
from trimpot.store.atomic import write_json, write_text
from trimpot.store.environment import environment

STATUSES = ("running", "done", "failed")
_LOGS = ("metrics.jsonl", "alarms.jsonl", "samples.jsonl", "batches.jsonl")
_BEFORE_RECIPE = re.compile(r"environment\.json|lineage\.parquet|\.(environment\.json|recipe\.yaml)\.[0-9a-f]+\.tmp")
"""What a folder holds before its recipe is written, the temporary files of a killed process among it."""
STAGE_NAME = re.compile(r"[a-z][a-z0-9_]*(-[0-9]+)?")


def stage_names(kinds: Sequence[str]) -> tuple[str, ...]:
    """Folder names of the stages in order: the kind, and ``kind-2``, ``kind-3`` where it comes again."""
    seen: dict[str, int] = {}
    names = []
    for kind in kinds:
        seen[kind] = seen.get(kind, 0) + 1
        names.append(kind if seen[kind] == 1 else f"{kind}-{seen[kind]}")
    return tuple(names)


@dataclass(frozen=True)
class StageFolder:
    """The folder of one stage: append-only logs, checkpoints, the exported model, outcomes and its record."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def checkpoints_folder(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model_folder(self) -> Path:
        return self.path / "model"

    @property
    def outcomes_path(self) -> Path:
        return self.path / "outcomes.parquet"

    @property
    def sampled_outcomes_path(self) -> Path:
        """Outcomes of answers sampled at temperature 1, several of each item."""
        return self.path / "sampled_outcomes.parquet"

    def append_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Appends the metrics of one step; ``step`` is among them."""
        self._append("metrics.jsonl", metrics)

    def append_alarm(self, alarm: Mapping[str, Any]) -> None:
        """Appends a finding of a detector (`Finding.as_dict`)."""
        self._append("alarms.jsonl", alarm)

    def append_sample(self, sample: Mapping[str, Any]) -> None:
        """Appends an output that the model gave at ``step``."""
        self._append("samples.jsonl", sample)

    def append_batch(self, step: int, row_ids: Sequence[str]) -> None:
        """Appends which rows the step used."""
        self._append("batches.jsonl", {"step": step, "row_ids": list(row_ids)})

    def metrics(self) -> list[dict[str, Any]]:
        return jsonl.read_lines(self.path / "metrics.jsonl")

    def alarms(self) -> list[dict[str, Any]]:
        return jsonl.read_lines(self.path / "alarms.jsonl")

    def samples(self) -> list[dict[str, Any]]:
        return jsonl.read_lines(self.path / "samples.jsonl")

    def batches(self) -> list[dict[str, Any]]:
        return jsonl.read_lines(self.path / "batches.jsonl")

    def truncate_after(self, step: int) -> None:
        """Drops from the four logs what came after ``step``: a resumed run writes it again."""
        for name in _LOGS:
            jsonl.truncate_after(self.path / name, step)

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Writes stage.json: kind, index, settings, started (ISO), seconds, status, tokens, notes.

        Raises:
            ValueError: kind, index or status is missing, or the status is none of running, done, failed.
        """
        missing = [key for key in ("kind", "index", "status") if key not in record]
        if missing or record["status"] not in STATUSES:
            raise ValueError(f"a stage's record needs kind, index and a status of {STATUSES}: {dict(record)}")
        write_json(self.path / "stage.json", dict(record))

    def record(self) -> dict[str, Any]:
        """What stage.json says; empty before it is written.

        Raises:
            UsageError: stage.json is not what `write_record` wrote.
        """
        path = self.path / "stage.json"
        if not path.exists():
            return {}
        record = _read_object(path)
        if not isinstance(record.get("index"), int) or not isinstance(record.get("kind"), str):
            raise UsageError(str(path), "kind or index is missing", "Restore the file from the run that wrote it.")
        return record

    def _append(self, log: str, row: Mapping[str, Any]) -> None:
        if not isinstance(row.get("step"), int):
            raise ValueError(f"a line of {log} needs its step: {dict(row)}")
        jsonl.append_line(self.path / log, row)


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. Make it with `create`, read it with `open`. It is whole once it has its recipe."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Makes a run folder with its environment.json.

        Raises:
            UsageError: the path is a file, or a folder that holds something (see `is_free`).
        """
        path = Path(path)
        if path.is_file():
            raise UsageError(str(path), "is a file, not a folder", "Choose another --output.")
        if not cls.is_free(path):
            raise UsageError(str(path), "exists already and is not empty", "Choose another --output, or --resume it.")
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / "environment.json", environment())
        return cls(path)

    @staticmethod
    def is_free(path: Path) -> bool:
        """Whether a run folder can be made here: nothing is, or what a run leaves that was killed before its recipe."""
        path = Path(path)
        if not path.is_dir():
            return not path.exists()
        return all(_BEFORE_RECIPE.fullmatch(entry.name) for entry in path.iterdir())

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Opens a folder that `create` made.

        Raises:
            UsageError: there is no such folder, or it is no run folder.
        """
        path = Path(path)
        if not path.is_dir():
            raise UsageError(str(path), "there is no such folder", "Give the folder of a run.")
        if not (path / "environment.json").is_file():
            raise UsageError(str(path), "is no run folder (it has no environment.json)", "Give the folder of a run.")
        return cls(path)

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def report_path(self) -> Path:
        return self.path / "report.html"

    @property
    def lineage_path(self) -> Path:
        return self.path / "lineage.parquet"

    @property
    def recipe_text(self) -> str:
        """The recipe as it was run; empty before it is written."""
        path = self.path / "recipe.yaml"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def write_recipe(self, text: str) -> None:
        """Writes recipe.yaml."""
        write_text(self.path / "recipe.yaml", text)

    @property
    def environment(self) -> dict[str, Any]:
        """What the run ran on (see `trimpot.store.environment`)."""
        return _read_object(self.path / "environment.json")

    def stages(self) -> list[StageFolder]:
        """The stages that have a record, in the order of their index."""
        folders = [StageFolder(record.parent) for record in self.path.glob("*/stage.json")]
        return sorted(folders, key=lambda stage: (stage.record()["index"], stage.name))

    def stage(self, name: str) -> StageFolder:
        """The folder of the stage with this name (see `stage_names`), made if it is not there.

        Raises:
            UsageError: the name is not that of a stage.
        """
        if not STAGE_NAME.fullmatch(name):
            raise UsageError(name, "is no stage name", "Give a stage's kind, with -2, -3 where it comes again.")
        folder = self.path / name
        folder.mkdir(exist_ok=True)
        return StageFolder(folder)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(str(path), "cannot be read as JSON", "Restore the file from the run that wrote it.") from error
    if not isinstance(value, dict):
        raise UsageError(str(path), "is not a JSON object", "Restore the file from the run that wrote it.")
    return value
