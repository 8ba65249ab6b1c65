"""Writes the metrics of a run as other tools log them, so that the doctor's readers are measured with its detectors."""

from __future__ import annotations

import csv
import io
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from trimpot.doctor.readers.tensorboard import masked_crc
from trimpot.store.atomic import write_bytes, write_json, write_text
from trimpot.store.jsonl import write_lines

Metrics = Mapping[str, float | None]


def write_stage(rows: Sequence[Metrics], folder: Path) -> Path:
    """The folder of a trimpot stage."""
    path = folder / "stage"
    write_lines(path / "metrics.jsonl", rows)
    return path


def write_state(rows: Sequence[Metrics], folder: Path) -> Path:
    """transformers' and TRL's trainer_state.json, as far as its history goes."""
    path = folder / "trainer_state.json"
    history = [{**row, "step": int(row["step"] or 0)} for row in rows]
    write_json(path, {"global_step": len(rows), "logging_steps": 1, "log_history": history})
    return path


def write_csv(rows: Sequence[Metrics], folder: Path) -> Path:
    """A table with the names that transformers' callbacks give (``train/loss``), as W&B exports its history."""
    path, names = folder / "history.csv", list(dict.fromkeys(name for row in rows for name in row if name != "step"))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["_step", "train/global_step", *(f"train/{name}" for name in names)])
    for number, row in enumerate(rows):
        writer.writerow([number, row["step"], *("" if row.get(name) is None else row[name] for name in names)])
    write_text(path, text.getvalue())
    return path


def write_events(rows: Sequence[Metrics], folder: Path) -> Path:
    """A TensorBoard event file with one event for each scalar, as torch's SummaryWriter writes it."""
    path = folder / "events.out.tfevents.0.lab"
    scalars = [
        record(int(row["step"] or 0), f"train/{name}", value)
        for row in rows
        for name, value in row.items()
        if name != "step" and value is not None
    ]
    write_bytes(path, b"".join(scalars))
    return path


def record(step: int, tag: str, value: float) -> bytes:
    """One scalar as a TFRecord: an Event (step 2, summary 5) of a Summary.Value (tag 1, simple_value 2, float32)."""
    name = tag.encode()
    scalar = _field(1, name) + b"\x15" + struct.pack("<f", value)
    event = b"\x10" + _varint(step) + _field(5, _field(1, scalar))
    length = struct.pack("<Q", len(event))
    return length + struct.pack("<I", masked_crc(length)) + event + struct.pack("<I", masked_crc(event))


def _field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def coarse(rows: Sequence[Metrics], every: int) -> list[Metrics]:
    """The rows as a logger writes them every so many steps: the last step, and each metric's mean over its values.

    Example: losses 1, 3 and 5 of steps 1 to 3 with ``every`` 2: step 2 with 2; a last part of one step is not logged.
    """
    found: list[Metrics] = []
    for start in range(0, len(rows) - every + 1, every):
        part = rows[start : start + every]
        values = {name: [value for row in part if (value := row.get(name)) is not None] for name in part[-1]}
        means = {name: sum(numbers) / len(numbers) for name, numbers in values.items() if numbers}
        found.append({**means, "step": part[-1]["step"]})
    return found


WRITERS: Mapping[str, Callable[[Sequence[Metrics], Path], Path]] = {
    "trimpot": write_stage,
    "trainer_state": write_state,
    "CSV": write_csv,
    "TensorBoard": write_events,
}
"""Format -> what writes it."""
