"""Verifiers: a completion's score against a prompt row's answer, and whether it could be read at all."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError, nearest
from trimpot.core.rows import PromptRow


@dataclass(frozen=True)
class Score:
    """``value`` in [0, 1] for verifiers, any finite number for a user's reward; ``status`` ok or parse_failed."""

    value: float
    status: str = "ok"


Verifier = Callable[[str, PromptRow], Score]

_NUMBER = re.compile(r"[-+]?\d+([.,/]\d+)*")


def exact(output: str, row: PromptRow) -> Score:
    """1 when the output, stripped of white space and a final full stop, equals the answer; letter case is ignored.

    Edge cases: an output that has not the answer's form (a number for a number, one non-empty line else) is
    parse_failed with value 0: the answer may be in it, but it was not given as asked.
    """
    given, answer = output.strip(), row.answer.strip()
    readable = bool(given) and "\n" not in given
    if _NUMBER.fullmatch(answer):
        readable = _NUMBER.fullmatch(given.rstrip(".")) is not None
    if not readable:
        return Score(0.0, "parse_failed")
    return Score(float(given.rstrip(".").casefold() == answer.rstrip(".").casefold()))


def contains(output: str, row: PromptRow) -> Score:
    """1 when the answer stands anywhere in the output as a whole word; letter case is ignored."""
    found = re.search(rf"(?<!\w){re.escape(row.answer.strip())}(?!\w)", output, re.IGNORECASE)
    return Score(float(found is not None))


VERIFIERS: dict[str, Verifier] = {"exact": exact, "contains": contains}


def find_verifier(name: str) -> Verifier:
    """A verifier of the table, or the user's own ``file.py:function`` taking (output, row) and returning a number.

    Raises:
        UsageError: unknown name, missing file or function.
    """
    if name in VERIFIERS:
        return VERIFIERS[name]
    if ":" not in name:
        raise UsageError(f"verifier {name!r}", "is unknown", nearest(name, VERIFIERS) + " Or name file.py:function.")
    file, _, function = name.rpartition(":")
    path = Path(file)
    if not path.exists():
        raise UsageError(name, f"{file} does not exist", "Give an existing Python file and a function in it.")
    spec = importlib.util.spec_from_file_location(f"trimpot_user_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        call = getattr(module, function)
    except AttributeError as error:
        raise UsageError(name, f"{file} has no function {function!r}", "Define it, or name another.") from error
    except Exception as error:
        raise UsageError(name, f"{file} raised {type(error).__name__}: {error}", "Mend the file.") from error
    return _own(name, call)


def _own(name: str, call: Callable[[str, PromptRow], Any]) -> Verifier:
    def score(output: str, row: PromptRow) -> Score:
        try:
            value = float(call(output, row))
        except Exception as error:
            problem = f"raised {type(error).__name__}: {error}"
            raise UsageError(name, f"{problem} on row {row.id} ({row.origin})", "Mend the function.") from error
        if not math.isfinite(value):
            raise UsageError(name, f"returned {value} for row {row.id} ({row.origin})", "Return a finite number.")
        return Score(value)

    return score
