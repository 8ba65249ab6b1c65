"""Verifiers: a completion's score against a prompt row's answer, and whether it could be read at all."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import math
import numbers
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError, nearest
from trimpot.core.rows import PromptRow


@dataclass(frozen=True)
class Score:
    """``value`` is in [0, 1] for verifiers of the table, any finite number for a user's function.

    ``status``: ok, parse_failed (the completion could not be read; ``value`` is 0) or error (no score: ``value`` is
    NaN, and ``error`` says why).
    """

    value: float
    status: str = "ok"
    error: UsageError | None = None


Verifier = Callable[[str, PromptRow], Score]

_NUMBER = re.compile(r"[-+]?\d+([.,/]\d+)*")
_ANSWER_TAGS = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_MATH_DELIMITER = re.compile(r"\$|\\boxed|\\\(|\\\[|\\begin")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")


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


def matches_format(output: str, row: PromptRow) -> Score:
    """1 when the whole output, stripped of white space, matches the regular expression ``metadata["pattern"]``.

    A dot matches line ends too, so ``<think>.*</think>.*`` means what it says.

    Raises:
        UsageError: the row has no pattern, or one that is no regular expression.
    """
    pattern = row.metadata.get("pattern")
    if not isinstance(pattern, str):
        raise _row_fault("format", row, "has no pattern", 'Give metadata {"pattern": a regular expression}.')
    try:
        return Score(float(re.fullmatch(pattern, output.strip(), re.DOTALL) is not None))
    except re.error as error:
        problem = f"has the pattern {pattern!r}, which is no regular expression ({error})"
        raise _row_fault("format", row, problem, "Mend the pattern.") from error


def equal_in_mathematics(output: str, row: PromptRow) -> Score:
    r"""1 when math-verify finds the output's expression equal to the answer's: 0.5 and \frac{1}{2}, {1, 2} and {2, 1}.

    Read are \boxed{}, LaTeX between $ signs and plain expressions, of the text between the last <answer> tags where
    there are any. A line without words and delimiters is read as LaTeX as a whole.

    Raises:
        UsageError: the row's answer is no mathematics.
    Edge cases: an output without an expression is parse_failed. There is no time limit: Rewards sets one.
    Source: github.com/huggingface/Math-Verify 0.9 (``parse`` and ``verify``). Its time limits are off, as they need
        signals, which work in the main thread only; what it fails to parse is not compared as a string.
    """
    answer = _expressions(row.answer)
    if not answer:
        problem = f"has the answer {row.answer!r}, which math-verify cannot read"
        raise _row_fault("math", row, problem, "Give an expression, or name another verifier.")
    given = _expressions(_between_answer_tags(output))
    if not given:
        return Score(0.0, "parse_failed")
    return Score(float(importlib.import_module("math_verify").verify(answer, given, timeout_seconds=None)))


def by_reasoning_gym(output: str, row: PromptRow) -> Score:
    """reasoning-gym's own score of the output for the entry it generated; partial credit is as its data set gives it.

    The row's metadata holds ``source_dataset`` (the name of the data set) and ``entry`` (question, answer, metadata).
    Of the output the text between the last <answer> tags counts, all of it where there are none.

    Raises:
        UsageError: the metadata lacks one of them, or names an unknown data set.
    Edge cases: an output on which the scorer raises is parse_failed (prime_factorization wants numbers only).
    Source: reasoning-gym 0.1.25 (arXiv 2505.24760), ``get_score_answer_fn``.
    """
    name, entry = row.metadata.get("source_dataset"), row.metadata.get("entry")
    if not isinstance(name, str) or not isinstance(entry, Mapping):
        mend = 'Give metadata {"source_dataset": NAME, "entry": {"question": …, "answer": …, "metadata": {…}}}.'
        raise _row_fault("reasoning_gym", row, "has no entry of reasoning-gym in its metadata", mend)
    known = importlib.import_module("reasoning_gym.factory").DATASETS
    if name not in known:
        raise _row_fault("reasoning_gym", row, f"names the unknown data set {name!r}", nearest(name, known))
    try:
        scorer = _scorer(name)
    except Exception as error:
        problem = f"names {name!r}, which has no scorer of its own ({error})"
        raise _row_fault("reasoning_gym", row, problem, "Name the data set that generated the entry.") from error
    try:
        value = scorer(_between_answer_tags(output).strip(), dict(entry))
    except Exception:
        return Score(0.0, "parse_failed")
    return Score(_number(value, "reasoning_gym", row))


VERIFIERS: dict[str, Verifier] = {
    "exact": exact,
    "contains": contains,
    "format": matches_format,
    "math": equal_in_mathematics,
    "reasoning_gym": by_reasoning_gym,
}
PACKAGES = {"math": "math_verify", "reasoning_gym": "reasoning_gym"}
"""What a verifier imports when it is looked up; each takes up to a second."""


def find_verifier(name: str) -> Verifier:
    """A verifier of the table, or the user's own ``file.py:function`` taking (output, row) and returning a number.

    It runs in this process without a time limit; Rewards runs it in a process of its own, with one.

    Raises:
        UsageError: unknown name, missing file, function or package.
    """
    if name in VERIFIERS:
        if name in PACKAGES:
            _import(name)
        return VERIFIERS[name]
    if ":" not in name:
        raise UsageError(f"verifier {name!r}", "is unknown", nearest(name, VERIFIERS) + " Or name file.py:function.")
    return _own(name, from_user_file(name, "function"))


def from_user_file(name: str, kind: str) -> Callable[..., Any]:
    """The function or class that ``file.py:name`` names; the file runs anew at every call.

    ``kind`` is what messages call it: "function" or "class".

    Raises:
        UsageError: no such Python file, one that raises when it runs, or nothing callable of that name in it.
    """
    file, _, attribute = name.rpartition(":")
    path = Path(file)
    if not path.is_file() or path.suffix != ".py":
        problem = f"{file} is no Python file" if path.exists() else f"{file} does not exist"
        raise UsageError(name, problem, f"Give an existing Python file and a {kind} in it.")
    spec = importlib.util.spec_from_file_location(f"trimpot_user_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UsageError(name, f"{file} {raised(error)}", "Mend the file.") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        raise UsageError(name, f"{file} has no {kind} {attribute!r}", "Define it, or name another.")
    return found


def own_answer(row: PromptRow) -> str:
    """The row's answer, else that of its entry of reasoning-gym; empty where neither is known."""
    entry = row.metadata.get("entry")
    found = entry.get("answer") if isinstance(entry, Mapping) else None
    return row.answer or str(found or "")


def on_row(row: PromptRow) -> str:
    """The end of an error's description: which row it was."""
    return f"on row {row.id} ({row.origin})"


def raised(error: BaseException) -> str:
    """What a function raised, in one line."""
    return f"raised {type(error).__name__}: {' '.join(str(error).split())}"


def _row_fault(verifier: str, row: PromptRow, problem: str, mend: str) -> UsageError:
    return UsageError(f"verifier {verifier!r}", f"the row {row.id} ({row.origin}) {problem}", mend)


def _import(name: str) -> None:
    package = PACKAGES[name]
    try:
        importlib.import_module(package)
    except ImportError as error:
        mend = f"Install it: pip install {package.replace('_', '-')}."
        raise UsageError(f"verifier {name!r}", f"{package} cannot be imported ({error})", mend) from error
    # It warns that its own time limits are off, which they are on purpose.
    logging.getLogger("math_verify").setLevel(logging.ERROR)


def _own(name: str, call: Callable[[str, PromptRow], Any]) -> Verifier:
    def score(output: str, row: PromptRow) -> Score:
        try:
            value = call(output, row)
        except Exception as error:
            raise UsageError(name, f"{raised(error)} {on_row(row)}", "Mend the function.") from error
        return Score(_number(value, name, row))

    return score


def _number(value: object, name: str, row: PromptRow) -> float:
    """One finite number; True and False count as 1 and 0."""
    if not isinstance(value, numbers.Real):
        problem = f"returned {type(value).__name__} {str(value)[:60]!r}, not one number, {on_row(row)}"
        raise UsageError(name, problem, "Return one finite number.")
    if not math.isfinite(value):
        raise UsageError(name, f"returned {value} {on_row(row)}", "Return one finite number.")
    return float(value)


def _between_answer_tags(output: str) -> str:
    found = _ANSWER_TAGS.findall(output)
    return found[-1] if found else output


def _expressions(text: str) -> list[Any]:
    """What math-verify reads in a text. A line without words and delimiters is LaTeX that somebody left bare."""
    text = text.strip()
    bare = not (_MATH_DELIMITER.search(text) or _WORD.search(text) or "\n" in text)
    parse = importlib.import_module("math_verify").parse
    return list(parse(f"${text}$" if bare else text, fallback_mode="no_fallback", parsing_timeout=None))


@functools.cache
def _scorer(name: str) -> Callable[[str, dict[str, Any]], float]:
    return importlib.import_module("reasoning_gym").get_score_answer_fn(name)
