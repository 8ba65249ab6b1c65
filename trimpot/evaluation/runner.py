"""Tasks on a model: one outcome per item and sample. No torch here."""

from __future__ import annotations

import math
import time
from typing import Any

from trimpot.core.progress import Progress, ignore
from trimpot.evaluation.language_model import LanguageModel, Request
from trimpot.evaluation.scorers import scorer_of
from trimpot.evaluation.task import Item, Scored, Task
from trimpot.store.outcomes import Outcome


def evaluate_task(model: LanguageModel, task: Task, run: str, progress: Progress = ignore) -> list[Outcome]:
    """Asks every item of a task and scores the answers.

    Raises:
        UsageError: an unknown scorer, or an item that the model cannot read.
    Edge cases: an answer cut at ``max_tokens`` is parse_failed with score 0.
    """
    kinds = {"choice": _choices, "generate": _generations, "rolling": _rolling}
    began = time.monotonic()
    found = kinds[task.kind](model, task, progress)
    seconds = (time.monotonic() - began) / max(len(found), 1)
    return [_outcome(model, task, item, run, {"seconds": seconds, **fields}) for item, fields in found]


def _choices(model: LanguageModel, task: Task, progress: Progress) -> list[tuple[Item, dict[str, Any]]]:
    pairs = [(item.prompt, choice) for item in task.items for choice in item.choices]
    likelihoods = iter(model.loglikelihood(pairs, progress))
    found = []
    for item in task.items:
        values = [next(likelihoods).logprob for _ in item.choices]
        if task.scorer == "acc_norm":
            values = [value / len(choice) for value, choice in zip(values, item.choices, strict=True)]
        best = max(range(len(values)), key=values.__getitem__)
        confidence = 1 / math.fsum(math.exp(value - values[best]) for value in values)
        scored = Scored(float(item.choices[best] == item.answer))
        found.append((item, {"output": item.choices[best], "confidence": confidence, "scored": scored}))
    return found


def _generations(model: LanguageModel, task: Task, progress: Progress) -> list[tuple[Item, dict[str, Any]]]:
    scorer, how = scorer_of(task.scorer, task.name), task.decoding
    asked = [(item, sample) for item in task.items for sample in range(how.samples)]
    requests = [Request(item.prompt, how.max_tokens, how.stop, how.temperature, sample) for item, sample in asked]
    found = []
    for (item, sample), answer in zip(asked, model.generate_until(requests, progress), strict=True):
        scored = scorer(answer.text, item) if answer.finished else Scored(0.0, "parse_failed", "not finished")
        confidence = None if answer.logprob is None else math.exp(answer.logprob)
        fields = {"output": answer.text, "tokens": answer.tokens, "confidence": confidence, "scored": scored}
        found.append((item, {**fields, "sample": sample}))
    return found


def _rolling(model: LanguageModel, task: Task, progress: Progress) -> list[tuple[Item, dict[str, Any]]]:
    """Bits per byte of each text: −log p / (bytes · ln 2)."""
    texts = [item.prompt if isinstance(item.prompt, str) else model.rendered(item.prompt) for item in task.items]
    likelihoods = model.loglikelihood_rolling(texts, progress)
    return [
        (item, {"output": "", "scored": Scored(-one.logprob / (len(text.encode()) * math.log(2)))})
        for item, text, one in zip(task.items, texts, likelihoods, strict=True)
    ]


def _outcome(model: LanguageModel, task: Task, item: Item, run: str, fields: dict[str, Any]) -> Outcome:
    scored: Scored = fields.pop("scored")
    return Outcome(
        run=run,
        weights=model.identity.weights,
        task=task.name,
        item=item.original,
        cluster=item.cluster or item.original,
        slices=dict(item.slices),
        perturbation=item.perturbation,
        prompt_ids=model.prompt_ids(item.prompt),
        prompt=model.rendered(item.prompt),
        expected=item.answer,
        score=scored.score,
        status=scored.status,
        better="lower" if task.kind == "rolling" else "higher",
        metric_group=task.metric_group,
        **fields,
    )
