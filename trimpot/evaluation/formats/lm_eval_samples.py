"""lm-eval's sample logs (``--log_samples``: samples_TASK_DATE.jsonl) as outcomes. lm-eval itself is not needed."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.core.hashing import content_hash
from trimpot.evaluation.formats.imported import Imported, known_form, parse_json, sliced
from trimpot.store.outcomes import UNPERTURBED, Outcome

FORMAT = "lm-eval samples"
LONGEST_LINE = 64 << 20
"""Bytes of one sample."""
LARGEST_RESULTS = 256 << 20
MEND = "Give a file that lm-eval --log_samples wrote."
NEEDED = ("doc_id", "doc", "target", "arguments", "filtered_resps")
ALSO = ("resps", "filter", "metrics", "doc_hash", "prompt_hash", "target_hash")
"""Keys of a sample that are no metric; the rest are metrics where ``metrics`` does not name them."""
LOWER = ("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "ter", "wer", "brier_score")
"""Metrics of lm-eval of which less is better, where no results file says so."""
INVALID = "[invalid]"
"""What lm-eval's filters give when they find no answer."""
_NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.\-]+)$")


def document_id(task: str, document_hash: str, target: str) -> str:
    """The id of an item that comes from lm-eval: of the document, so that runs with other templates still pair.

    Args:
        document_hash: lm-eval's ``doc_hash``: SHA-256 of the document as indented JSON.
    """
    return content_hash(["lm-eval", task, document_hash, target])


@dataclass(frozen=True)
class _Log:
    """What a file says beside its samples. ``higher``: metric -> whether more is better, where a results file says."""

    path: Path
    task: str
    run: str
    weights: str
    higher: Mapping[str, bool]


def read_lm_eval_samples(path: Path, metric: str | None = None, slices: Sequence[str] = ()) -> Imported:
    """The outcomes of a sample log: one per document and filter.

    The score is one metric's; other metrics are named in the notes. A task read by several filters becomes one task
    per filter, TASK/FILTER. An answer in which the filter found nothing (``[invalid]``) is parse_failed with its
    score, a metric that is no number is unscored. Of choices, ``confidence`` is the softmax over their log-likelihoods.
    ``results_DATE.json`` beside the file, where there, names the model and says which metrics are better when lower.

    Args:
        metric: None: the first of each sample that is one number.
        slices: fields of the documents that become slices.

    Raises:
        UsageError: one line that names file and line: no such sample, no metric, a document that stands there twice
            (lm-eval appends to a file that exists).
    """
    log, read = _log(Path(path)), []
    left_out: set[str] = set()
    seen: dict[tuple[str, str], int] = {}
    for line, sample in _samples(log.path):
        where = f"{path}:{line}"
        names = _metrics(sample)
        chosen = _chosen(sample, names, metric, where)
        left_out |= set(names) - {chosen}
        used = str(sample.get("filter", "none"))
        key = (used, str(sample["doc_id"]))
        if key in seen:
            problem = f"document {key[1]} stands in line {seen[key]} too"
            raise UsageError(where, problem, "lm-eval appends to files that exist: take one run's lines.")
        seen[key] = line
        with known_form(where, MEND):
            read.append((used, _outcome(log, sample, chosen, slices, where)))
    filters = {used for used, _ in read}
    if len(filters) > 1:
        read = [(used, replace(one, task=f"{one.task}/{used}")) for used, one in read]
    notes = [f"{path}: {name} was not imported" for name in sorted(left_out)]
    return Imported(FORMAT, tuple(one for _, one in read), tuple(notes))


def _samples(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    empty = True
    with path.open("rb") as file:
        for line, text in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), start=1):
            where = f"{path}:{line}"
            if len(text) > LONGEST_LINE:
                raise UsageError(where, f"is longer than {LONGEST_LINE >> 20} MiB", MEND)
            if not text.strip():
                continue
            sample, empty = parse_json(text, where, MEND), False
            missing = [key for key in NEEDED if not isinstance(sample, dict) or key not in sample]
            if missing:
                raise UsageError(where, f"has no {', '.join(missing)}", MEND)
            if not isinstance(sample["filtered_resps"], list) or not isinstance(sample["arguments"], dict | list):
                raise UsageError(where, "filtered_resps or arguments are no list", MEND)
            yield line, sample
    if empty:
        raise UsageError(str(path), "holds no samples", MEND)


def _metrics(sample: Mapping[str, Any]) -> list[str]:
    named = sample.get("metrics")
    if isinstance(named, list):
        return [str(name) for name in named]
    return [name for name in sample if name not in NEEDED and name not in ALSO]


def _chosen(sample: Mapping[str, Any], names: Sequence[str], metric: str | None, where: str) -> str:
    if metric is not None and metric not in names:
        raise UsageError(where, f"has no metric {metric!r}", f"It has: {', '.join(names) or 'none'}.")
    usable = [name for name in names if name in sample and (name == "bits_per_byte" or _is_number(sample[name]))]
    chosen = metric or next(iter(usable), None)
    if chosen is None:
        raise UsageError(where, f"has no metric that is a number ({', '.join(names) or 'none'})", "Name one: --metric.")
    if chosen not in usable:
        raise UsageError(where, f"{chosen} is not one number for an item", f"Of use: {', '.join(usable) or 'none'}.")
    return chosen


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _outcome(log: _Log, sample: Mapping[str, Any], metric: str, slices: Sequence[str], where: str) -> Outcome:
    arguments, target = _arguments(sample, where), str(sample["target"])
    choices = _choices(arguments, sample, where)
    prompt, expected, confidence = arguments[0][0], target, None
    if choices is None:
        # A text, or one continuation, was scored, and nothing was generated.
        found = "" if isinstance(arguments[0][-1], str) else next(iter(sample["filtered_resps"]), "")
        output = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
        expected = "" if len(arguments[0]) == 1 else target  # of a text, the text itself
    else:
        output, confidence = _likeliest(choices)
        number = int(target) if target.isascii() and target.isdigit() else None
        by_text = [text for text, _ in choices if text.strip() == target.strip()]
        expected = choices[number][0] if number is not None and number < len(choices) else (by_text or [target])[0]
    score = _score(sample[metric], where)
    status = "unscored" if score is None else "parse_failed" if output.strip() == INVALID else "ok"
    item = document_id(log.task, _hash(sample), target)
    return Outcome(
        run=log.run,
        weights=log.weights,
        task=log.task,
        item=item,
        cluster=item,
        slices=sliced(sample["doc"], slices, where),
        perturbation=UNPERTURBED,
        prompt_ids=(),
        prompt=prompt,
        expected=expected,
        output=output,
        score=score,
        status=status,
        confidence=confidence,
        better="higher" if log.higher.get(metric, metric not in LOWER) else "lower",
    )


def _score(value: Any, where: str) -> float | None:
    """The metric; bits per byte stand there as (log-likelihood, bytes)."""
    if isinstance(value, list):
        if len(value) != 2 or not all(map(_is_number, value)) or value[1] <= 0:
            raise UsageError(where, "bits_per_byte is not [log-likelihood, bytes]", MEND)
        value = -value[0] / (value[1] * math.log(2))
    return float(value) if math.isfinite(value) else None


def _arguments(sample: Mapping[str, Any], where: str) -> list[list[Any]]:
    """Of every request the context, then the continuation of a log-likelihood, or how to generate."""
    told = sample["arguments"]
    # Written by hand from ``results["samples"]`` they are lists; lm-eval's own files have gen_args_0.arg_0 ….
    rows = [_numbered(row) for row in _numbered(told)]
    if not rows or not all(rows) or not all(isinstance(row[0], str) for row in rows):
        raise UsageError(where, "arguments hold no prompt", MEND)
    return rows


def _numbered(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [value[key] for key in sorted(value, key=lambda key: int(re.sub(r"\D", "", key) or 0))]
    return list(value) if isinstance(value, list) else []


def _choices(
    arguments: Sequence[Sequence[Any]], sample: Mapping[str, Any], where: str
) -> list[tuple[str, float]] | None:
    """Every choice with its log-likelihood; None for a generation, a whole text, or one continuation.

    Choices that stand there again without context (for mutual information) are left out; where contexts differ and the
    continuation is one, the contexts are the choices.
    """
    if len(arguments) < 2 or not all(len(row) == 2 and isinstance(row[1], str) for row in arguments):
        return None
    found = sample["filtered_resps"]
    if len(found) != len(arguments):
        raise UsageError(where, f"has {len(found)} answers to {len(arguments)} requests", MEND)
    half = len(arguments) // 2
    if arguments[0][0] and [["", row[1]] for row in arguments[:half]] == [list(row) for row in arguments[half:]]:
        arguments, found = arguments[:half], found[:half]
    contexts = len({row[0] for row in arguments}) > 1
    try:
        return [(row[0 if contexts else 1], float(one[0])) for row, one in zip(arguments, found, strict=True)]
    except (TypeError, ValueError, IndexError) as error:
        raise UsageError(where, "filtered_resps hold no log-likelihoods", MEND) from error


def _likeliest(choices: Sequence[tuple[str, float]]) -> tuple[str, float | None]:
    values = [value for _, value in choices]
    if not all(map(math.isfinite, values)):
        return "", None
    best = values.index(max(values))
    return choices[best][0], 1 / math.fsum(math.exp(value - values[best]) for value in values)


def _hash(sample: Mapping[str, Any]) -> str:
    told = sample.get("doc_hash")
    if isinstance(told, str):
        return told
    # Older logs have none.
    return hashlib.sha256(json.dumps(sample["doc"], indent=2, ensure_ascii=False).encode()).hexdigest()


def _log(path: Path) -> _Log:
    named = _NAME.search(path.stem)
    task = named["task"] if named else path.stem.removeprefix("samples_")
    results = path.with_name(f"results_{named['date']}.json") if named else None
    if results is None or not results.is_file():
        return _Log(path, task, path.stem, f"unknown, of {path.parent.name}/{path.name}", {})
    if results.stat().st_size > LARGEST_RESULTS:
        raise UsageError(str(results), f"is larger than {LARGEST_RESULTS >> 20} MiB", "Take it away from the samples.")
    told = parse_json(results.read_bytes(), str(results), "Take it away from the samples.")
    config = told.get("config") if isinstance(told, dict) else None
    if not isinstance(config, dict):
        raise UsageError(str(results), "has no config", "Take it away from the samples.")
    stated = [str(config.get(key) or "") for key in ("model", "model_args", "model_sha")]
    better = (told.get("higher_is_better") or {}).get(task) or {}
    higher = {name: bool(value) for name, value in better.items() if value is not None}
    run = str(told.get("model_name") or stated[1] or stated[0])
    return _Log(path, task, run, " ".join(part for part in stated if part), higher)
