"""The package's own rows of questions, as JSON lines."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def own_rows(name: str) -> list[dict[str, Any]]:
    """The rows of ``data/NAME``."""
    text = files("trimpot.evaluation.suites").joinpath("data", name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
