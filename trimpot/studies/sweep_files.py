"""What stands in the user's folder: sweeps as YAML files, and the evidence of studies on models of the user's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import yaml

from trimpot.core.errors import UsageError
from trimpot.core.hashing import content_hash
from trimpot.knobs.evidence import Evidence, user_folder
from trimpot.store.atomic import write_text
from trimpot.studies.sweep import Sweep

KIND = "sweep"
ON_OWN = "--"
"""Parts a study's id from the model and the data that it ran on, in the name of its evidence."""


def studies_folder() -> Path:
    """Where the user's own studies stand, and where studies keep what their runs share."""
    return user_folder().parent / "studies"


def sweep_file(name: str) -> Path:
    """The file of a sweep."""
    return studies_folder() / f"{name}.yaml"


def sweep_names() -> list[str]:
    """The names of all sweeps there are."""
    files = sorted(studies_folder().glob("*.yaml"))
    return [file.stem for file in files if file.read_text(encoding="utf-8").startswith(f"kind: {KIND}\n")]


def write_sweep(sweep: Sweep) -> Path:
    """Writes a sweep with a hash of its content; the same again is no change.

    Raises:
        UsageError: another sweep has the name.
    """
    path, text = sweep_file(sweep.name), _text(sweep)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        mend = f"Give another --name, or go on with it: trimpot study {sweep.name}."
        raise UsageError(str(path), "holds another study of that name", mend)
    if not path.exists():
        write_text(path, text)
    return path


def read_sweep(name: str) -> Sweep:
    """Reads a sweep.

    Raises:
        UsageError: the file is no sweep's, or its content is not what its hash says.
    """
    path = sweep_file(name)
    mend = "Restore the file, or make a new study of it: trimpot study new."
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        stated, kind = content.pop("content_hash"), content.pop("kind")
        sweep = Sweep(**{field.name: content[field.name] for field in fields(Sweep)})
    except (OSError, yaml.YAMLError, AttributeError, TypeError, KeyError) as error:
        raise UsageError(str(path), "cannot be read as a study", mend) from error
    if kind != KIND or stated != content_hash(content):
        raise UsageError(str(path), "was changed after its prediction was written (its content hash differs)", mend)
    return sweep


def is_of(evidence: Evidence, sweep: Sweep) -> bool:
    """True when the evidence is that of this very sweep, whatever the code it was made with."""
    settings = evidence.conditions.settings
    return (
        evidence.study == sweep.name
        and {arm: dict(values) for arm, values in evidence.arms.items()} == sweep.arms
        and list(evidence.seeds) == [sweep.first_seed + number for number in range(sweep.seeds)]
        and (settings.get("recipe"), settings.get("prediction")) == (sweep.recipe, sweep.predict)
        and (settings.get("metric"), settings.get("inputs")) == (sweep.metric, sweep.inputs)
    )


def own_name(study: str, model: str, data: str) -> str:
    """The name of a study's evidence on a model and rows of the user's own: no other model or rows have it."""
    return ON_OWN.join([study, _short(model), _short(data)])


def own_files(study: str, folders: Sequence[Path]) -> list[Path]:
    """The evidence files of a study on models of the user's own."""
    return [file for folder in folders for file in sorted(folder.glob(f"{study}{ON_OWN}*.json"))]


def _short(name: str) -> str:
    """The last part of a name, and of a path a hash of the whole beside it, as folders can be called alike."""
    last = re.sub(r"[^a-z0-9._]+", "-", Path(name).name.lower()).strip("-.")[:40] or "here"
    return f"{last}-{content_hash(name)[:4]}" if "/" in name else last


def _text(sweep: Sweep) -> str:
    content: dict[str, Any] = asdict(sweep)
    whole = {"kind": KIND, **content, "content_hash": content_hash(content)}
    return yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=100)
