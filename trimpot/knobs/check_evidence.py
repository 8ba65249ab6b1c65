"""The check of what was measured: evidence files and the ledger are as they were written, before the runs and after."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from trimpot.core.errors import UsageError
from trimpot.knobs.evidence import read_evidence


def check_evidence(folders: Collection[Path]) -> list[str]:
    """Evidence files that were changed after they were written, do not fit their plan, or have a wrong name.

    A line for each names the file.
    """
    problems = []
    for file in sorted(path for folder in folders for path in folder.glob("*.json")):
        try:
            evidence = read_evidence(file)
        except UsageError as error:
            problems.append(f"{error.where}: {error.problem}")
            continue
        if evidence.study != file.stem:
            problems.append(f"{file}: is evidence of the study {evidence.study}")
    return problems


def check_ledger() -> list[str]:
    """What was changed in the user's default ledger after it was written; nothing where there is none."""
    # SQLAlchemy takes its time to import, and the cards alone do not need it.
    from trimpot.store.ledger import Ledger, default_exists

    try:
        if not default_exists():
            return []
        ledger = Ledger()
        try:
            return [f"ledger: {problem}" for problem in ledger.verify()]
        finally:
            ledger.close()
    except UsageError as error:
        return [f"{error.where}: {error.problem}"]
