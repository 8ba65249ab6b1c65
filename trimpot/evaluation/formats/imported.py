"""What a log of another project becomes: outcomes, and what was left out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.store.outcomes import STATUSES, Outcome


@dataclass(frozen=True)
class Imported:
    """The outcomes of a log. ``notes``: one line each for what the log holds and the outcomes do not."""

    format: str
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...] = ()


def counts(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """Task -> ``n`` outcomes, ``items``, outcomes of each status, and ``mean`` of the scores there are (None: none)."""
    found: dict[str, dict[str, Any]] = {}
    for task in dict.fromkeys(one.task for one in outcomes):
        some = [one for one in outcomes if one.task == task]
        scores = [one.score for one in some if one.score is not None]
        statuses = Counter(one.status for one in some)
        found[task] = {
            "n": len(some),
            "items": len({one.item for one in some}),
            "statuses": {status: statuses[status] for status in STATUSES},
            "mean": sum(scores) / len(scores) if scores else None,
        }
    return found


@contextmanager
def known_form(where: str, mend: str) -> Iterator[None]:
    """Inside it, a field of another type than the format's is a UsageError that names the sample."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
        problem = f"is of another form than is known ({type(error).__name__}: {' '.join(str(error).split())[:100]})"
        raise UsageError(where, problem, mend) from error


def parse_json(text: str | bytes, where: str, mend: str) -> Any:
    """A JSON value; NaN and Infinity are read as Python writes them.

    Raises:
        UsageError: no JSON, or nested too deep.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(where, f"is not readable JSON ({' '.join(str(error).split())[:100]})", mend) from error


def sliced(fields: object, names: Sequence[str], where: str) -> dict[str, str]:
    """The named fields of a document as slices.

    Raises:
        UsageError: it has no such field, or it is a list or a table.
    """
    told: Mapping[str, Any] = fields if isinstance(fields, dict) else {}
    for name in names:
        if name not in told:
            known = ", ".join(sorted(told)) or "none"
            raise UsageError(where, f"has no field {name!r} to slice by", f"It has: {known}.")
        if isinstance(told[name], list | dict):
            raise UsageError(where, f"the field {name!r} is a {type(told[name]).__name__}", "Slice by a plain value.")
    return {name: str(told[name]) for name in names}
