"""Rows of a run and the files of other loggers that hold them."""

from __future__ import annotations

import json
import math
import sqlite3
from pathlib import Path
from typing import Any

from trimpot.store.jsonl import write_lines

DATA = Path(__file__).parent / "data"
STEPS = 40
SPIKE = 30


def loss(step: int) -> float:
    """A falling loss with one spike."""
    return 9.0 if step == SPIKE else 2.0 * math.exp(-step / 30) + 0.02 * (step * 7 % 5)


def grad_norm(step: int) -> float:
    return 1.0 + 0.1 * (step * 3 % 4)


def rows(prefix: str = "") -> list[dict[str, Any]]:
    """One row a step, with step, loss and grad_norm; the steps are ``step``."""
    return [
        {"step": step, f"{prefix}loss": loss(step), f"{prefix}grad_norm": grad_norm(step)}
        for step in range(1, STEPS + 1)
    ]


def state(path: Path, history: list[dict[str, Any]] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"global_step": STEPS, "log_history": rows() if history is None else history}))
    return path


def jsonl(path: Path, lines: list[dict[str, Any]]) -> Path:
    write_lines(path, lines)
    return path


def table(path: Path, header: list[str], lines: list[list[Any]], delimiter: str = ",") -> Path:
    path.write_text("\n".join(delimiter.join(str(cell) for cell in line) for line in [header, *lines]) + "\n")
    return path


def trackio(path: Path, metrics: list[tuple[str, int, dict[str, Any]]], schema: str) -> Path:
    connection = sqlite3.connect(path)
    connection.execute(f"CREATE TABLE metrics ({schema})")
    for run, step, values in metrics:
        connection.execute(
            "INSERT INTO metrics (timestamp, run_name, step, metrics) VALUES (?, ?, ?, ?)",
            ("2026-01-01", run, step, json.dumps(values)),
        )
    connection.commit()
    connection.close()
    return path


def mlflow(path: Path, lines: list[tuple[str, str, float, int, int]]) -> Path:
    """MLflow's tracking database: its table of metrics, of (key, run, value, step, is_nan)."""
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE TABLE metrics (key VARCHAR(250) NOT NULL, value FLOAT NOT NULL, timestamp BIGINT NOT NULL, "
        "run_uuid VARCHAR(32) NOT NULL, step BIGINT NOT NULL, is_nan BOOLEAN NOT NULL)"
    )
    for key, run, value, step, is_nan in lines:
        connection.execute("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", (key, value, step, run, step, is_nan))
    connection.commit()
    connection.close()
    return path
