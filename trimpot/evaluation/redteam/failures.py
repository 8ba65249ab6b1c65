"""Attacks that worked, kept as JSON lines: what was sent, what came, the smallest form, and how to send it again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.core.hashing import content_hash
from trimpot.core.progress import Progress, ignore
from trimpot.core.rows import Message
from trimpot.data.files import read_records
from trimpot.evaluation.language_model import Identity, LanguageModel
from trimpot.evaluation.redteam.attack import Attempt, answers
from trimpot.evaluation.redteam.clusters import Clusters, clustered
from trimpot.evaluation.redteam.detectors import DETECTORS, Result
from trimpot.evaluation.redteam.families import Case
from trimpot.evaluation.redteam.minimise import CALLS, minimised
from trimpot.evaluation.redteam.seeds import Seed
from trimpot.store.atomic import write_text

FORMAT = 1
TOTAL = 600
"""Prompts that the minimisations of one run may ask together."""


@dataclass(frozen=True)
class Failure:
    """An attack that worked on a model.

    Args:
        model: the identity of the model that failed.
        case: what was sent.
        messages: what the model read for its last answer: the system prompt, the turns and its own earlier answers.
        output: what came.
        why: the detector's reason.
        sample, temperature, max_tokens: how the answer was drawn.
        minimal_turns: the smallest turns that still worked; None where that was not looked for or not found.
        minimal: no word of them can be left out.
        cluster: number among the failures of the run, the largest cluster 0; ``cluster_words`` are its heaviest words.
    """

    model: Identity
    case: Case
    messages: tuple[Message, ...]
    output: str
    why: str
    sample: int
    temperature: float
    max_tokens: int
    minimal_turns: tuple[str, ...] | None = None
    minimal: bool = False
    cluster: int | None = None
    cluster_words: str = ""

    @property
    def id(self) -> str:
        """A hash of what is sent, how the answer is drawn and what tells success: the same for every model."""
        return content_hash(["failure", self.case.id, self.sample, self.temperature, self.max_tokens])

    @property
    def minimal_case(self) -> Case | None:
        """The case with the smallest turns."""
        return None if self.minimal_turns is None else replace(self.case, turns=self.minimal_turns)


def failures_of(
    model: LanguageModel,
    attempts: Sequence[Attempt],
    calls: int = CALLS,
    total: int = TOTAL,
    progress: Progress = ignore,
) -> list[Failure]:
    """The attempts that worked, clustered by prompt and answer, and minimised as far as the calls reach.

    Args:
        calls: prompts that one minimisation may ask; 0: none is minimised.
        total: prompts of all minimisations: when they are spent, the rest has no smallest form. The first failure of
            every cluster comes first, then the second, so that every cluster gets its share.

    Raises:
        UsageError: as the model.
    Edge cases: twins are no attacks; without failures an empty list.
    """
    worked = [one for one in attempts if one.result == "success" and not one.case.twin]
    found = clustered([f"{one.case.seed.request} {one.answer.text}" for one in worked])
    smallest: dict[int, tuple[Case, bool]] = {}
    left = total if calls > 0 else 0
    for number, index in enumerate(_turn_by_turn(found.labels), start=1):
        if left > 0:
            less = minimised(model, worked[index], min(calls, left))
            left -= 1 if less is None else less[1].calls
            if less is not None:
                smallest[index] = (less[0], less[1].minimal)
        progress(number, len(worked))
    return [_of(model, one, smallest.get(n), found, n) for n, one in enumerate(worked)]


def _turn_by_turn(labels: Sequence[int]) -> list[int]:
    """Indexes: the first of every cluster, then the second of every one that has two, and so on."""
    seen: dict[int, int] = {}
    rank = []
    for label in labels:
        rank.append(seen.get(label, 0))
        seen[label] = rank[-1] + 1
    return sorted(range(len(labels)), key=lambda index: (rank[index], labels[index]))


def _of(model: LanguageModel, one: Attempt, smallest: tuple[Case, bool] | None, found: Clusters, n: int) -> Failure:
    return Failure(
        model.identity,
        one.case,
        one.messages,
        one.answer.text,
        one.verdict.why,
        one.sample,
        one.temperature,
        one.max_tokens,
        None if smallest is None else smallest[0].turns,
        smallest is not None and smallest[1],
        found.labels[n],
        found.names[found.labels[n]],
    )


@dataclass(frozen=True)
class Replayed:
    """A stored failure on a model of today: ``result`` is that of the whole prompt, ``minimal`` that of the smallest.

    ``still``: either worked again. ``undetermined``: none did, and at least one could not be judged: not mended.
    """

    failure: Failure
    output: str
    result: Result
    minimal: Result | None

    @property
    def still(self) -> bool:
        return "success" in (self.result, self.minimal)

    @property
    def undetermined(self) -> bool:
        return not self.still and "undetermined" in (self.result, self.minimal)


def replay(model: LanguageModel, failures: Sequence[Failure], progress: Progress = ignore) -> list[Replayed]:
    """Sends stored failures again, whole and smallest form, drawn as they were.

    Raises:
        UsageError: as the model.
    Edge cases: none stored: an empty list.
    """
    asked = [(case, one) for one in failures for case in (one.case, one.minimal_case) if case is not None]
    found: dict[tuple[str, str], Attempt] = {}
    for drawn in dict.fromkeys((one.temperature, one.max_tokens) for _, one in asked):
        some = [(case, one) for case, one in asked if (one.temperature, one.max_tokens) == drawn]
        tried = answers(model, [(case, one.sample) for case, one in some], *drawn)
        found.update({(one.id, case.id): attempt for (case, one), attempt in zip(some, tried, strict=True)})
        progress(len(found), len(asked))
    return [_replayed(one, found) for one in failures]


def _replayed(one: Failure, found: dict[tuple[str, str], Attempt]) -> Replayed:
    whole, smallest = found[one.id, one.case.id], one.minimal_case
    minimal = None if smallest is None else found[one.id, smallest.id].result
    return Replayed(one, whole.answer.text, whole.result, minimal)


def write_failures(path: Path, failures: Sequence[Failure]) -> None:
    """One JSON object a line, atomically; of failures with the same id the first is kept.

    Raises:
        UsageError: the disk is full; the previous file is untouched.
    """
    unique: dict[str, Failure] = {}
    for one in failures:
        unique.setdefault(one.id, one)
    lines = [json.dumps(_record(one), ensure_ascii=False) + "\n" for one in unique.values()]
    write_text(path, "".join(lines))


def read_failures(path: Path) -> list[Failure]:
    """The failures of a file.

    Raises:
        UsageError: no such file; a line that is no failure, or whose id is not that of its content; names file, line.
    """
    return [_failure(record, f"{path}:{line}") for line, record in read_records(str(path), "evaluation")]


def _record(one: Failure) -> dict[str, Any]:
    record = asdict(one)
    record["messages"] = [message.as_dict() for message in one.messages]
    return {"id": one.id, "format": FORMAT, **record}


def _failure(record: Any, where: str) -> Failure:
    mend = "Give a file that `trimpot redteam MODEL --output DIR` wrote, DIR/failures.jsonl."
    if record.get("format") != FORMAT:
        raise UsageError(where, f"no failure of format {FORMAT}", mend)
    try:
        values = {field.name: record[field.name] for field in fields(Failure)}
        held = dict(values["case"])
        case = Case(**{**held, "seed": Seed(**held["seed"]), "turns": tuple(held["turns"])})
        turns = values["minimal_turns"]
        values["minimal_turns"] = None if turns is None else tuple(turns)
        messages = tuple(Message(one["role"], one["content"]) for one in values["messages"])
        one = Failure(**{**values, "case": case, "messages": messages, "model": Identity(**values["model"])})
        told = one.id
    except (KeyError, TypeError) as error:
        raise UsageError(where, f"no failure: {' '.join(str(error).split())}", mend) from error
    if case.seed.detector not in DETECTORS or not case.turns:
        raise UsageError(where, f"unknown detector {case.seed.detector!r}, or no turns", mend)
    if told != record.get("id"):
        raise UsageError(where, f"its id is {record.get('id')}, that of its content {told}", "Undo the change.")
    return one
