"""Runs of a study under way in a file beside its evidence, so that another machine goes on where this one stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.core.hashing import content_hash
from trimpot.store.atomic import write_json
from trimpot.store.ledger import Ledger

SECONDS = 20.0
"""The file is written no more often than this."""
KEPT = ("arm", "seed", "status", "result")


class PartialFile:
    """The ledger's runs of one plan in a file: the plan, its hash, the runs, and a hash of all that.

    ``path`` None: there is no file, and nothing is read or written.
    """

    def __init__(self, path: Path | None, ledger: Ledger, plan_hash: str) -> None:
        self.path, self.ledger, self.plan_hash = path, ledger, plan_hash
        self._written = time.monotonic()

    def read(self) -> int:
        """Takes the file's runs into the ledger where it has none of that arm and seed; returns how many.

        Edge cases: no file, or one of another plan: 0. The latter is replaced at the next ``write``.

        Raises:
            UsageError: the file cannot be read, or was changed after it was written.
        """
        if self.path is None or not self.path.exists():
            return 0
        content = read_partial(self.path)
        if content["plan_hash"] != self.plan_hash:
            return 0
        known = {(run["arm"], run["seed"]) for run in self.ledger.runs(self.plan_hash)}
        new = [run for run in content["runs"] if (run["arm"], run["seed"]) not in known]
        for run in new:
            self.ledger.record_run(self.plan_hash, run["arm"], run["seed"], run["result"], run["status"])
        return len(new)

    def write(self, at_once: bool = False) -> None:
        """Writes the ledger's runs, whole or not at all, if SECONDS have gone by since the last time or ``at_once``."""
        if self.path is None or not (at_once or time.monotonic() - self._written >= SECONDS):
            return
        self._written = time.monotonic()
        hypothesis = self.ledger.hypothesis(self.plan_hash)
        assert hypothesis is not None  # it is written before the first run
        runs = [{name: run[name] for name in KEPT} for run in self.ledger.runs(self.plan_hash)]
        content = {**hypothesis, "plan_hash": self.plan_hash, "runs": runs}
        write_json(self.path, {"content_hash": content_hash(content), **content})

    def remove(self) -> None:
        """Deletes the file, as the study is done; that of another plan stays."""
        if self.path is not None and self.path.exists() and read_partial(self.path)["plan_hash"] == self.plan_hash:
            self.path.unlink()


def read_partial(path: Path) -> Mapping[str, Any]:
    """What stands in a file of runs: ``study``, ``plan``, ``plan_hash``, ``created`` and ``runs``.

    Raises:
        UsageError: it is no such file, or its plan or runs are not those that were written.
    """
    mend = "Restore the file, or delete it: its runs are then made again."
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        stated = content.pop("content_hash")
        plan, plan_hash, _ = content["plan"], content["plan_hash"], content["runs"]
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise UsageError(str(path), "cannot be read as the runs of a study", mend) from error
    if content_hash(plan) != plan_hash:
        raise UsageError(str(path), "its plan was changed after it was hashed (the plan's hash differs)", mend)
    if content_hash(content) != stated:
        raise UsageError(str(path), "was changed after it was written (its content hash differs)", mend)
    return content
