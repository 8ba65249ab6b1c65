"""How often a detector fires, measured on training runs: with its fault injected, and on clean ones.

One JSON file per detector and lab, with a hash of its own content, in ``trimpot/detectors/data/rates``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError, nearest
from trimpot.core.hashing import content_hash
from trimpot.core.stats import Estimate
from trimpot.detectors import DETECTORS
from trimpot.statistics.intervals import wilson
from trimpot.store.atomic import write_json

SHIPPED = Path(__file__).parent / "data" / "rates"


@dataclass(frozen=True)
class DetectorRate:
    """What a lab counted: ``fired`` of ``runs`` with the fault, ``clean_fired`` of ``clean_runs`` without.

    A run counts as fired when the detector spoke at any of its steps. ``seeds`` are those of the counted runs,
    ``threshold_seeds`` those on which the thresholds were chosen; they must not overlap. ``settings`` are the
    detector's at the time; ``conditions`` say under what it ran (model, recipe, steps, commit, machine).

    Raises:
        UsageError: an unknown detector, counts that do not fit, or a seed that served both purposes.
    """

    detector: str
    lab: str
    fault: str
    fired: int
    runs: int
    clean_fired: int
    clean_runs: int
    threshold_seeds: tuple[int, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, float]
    conditions: Mapping[str, Any]

    def __post_init__(self) -> None:
        where = f"rate of {self.detector} in {self.lab}"
        if self.detector not in DETECTORS:
            raise UsageError(where, f"there is no detector {self.detector!r}", nearest(self.detector, DETECTORS))
        if not (0 <= self.fired <= self.runs and 0 <= self.clean_fired <= self.clean_runs):
            raise UsageError(where, "more runs fired than there were", "Count each run once.")
        if both := set(self.seeds) & set(self.threshold_seeds):
            problem = f"seeds {sorted(both)} chose the thresholds and are counted too"
            raise UsageError(where, problem, "Count runs of other seeds only.")

    @property
    def true_positive(self) -> Estimate:
        """The share of runs with the fault in which it fired, with its 95% Wilson interval."""
        return wilson(self.fired, self.runs)

    @property
    def false_alarm(self) -> Estimate:
        """The share of clean runs in which it fired, with its 95% Wilson interval."""
        return wilson(self.clean_fired, self.clean_runs)

    @property
    def is_current(self) -> bool:
        """False when the detector's thresholds have changed since: the rate is no longer its rate."""
        return dict(self.settings) == settings_of(self.detector)


def settings_of(detector: str) -> dict[str, float]:
    """A detector's thresholds and windows by field name, as ``DetectorRate.settings`` records them."""
    instance: Any = DETECTORS[detector]()
    return dataclasses.asdict(instance)


def write_rate(rate: DetectorRate, folder: Path = SHIPPED) -> Path:
    """Writes ``folder/DETECTOR.LAB.json``, whole or not at all, with the hash of its content."""
    content = json.loads(json.dumps(dataclasses.asdict(rate)))
    path = folder / f"{rate.detector}.{rate.lab}.json"
    write_json(path, {"content_hash": content_hash(content), **content})
    return path


def read_rate(path: Path) -> DetectorRate:
    """Reads a file that `write_rate` wrote.

    Raises:
        UsageError: it is no such file, its content is not what its hash says, or its numbers do not fit.
    """
    mend = "Restore the file, or delete it and run its lab again."
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        stated = content.pop("content_hash")
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise UsageError(str(path), "cannot be read as a detector's rate", mend) from error
    if content_hash(content) != stated:
        raise UsageError(str(path), "was changed after it was written (its content hash differs)", mend)
    try:
        content.update({name: tuple(content[name]) for name in ("threshold_seeds", "seeds")})
        return DetectorRate(**content)
    except (TypeError, KeyError) as error:
        raise UsageError(str(path), f"is of another version of trimpot ({error})", mend) from error


def rates_of(detector: str, folder: Path = SHIPPED) -> list[DetectorRate]:
    """A detector's rates, by lab; empty where none was measured."""
    return [read_rate(path) for path in sorted(folder.glob(f"{detector}.*.json"))]
