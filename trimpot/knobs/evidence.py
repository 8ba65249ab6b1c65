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
from dataclasses import dataclass, field
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

    ``margin``: of a claim of equality, what counts as equal, in the units of the effect; ``p_value`` is then that of
    two one-sided tests, not adjusted. None: the claim has a sign.
    """

    statement: str
    quantity: str
    effect: Estimate
    p_value: float | None
    smallest_effect: float | None
    verdict: Verdict
    margin: float | None = None


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
    """What a study measured. ``arms`` are name -> knob values; ``failed`` lists runs without a result.

    ``tuned``: arm -> ``chosen``, the value of the tuned knob, and ``tried``, value (as text) -> mean of the tuning's
    metric, None where a run of it failed. ``plan`` is what was hashed before the first run; None in files of old.
    """

    study: str
    question: str
    plan_hash: str
    seeds: tuple[int, ...]
    arms: Mapping[str, Mapping[str, float | str]]
    results: Results
    failed: tuple[str, ...]
    tested: Mapping[str, ClaimTest]
    control: Control | None
    conditions: Conditions
    tuned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    plan: Mapping[str, Any] | None = None


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
        UsageError: it is no evidence file; its plan is not that of its hash; its content is not what its hash says; or
            arms, seeds or statements are not those of its plan.
    """
    mend = f"Restore the file, or delete it and run: trimpot study {path.stem}."
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        stated, plan = content.pop("content_hash"), content.get("plan")
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise UsageError(str(path), "cannot be read as evidence", mend) from error
    if plan is not None and content_hash(plan) != content.get("plan_hash"):
        problem = "its plan was changed after it was hashed, before the first run (the plan's hash differs)"
        raise UsageError(str(path), problem, mend)
    if content_hash(content) != stated:
        raise UsageError(str(path), "was changed after it was written (its content hash differs)", mend)
    try:
        found = _evidence(content)
        unplanned = [] if plan is None else _unplanned(found, plan)
    except (TypeError, KeyError, AttributeError) as error:
        raise UsageError(str(path), f"is of another version of trimpot ({error})", mend) from error
    if unplanned:
        raise UsageError(str(path), f"differs from its own plan in {', '.join(unplanned)}", mend)
    return found


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


def _unplanned(evidence: Evidence, plan: Mapping[str, Any]) -> list[str]:
    """What the evidence has otherwise than its plan."""
    planned = {name: claim["statement"] for name, claim in plan["claims"].items()}
    pairs = {
        "study": (evidence.study, plan["study"]),
        "question": (evidence.question, plan["question"]),
        "model": (evidence.conditions.model, plan["model"]),
        "scale": (evidence.conditions.scale, plan["scale"]),
        "budget": (evidence.conditions.budget, plan["budget"]),
        "arms": (evidence.arms, plan["arms"]),
        "seeds": (list(evidence.seeds), plan["seeds"]),
        "claims": ({name: one.statement for name, one in evidence.tested.items()}, planned),
    }
    return [name for name, (measured, stated) in pairs.items() if measured != stated]


def evidence_of(study: str, shipped: Path = SHIPPED, own: Path | None = None) -> dict[str, Evidence]:
    """The evidence there is for a study, by whose it is: ``yours`` first, then ``shipped``."""
    folders = {"yours": own or user_folder(), "shipped": shipped}
    paths = {whose: folder / f"{study}.json" for whose, folder in folders.items()}
    return {whose: read_evidence(path) for whose, path in paths.items() if path.exists()}
