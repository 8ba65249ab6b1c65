"""Which format a log is in, by its content, and its outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trimpot.core.errors import UsageError
from trimpot.evaluation.formats.imported import Imported, parse_json
from trimpot.evaluation.formats.inspect_log import LARGEST_JSON, read_inspect_log
from trimpot.evaluation.formats.lm_eval_samples import LONGEST_LINE, read_lm_eval_samples

MEND = "Give lm-eval's samples_TASK_DATE.jsonl, or a .eval or .json log of inspect_ai."


def read_log(path: Path, metric: str | None = None, slices: Sequence[str] = ()) -> Imported:
    """The outcomes of a log of lm-eval or inspect_ai.

    Args:
        metric, slices: as of ``read_lm_eval_samples`` and ``read_inspect_log``.

    Raises:
        UsageError: no such file, one of another format, or one with an error in it.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(str(path), "there is no such file" if not path.exists() else "is no file", MEND)
    with path.open("rb") as file:
        first = file.readline(LONGEST_LINE + 1)
    if first.startswith(b"PK\x03\x04"):
        return read_inspect_log(path, metric, slices)
    try:
        told = parse_json(first, str(path), MEND)
    except UsageError:
        # More than one line: JSON for people, unless it is damaged.
        whole = path.stat().st_size <= LARGEST_JSON and path.suffix == ".json"
        told = parse_json(path.read_bytes(), str(path), MEND) if whole else None
    if not isinstance(told, dict):
        raise UsageError(str(path), "is no log that is known", MEND)
    if "doc_id" in told:
        return read_lm_eval_samples(path, metric, slices)
    if "eval" in told:
        return read_inspect_log(path, metric, slices)
    if "results" in told and "configs" in told:
        raise UsageError(str(path), "holds lm-eval's averages, not its samples", "Run lm-eval with --log_samples.")
    raise UsageError(str(path), "is no log that is known", MEND)


def read_logs(paths: Sequence[Path], metric: str | None = None, slices: Sequence[str] = ()) -> list[Imported]:
    """Several logs, in their order.

    Raises:
        UsageError: as ``read_log``, or an item of one run and task stands in two of them.
    """
    found, seen = [], dict[tuple[str, str, str, str, int], Path]()
    for path in paths:
        one = read_log(path, metric, slices)
        for outcome in one.outcomes:
            key = (outcome.run, outcome.weights, outcome.task, outcome.item, outcome.sample)
            if seen.get(key, path) != path:
                problem = f"task {outcome.task} of run {outcome.run} is in {seen[key]} too"
                raise UsageError(str(path), problem, "Give each log once.")
            seen[key] = path
        found.append(one)
    return found
