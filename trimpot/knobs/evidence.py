"""Evidence: what a study measured, in one JSON file that carries a hash of its own content.

Evidence that comes with trimpot stands in ``trimpot/knobs/data/evidence``, inside the package, so that a checkout and
an installed wheel have it in the same place. A study run by a user is written to the user's data folder
(``~/.local/share/trimpot/evidence``, or under XDG_DATA_HOME) and shown as the user's own.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trimpot.core.errors import UsageError
from trimpot.core.hashing import content_hash
from trimpot.core.stats import Estimate
from trimpot.knobs.library import DATA
from trimpot.store.atomic import write_json

SHIPPED = DATA / "evidence"
Verdict = Literal["confirmed", "refuted", "inconclusive"]
Results = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Arm -> seed (as text) -> metric -> value."""


@dataclass(frozen=True)
class ClaimTest:
    """A claim as it was tested: its words then, the effect, and what follows.

    ``effect`` is the mean over seeds of ``quantity`` with its interval; ``p_value`` is two-sided for effect = 0,
    adjusted for the study's number of tests; ``smallest_effect`` is what the study finds with probability 0.8, in
    the units of the effect. None: fewer than two seeds gave a value.
    """

    statement: str
    quantity: str
    effect: Estimate
    p_value: float | None
    smallest_effect: float | None
    verdict: Verdict


@dataclass(frozen=True)
class Control:
    """Two arms that differ in nothing that matters: their difference must not be told from 0."""

    quantity: str
    effect: Estimate
    passed: bool


@dataclass(frozen=True)
class Conditions:
    """Under what the study ran: model, scale and data in words, budget, settings, machine, commit."""

    model: str
    scale: str
    budget: str
    settings: Mapping[str, Any]
    machine: Mapping[str, Any]
    commit: str | None
    created: str
    seconds: float


@dataclass(frozen=True)
class Evidence:
    """What a study measured. ``arms`` are name -> knob values; ``failed`` lists runs without a result."""

    study: str
    question: str
    plan_hash: str
    seeds: tuple[int, ...]
    arms: Mapping[str, Mapping[str, float]]
    results: Results
    failed: tuple[str, ...]
    tested: Mapping[str, ClaimTest]
    control: Control | None
    conditions: Conditions


def user_folder() -> Path:
    """Where the user's own studies leave their evidence."""
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(home) / "trimpot" / "evidence"


def write_evidence(evidence: Evidence, folder: Path) -> Path:
    """Writes ``folder/STUDY.json``, whole or not at all, with the hash of its content."""
    content = json.loads(json.dumps(dataclasses.asdict(evidence)))
    path = folder / f"{evidence.study}.json"
    write_json(path, {"content_hash": content_hash(content), **content})
    return path


def read_evidence(path: Path) -> Evidence:
    """Reads an evidence file.

    Raises:
        UsageError: it is no evidence file, or its content is not what its hash says.
    """
    mend = f"Restore the file, or delete it and run: trimpot study {path.stem}."
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        stated = content.pop("content_hash")
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise UsageError(str(path), "cannot be read as evidence", mend) from error
    if content_hash(content) != stated:
        raise UsageError(str(path), "was changed after it was written (its content hash differs)", mend)
    try:
        return _evidence(content)
    except (TypeError, KeyError) as error:
        raise UsageError(str(path), f"is of another version of trimpot ({error})", mend) from error


def _evidence(content: dict[str, Any]) -> Evidence:
    tested = {
        claim: ClaimTest(**{**values, "effect": Estimate(**values["effect"])})
        for claim, values in content.pop("tested").items()
    }
    control, conditions = content.pop("control"), content.pop("conditions")
    return Evidence(
        tested=tested,
        control=control and Control(**{**control, "effect": Estimate(**control["effect"])}),
        conditions=Conditions(**conditions),
        seeds=tuple(content.pop("seeds")),
        failed=tuple(content.pop("failed")),
        **content,
    )


def evidence_of(study: str, shipped: Path = SHIPPED, own: Path | None = None) -> dict[str, Evidence]:
    """The evidence there is for a study, by whose it is: ``yours`` first, then ``shipped``."""
    folders = {"yours": own or user_folder(), "shipped": shipped}
    paths = {whose: folder / f"{study}.json" for whose, folder in folders.items()}
    return {whose: read_evidence(path) for whose, path in paths.items() if path.exists()}
