"""One evaluation: a suite's tasks on a model, into a folder. A killed one goes on from the response cache."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.core.progress import Progress, ignore
from trimpot.evaluation.cache import BATCH, CachedModel, ResponseCache
from trimpot.evaluation.language_model import LanguageModel
from trimpot.evaluation.lint import Problem, lint_tasks, refuse_errors
from trimpot.evaluation.runner import TooLong, evaluate_tasks
from trimpot.evaluation.task import Task
from trimpot.evaluation.task_file import FileTask
from trimpot.store.atomic import write_json
from trimpot.store.environment import environment
from trimpot.store.outcomes import STATUSES, Outcome, read_outcomes, write_outcomes

OUTCOMES, RECORD = "outcomes.parquet", "evaluation.json"


@dataclass(frozen=True)
class Plan:
    """What is evaluated: a suite's tasks as they were built with a seed and so many items per task (None: all)."""

    suite: str
    tasks: Sequence[Task | FileTask]
    seed: int
    items: int | None
    too_long: TooLong = "refuse"


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that is done: its outcomes, its record (what ``evaluation.json`` holds), the linter's warnings."""

    folder: Path
    outcomes: list[Outcome]
    record: dict[str, Any]
    warnings: list[Problem]


def evaluate_into(
    folder: Path,
    model: LanguageModel,
    plan: Plan,
    cache: ResponseCache | None = None,
    progress: Progress = ignore,
    batch: int = BATCH,
) -> Evaluation:
    """Lints the tasks, evaluates them, and writes the folder's two files at the end, each whole.

    A killed evaluation leaves no folder; called again with the same cache it asks only what is missing.

    Args:
        cache: None: nothing is kept, and a killed evaluation begins anew.
        batch: requests between two commits of the cache.

    Raises:
        UsageError: the folder holds an evaluation; the linter found an error; an item is too long (see evaluate_tasks);
            the disk is full. One line.
    """
    if (folder / RECORD).exists():
        raise UsageError(str(folder), "holds an evaluation already", "Give another folder with --output.")
    problems = lint_tasks(plan.tasks, model)
    refuse_errors(problems)
    tasks = [one.task if isinstance(one, FileTask) else one for one in plan.tasks]
    notes: list[str] = []
    asked = model if cache is None else CachedModel(model, cache, batch)
    began = time.monotonic()
    outcomes = evaluate_tasks(asked, tasks, folder.name, progress, plan.too_long, notes.append)
    seconds = time.monotonic() - began
    record = {
        **_about(model, plan, tasks),
        "seconds": seconds,
        **_speed(asked, outcomes),
        "statuses": {status: Counter(one.status for one in outcomes)[status] for status in STATUSES},
        "notes": notes,
        "warnings": [str(one) for one in problems],
        "environment": environment(),
    }
    write_outcomes(folder / OUTCOMES, outcomes)
    write_json(folder / RECORD, record)
    return Evaluation(folder, outcomes, record, problems)


def read_evaluation(folder: Path) -> Evaluation:
    """An evaluation that ``evaluate_into`` wrote.

    Raises:
        UsageError: the folder holds none, or files that cannot be read.
    """
    path = Path(folder) / RECORD
    mend = "Give a folder that `trimpot eval` wrote."
    if not path.is_file():
        raise UsageError(str(folder), f"holds no {RECORD}", mend)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(str(path), f"is not JSON ({error})", mend) from error
    return Evaluation(Path(folder), read_outcomes(Path(folder) / OUTCOMES), record, [])


def _about(model: LanguageModel, plan: Plan, tasks: Sequence[Task]) -> dict[str, Any]:
    shown = [
        {
            "name": task.name,
            "kind": task.kind,
            "scorer": task.scorer,
            "metric_group": task.metric_group,
            "version": task.version,
            "items": len(task.items),
            **(
                {"decoding": {**asdict(task.decoding), "stop": list(task.decoding.stop)}}
                if task.kind == "generate"
                else {}
            ),
        }
        for task in tasks
    ]
    identity = {**asdict(model.identity), "key": model.identity.key, "flops_per_token": model.flops_per_token}
    return {"model": identity, "suite": plan.suite, "seed": plan.seed, "items": plan.items, "tasks": shown}


def _speed(model: LanguageModel, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Tokens generated now, by second of generation; what came from the cache counts for neither."""
    if isinstance(model, CachedModel):
        tokens, spent = model.asked_tokens, model.generating_seconds
        cache = {"path": str(model.cache.path), "hits": model.hits, "asked": model.asked}
    else:
        tokens = sum(one.tokens or 0 for one in outcomes)
        spent, cache = sum(one.seconds or 0.0 for one in outcomes if one.tokens is not None), None
    rate = tokens / spent if tokens and spent > 0 else None
    return {"generated_tokens": tokens, "tokens_per_second": rate, "cache": cache}
