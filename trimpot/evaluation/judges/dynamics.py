"""Mislabels by the training dynamics of the user's own classifier: logits of every epoch, in a file. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from trimpot.core.errors import UsageError
from trimpot.evaluation.judges.mislabels import Mislabels, find_mislabels, margins

MEND = 'Give {"id": …, "label": 0, "logits": [[…], …]}: a list of logits for every epoch.'


def mislabels_of_dynamics(records: Iterable[tuple[int, Mapping[str, Any]]], file: str) -> tuple[list[str], Mislabels]:
    """(names, mislabels) of rows {"id", "label", "logits": one list per epoch, "threshold": true or absent}.

    ``label`` is the class that the row was trained on, counted from 0; of a threshold sample it is the class of their
    own. "id" may be missing: the row is then named by its line. Threshold samples are not among the result.

    Raises:
        UsageError: one line with file and line: no logits, epochs or classes of different number, a value that is not a
            finite number, a label outside the classes; no threshold sample, or nothing but threshold samples.
    Source: arXiv 2001.10528.
    """
    names, labels, thresholds = [], [], []
    logits: list[np.ndarray] = []
    for line, record in records:
        where = f"{file}:{line}"
        found = _logits(record, where)
        if logits and found.shape != logits[0].shape:
            problem = f"has {found.shape[0]} epochs of {found.shape[1]} logits; the first row {_shape(logits[0])}"
            raise UsageError(where, problem, MEND)
        label = record.get("label")
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < found.shape[1]:
            problem = f"label {label!r} is none of the classes 0 to {found.shape[1] - 1}"
            raise UsageError(where, problem, MEND)
        names.append(str(record.get("id", where)))
        labels.append(label)
        logits.append(found)
        thresholds.append(bool(record.get("threshold", False)))
    threshold_N = np.array(thresholds, dtype=bool)
    if not threshold_N.any() or threshold_N.all():
        problem = "has no threshold sample" if not threshold_N.any() else "has nothing but threshold samples"
        mend = 'Train some rows as a class of their own, and mark them "threshold": true.'
        raise UsageError(file, problem, mend)
    area_N = margins(np.stack(logits, axis=1), np.array(labels)).mean(axis=0)
    kept = [name for name, is_threshold in zip(names, thresholds, strict=True) if not is_threshold]
    return kept, find_mislabels(list(area_N[~threshold_N]), list(area_N[threshold_N]))


def _logits(record: Mapping[str, Any], where: str) -> np.ndarray:
    try:
        found = np.array(record.get("logits"), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(where, "logits is not a list of lists of numbers, of one length", MEND) from error
    if found.ndim != 2 or found.shape[0] < 1 or found.shape[1] < 2:
        raise UsageError(where, "logits is not a list of lists of numbers, of one length", MEND)
    if not np.isfinite(found).all():
        raise UsageError(where, "logits holds a value that is not finite", MEND)
    return found


def _shape(found: np.ndarray) -> str:
    return f"{found.shape[0]} epochs of {found.shape[1]}"
