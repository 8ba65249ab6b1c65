"""inspect_ai's logs (.eval and .json) as outcomes. inspect_ai itself is not needed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.core.hashing import content_hash
from trimpot.evaluation.formats.imported import Imported, known_form, parse_json, sliced
from trimpot.evaluation.formats.zip_members import Archive
from trimpot.store.outcomes import UNPERTURBED, Outcome

FORMAT = "inspect log"
VERSIONS = (1, 2)
LARGEST_JSON = 1 << 30
MEND = "Give a .eval or .json log of inspect_ai."
LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
"""Correct, partial, incorrect, no answer."""
WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
PARSE = ("invalid_response_format", "no_response")
"""Reasons of a score that are the model's: it gave no answer that could be read."""
BROKEN = ("grader_failed", "scoring_failed")
"""Reasons that are the scorer's."""
OLD_NAME = "88F74D2C"
"""inspect's name for the one score of logs of version 1."""
ATTACHMENT = "attachment://"


def read_inspect_log(path: Path, metric: str | None = None, slices: Sequence[str] = ()) -> Imported:
    """The outcomes of a log: one per sample and epoch, by epoch and id as inspect orders them.

    Scores are read as inspect's ``value_to_float`` does: C 1, P 0.5, I 0, N (no answer) 0 and parse_failed; yes, true,
    no, false; numbers. Its unscored (NaN) is unscored, or error where the reason is a grader or scorer that failed. A
    text that is none of these, which inspect counts as 0, is unscored. A sample with an error is error, unless the run
    scored such samples (``score_on_error``); an invalidated one is unscored. ``sample`` is the epoch, from 0.

    Args:
        metric: SCORER, or SCORER/KEY where a score is a table or list; None: the first scorer.
        slices: fields of the samples' metadata that become slices.

    Raises:
        UsageError: one line that names file and sample.
    """
    path = Path(path)
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    header, samples = _zip(path) if zipped else _whole(path)
    if header.get("version", 1) not in VERSIONS:
        raise UsageError(str(path), f"is of version {header.get('version')}, and 1 and 2 are known", MEND)
    spec = header.get("eval")
    if not isinstance(spec, dict) or not isinstance(spec.get("task"), str) or not isinstance(spec.get("model"), str):
        raise UsageError(str(path), "says no task and model (eval.task, eval.model)", MEND)
    found: dict[tuple[int, str], Outcome] = {}
    scorers: dict[str, None] = {}
    for place, sample in samples:
        id, epoch = _key(sample, f"{path}: {place}")
        where = f"{path}: sample {id}, epoch {epoch}"
        # inspect sorts numbers as numbers.
        key = (epoch, str(id).zfill(20) if isinstance(id, int) else id)
        if key in found:
            raise UsageError(where, "is there twice", "Take one run's log.")
        scores = _scores(sample, where)
        scorers.update(dict.fromkeys(scores))
        chosen = metric or next(iter(scorers), None)
        with known_form(where, MEND):
            found[key] = _outcome(spec, sample, _chosen(scores, chosen, where), slices, where)
    if not found:
        raise UsageError(str(path), "holds no samples", "Give a log that was written with its samples.")
    used = (metric or next(iter(scorers), "")).partition("/")[0]
    if metric and used not in scorers and metric not in scorers:
        raise UsageError(str(path), f"has no scorer {used!r}", f"It has: {', '.join(scorers) or 'none'}.")
    notes = _notes(path, header, spec, len(found))
    notes += [f"{path}: the scores of {name} were not imported" for name in scorers if name not in (used, metric)]
    return Imported(FORMAT, tuple(found[key] for key in sorted(found)), tuple(notes))


def _notes(path: Path, header: Mapping[str, Any], spec: Mapping[str, Any], count: int) -> list[str]:
    status, config, data = header.get("status", "started"), spec.get("config") or {}, spec.get("dataset") or {}
    notes = [] if status == "success" else [f"{path}: the run's status is {status}"]
    expected = (data.get("samples") or 0) * (config.get("epochs") or 1)
    if count < expected and not config.get("limit") and not config.get("sample_id"):
        notes.append(f"{path}: {count} of {expected} samples are there")
    return notes


def _zip(path: Path) -> tuple[dict[str, Any], Iterator[tuple[str, dict[str, Any]]]]:
    archive = Archive(path, MEND)
    # A run that was killed has no header yet.
    name = next((one for one in ("header.json", "_journal/start.json") if one in archive.names), None)
    if name is None:
        raise UsageError(str(path), "has no header.json", MEND)
    names = [one for one in archive.names if one.startswith("samples/") and one.endswith(".json")]
    read = ((one, _table(archive.read(one), f"{path}: {one}")) for one in names)
    return _table(archive.read(name), f"{path}: {name}"), read


def _whole(path: Path) -> tuple[dict[str, Any], Iterator[tuple[str, dict[str, Any]]]]:
    if path.stat().st_size > LARGEST_JSON:
        raise UsageError(str(path), f"is larger than {LARGEST_JSON >> 30} GiB", "Convert it: inspect log convert.")
    log = _table(path.read_bytes(), str(path))
    samples = log.get("samples") or []
    if not isinstance(samples, list) or not all(isinstance(one, dict) for one in samples):
        raise UsageError(str(path), "samples is no list of objects", MEND)
    return log, ((f"samples[{number}]", sample) for number, sample in enumerate(samples))


def _table(text: bytes, where: str) -> dict[str, Any]:
    found = parse_json(text, where, MEND)
    if not isinstance(found, dict):
        raise UsageError(where, "is no JSON object", MEND)
    return found


def _key(sample: Mapping[str, Any], where: str) -> tuple[int | str, int]:
    id, epoch = sample.get("id"), sample.get("epoch")
    if isinstance(id, bool) or not isinstance(id, int | str) or not isinstance(epoch, int) or epoch < 1:
        raise UsageError(where, "has no id and epoch", MEND)
    return id, epoch


def _scores(sample: Mapping[str, Any], where: str) -> dict[str, Any]:
    scores = {OLD_NAME: sample["score"]} if sample.get("score") is not None else sample.get("scores") or {}
    if not isinstance(scores, dict) or not all(isinstance(one, dict) and "value" in one for one in scores.values()):
        raise UsageError(where, "scores have no value", MEND)
    return scores


def _chosen(scores: Mapping[str, Any], name: str | None, where: str) -> Mapping[str, Any] | None:
    """The named score, of one entry where it is a table or list; None: the sample has none of it."""
    if name is None:
        return None
    scorer, key = (name, "") if name in scores else (name.partition("/")[0], name.partition("/")[2])
    score: Mapping[str, Any] | None = scores.get(scorer)
    if score is None:
        return None
    value = score["value"]
    entries = dict(enumerate(value)) if isinstance(value, list) else value
    if not isinstance(entries, dict):
        if key:
            raise UsageError(where, f"the score of {scorer} has no parts", f"Name it: --metric {scorer}.")
        return score
    entries = {str(one): part for one, part in entries.items()}
    if key not in entries:
        choices = ", ".join(f"{scorer}/{one}" for one in entries) or "none"
        raise UsageError(where, f"the score of {scorer} has parts", f"Name one with --metric: {choices}.")
    return {**score, "value": entries[key]}


def _scored(score: Mapping[str, Any] | None, failed: bool) -> tuple[float | None, str]:
    """The score as a number, and its status. ``failed``: the sample has an error, for which nothing is scored."""
    if failed:
        return None, "error"
    if score is None:
        return None, "unscored"
    told = score.get("reason") or (score.get("metadata") or {}).get("unscored_reason")
    value = _number(score["value"])
    if value is None:
        return None, "error" if told in BROKEN else "unscored"
    return value, "parse_failed" if told in PARSE or score["value"] == "N" else "ok"


def _number(value: object) -> float | None:
    """inspect's ``value_to_float``, but that a text it knows nothing of is None and not 0; NaN (unscored) is None."""
    if isinstance(value, str):
        if value in LETTERS:
            return LETTERS[value]
        if value.lower() in WORDS:
            return WORDS[value.lower()]
        try:
            value = float(value)
        except ValueError:
            return None
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _outcome(
    spec: Mapping[str, Any],
    sample: Mapping[str, Any],
    score: Mapping[str, Any] | None,
    slices: Sequence[str],
    where: str,
) -> Outcome:
    attachments = sample.get("attachments") or {}
    target = sample.get("target", "")
    expected = target if isinstance(target, str) else " | ".join(map(str, target))
    prompt = _text(sample.get("input", ""), attachments)
    settled = bool((spec.get("config") or {}).get("score_on_error")) and score is not None
    value, status = _scored(score, sample.get("error") is not None and not settled)
    if sample.get("invalidation") is not None:
        value, status = None, "unscored"
    item = content_hash(["inspect", spec["task"], sample["id"], prompt, expected])
    seconds = sample.get("working_time")
    return Outcome(
        run=str(spec.get("run_id") or spec.get("eval_id") or Path(where).stem),
        weights=_model(spec),
        task=spec["task"],
        item=item,
        cluster=item,
        slices=sliced(sample.get("metadata"), slices, where) if slices else {},
        perturbation=UNPERTURBED,
        prompt_ids=(),
        prompt=prompt,
        expected=expected,
        output=_completion(sample.get("output"), attachments),
        score=value,
        status=status,
        sample=sample["epoch"] - 1,
        tokens=_tokens(sample, spec["model"]),
        seconds=seconds if seconds is not None else sample.get("total_time"),
    )


def _model(spec: Mapping[str, Any]) -> str:
    """What a log states of the weights: the model's name, and a hash of its arguments where it has any."""
    told = [spec.get("model_base_url"), spec.get("model_args") or {}]
    return spec["model"] if told == [None, {}] else f"{spec['model']} {content_hash(told)}"


def _completion(output: object, attachments: Mapping[str, str]) -> str:
    if not isinstance(output, dict):
        return ""
    if output.get("completion"):
        return _text(output["completion"], attachments)
    choices = output.get("choices") or [{}]
    return _text((choices[0].get("message") or {}).get("content", ""), attachments)


def _text(value: object, attachments: Mapping[str, str]) -> str:
    """A text, the texts of a message's parts, or a conversation as lines ``role: content``; no reasoning."""
    if isinstance(value, str):
        key = value.removeprefix(ATTACHMENT)
        return str(attachments.get(key, value)) if value.startswith(ATTACHMENT) else value
    if not isinstance(value, list):
        return ""
    lines = []
    for part in value:
        if not isinstance(part, dict):
            continue
        if "role" in part:
            lines.append(f"{part['role']}: {_text(part.get('content', ''), attachments)}")
        elif part.get("type") == "text":
            lines.append(_text(part.get("text", ""), attachments))
        elif part.get("type") != "reasoning":
            lines.append(f"[{part.get('type', 'unknown')}]")
    return "\n".join(lines)


def _tokens(sample: Mapping[str, Any], model: str) -> int | None:
    usage = (sample.get("model_usage") or {}).get(model) or (sample.get("output") or {}).get("usage") or {}
    told = usage.get("output_tokens")
    return told if isinstance(told, int) else None
