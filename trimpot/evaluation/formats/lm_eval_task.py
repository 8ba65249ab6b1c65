"""An lm-eval task as a trimpot task: its items are the requests that lm-eval itself builds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.evaluation.formats.lm_eval_model import lm_eval_import, request_of
from trimpot.evaluation.formats.lm_eval_samples import document_id
from trimpot.evaluation.task import Decoding, Item, Task

INSIDE = "Run it inside lm-eval (as_lm) and import its sample log."
CHOICE_METRICS = ("acc", "acc_norm", "acc_bytes")
EXACT = f"{Path(__file__).with_name('exact_match.py')}:exact_match"
"""lm-eval's exact_match as a scorer; in its own process, as its patterns are the task's."""
EXACT_OPTIONS = ("ignore_case", "ignore_punctuation", "ignore_numbers", "regexes_to_ignore")


def read_lm_eval_task(
    path: Path,
    metric: str | None = None,
    limit: int | None = None,
    slices: Sequence[str] = (),
    allow_code: bool = False,
) -> Task:
    """A task in lm-eval's YAML, with its few-shot examples, as a Task whose outcomes pair with lm-eval's sample logs.

    multiple_choice becomes ``choice`` (acc, acc_norm, acc_bytes), loglikelihood_rolling ``rolling`` (bits per byte),
    generate_until with exact_match ``generate``.

    Args:
        metric: of several in its ``metric_list`` the one to score by; None: the first that trimpot has.
        limit: the first so many documents.
        slices: fields of the documents that become slices.
        allow_code: the file may name Python functions (``!function``), which run when it is read.

    Raises:
        UsageError: one line: no such file, a task that lm-eval cannot read, ``!function`` without ``allow_code``, or
            what trimpot's tasks cannot say: several right answers, contexts instead of choices, filters, other metrics.
    """
    loaded = _load(Path(path), limit, allow_code)
    where = f"{path}: task {loaded.config.task}"
    build = {"multiple_choice": _choice, "generate_until": _generate, "loglikelihood_rolling": _rolling}
    kind = str(loaded.OUTPUT_TYPE)
    if kind not in build:
        raise UsageError(where, f"output_type {kind} has no counterpart", INSIDE)
    if callable(loaded.config.process_results):
        raise UsageError(where, "scores by a function of its own (process_results)", INSIDE)
    if loaded.config.doc_to_image or loaded.config.doc_to_audio:
        raise UsageError(where, "shows images or sounds", INSIDE)
    documents: dict[int, list[Any]] = {}
    for instance in loaded.instances:
        documents.setdefault(instance.doc_id, []).append(instance)
    task: Task = build[kind](loaded, list(documents.values()), metric, list(slices), where)
    return task


def _load(path: Path, limit: int | None, allow_code: bool) -> Any:
    if not path.is_file():
        raise UsageError(str(path), "there is no such file", "Give an lm-eval task in YAML.")
    tasks, loader = lm_eval_import("lm_eval.tasks"), lm_eval_import("lm_eval.tasks._yaml_loader")
    try:
        if not allow_code:
            _refuse_code(path, loader)
        found = list(tasks.TaskManager(include_defaults=False).load([str(path.resolve())])["tasks"].values())
        if len(found) != 1:
            raise UsageError(str(path), f"holds {len(found)} tasks", "Give the file of one task.")
        if found[0].config.num_fewshot is None:
            found[0].set_config(key="num_fewshot", value=0)
        found[0].set_fewshot_seed(seed=1234)  # lm-eval's own
        found[0].build_all_requests(limit=limit)
    except UsageError:
        raise
    except Exception as error:  # whatever a YAML file makes lm-eval, datasets and jinja2 raise
        problem = f"lm-eval cannot read it ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        raise UsageError(str(path), problem, "Check it with lm-eval.") from error
    return found[0]


def _refuse_code(path: Path, loader: Any) -> None:
    """Refuses a file that names functions, itself or in what it includes, before anything of it runs."""
    for file, told in _included(path.resolve(), loader, ()):
        if "!function" in file.read_text(encoding="utf-8"):
            problem = f"{file.name} names a Python function, which would run"
            raise UsageError(str(path), problem, "Read it, then give allow_code=True.")
        if told.get("unsafe_code"):
            raise UsageError(str(path), "is marked as unsafe_code", INSIDE)


def _included(path: Path, loader: Any, above: tuple[Path, ...]) -> Iterator[tuple[Path, dict[str, Any]]]:
    if path in above:
        raise UsageError(str(path), "includes itself", "Take the include out.")
    told = loader.load_yaml(path, resolve_func=False, recursive=False)
    yield path, told
    names = told.get("include") or []
    for name in names if isinstance(names, list) else [names]:
        yield from _included((path.parent / name).resolve(), loader, (*above, path))


def _metric(loaded: Any, metric: str | None, known: Sequence[str], where: str) -> str:
    names = [str(name) for name in loaded._metric_fn_list]
    if metric is not None and metric not in names:
        raise UsageError(where, f"has no metric {metric!r}", f"It has {', '.join(names)}.")
    chosen = next((name for name in ([metric] if metric else names) if name in known), None)
    if chosen is None:
        raise UsageError(where, f"is scored by {metric or ', '.join(names)}, which trimpot has not", INSIDE)
    return chosen


def _item(loaded: Any, instance: Any, slices: Sequence[str], where: str, **fields: Any) -> Item:
    document = instance.doc
    missing = [name for name in slices if name not in document]
    if missing:
        known = ", ".join(sorted(map(str, document)))
        raise UsageError(f"{where}, document {instance.doc_id}", f"has no field {missing[0]!r}", f"It has {known}.")
    task, target = str(loaded.config.task), str(loaded.doc_to_target(document))
    utils = lm_eval_import("lm_eval.utils")
    told = json.dumps(document, indent=2, default=utils.handle_non_serializable, ensure_ascii=False)
    return Item(
        slices={name: str(document[name]) for name in slices},
        # Of the document: outcomes pair with lm-eval's own logs, and with runs under another chat template.
        parent=document_id(task, utils.hash_string(told), target),
        **fields,
    )


def _choice(loaded: Any, documents: list[list[Any]], metric: str | None, slices: list[str], where: str) -> Task:
    scorer = _metric(loaded, metric, CHOICE_METRICS, where)
    if loaded.multiple_input:
        raise UsageError(where, "asks for one ending after several contexts", INSIDE)
    items = []
    for instances in documents:
        place, document = f"{where}, document {instances[0].doc_id}", instances[0].doc
        choices = list(loaded.doc_to_choice(document))
        # acc_mutual_info asks for the choices without context as well.
        texts = tuple(str(instance.args[1]) for instance in instances[: len(choices)])
        gold = loaded.doc_to_target(document)
        if isinstance(gold, list):
            raise UsageError(place, "has several right answers", INSIDE)
        if isinstance(gold, str):
            gold = choices.index(gold) if gold in choices else -1
        if not 0 <= gold < len(choices):
            raise UsageError(place, f"names the right choice {gold} of {len(choices)}", "Mend doc_to_target.")
        counted = [text.removeprefix(" ") for text in texts]
        if scorer != "acc" and counted != choices:
            problem = f"{scorer} divides by lengths with the space that opens a choice"
            raise UsageError(where, problem, "Use target_delimiter ' ' and choices without it, or acc.")
        items.append(
            _item(loaded, instances[0], slices, where, prompt=instances[0].args[0], choices=texts, answer=texts[gold])
        )
    return Task(str(loaded.config.task), "choice", tuple(items), scorer, version=_version(loaded))


def _generate(loaded: Any, documents: list[list[Any]], metric: str | None, slices: list[str], where: str) -> Task:
    _metric(loaded, metric, ("exact_match",), where)
    options = dict(loaded._metric_fn_kwargs.get("exact_match") or {})
    unknown = [name for name in options if name not in EXACT_OPTIONS]
    filters = [one for pipeline in loaded._filters for one in pipeline.filters]
    if unknown or len(loaded._filters) > 1 or any(type(one()).__name__ != "TakeFirstFilter" for one in filters):
        what = f"options {', '.join(unknown)}" if unknown else "filters"
        raise UsageError(where, f"reads answers by {what} that trimpot has not", INSIDE)
    asked = request_of("", documents[0][0].args[1])
    items = []
    for (instance,) in documents:
        gold = loaded.doc_to_target(instance.doc)
        if loaded.config.doc_to_choice is not None:
            gold = loaded.doc_to_choice(instance.doc)[gold]
        if isinstance(gold, list):
            raise UsageError(f"{where}, document {instance.doc_id}", "has several right answers", INSIDE)
        fields = {"prompt": instance.args[0], "answer": str(gold), "metadata": options}
        items.append(_item(loaded, instance, slices, where, **fields))
    # lm-eval scores the first of repeats, and answers that were cut.
    decoding = Decoding(asked.max_tokens, asked.stop, asked.temperature, 1, score_unfinished=True)
    return Task(str(loaded.config.task), "generate", tuple(items), EXACT, decoding, version=_version(loaded))


def _rolling(loaded: Any, documents: list[list[Any]], metric: str | None, slices: list[str], where: str) -> Task:
    scorer = _metric(loaded, metric, ("bits_per_byte",), where)
    items = tuple(_item(loaded, one, slices, where, prompt=str(one.args[0])) for (one,) in documents)
    return Task(str(loaded.config.task), "rolling", items, scorer, version=_version(loaded))


def _version(loaded: Any) -> str:
    return str((loaded.config.metadata or {}).get("version", "1"))
