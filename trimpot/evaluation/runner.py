"""Tasks on a model: one outcome per item and sample. No torch here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from trimpot.core.errors import UsageError
from trimpot.core.progress import Progress, ignore
from trimpot.evaluation.language_model import Generation, LanguageModel, Likelihood, Prompt, Request
from trimpot.evaluation.progress import part_of
from trimpot.evaluation.scorers import check_scorer, scoring
from trimpot.evaluation.task import Item, Kind, Scored, Scorer, Task
from trimpot.store.outcomes import Outcome

TooLong = Literal["refuse", "error"]
"""What becomes of an item that the model cannot read: the whole evaluation is refused, or the item is an error."""
TOO_LONG: tuple[TooLong, ...] = ("refuse", "error")
LENGTHS: dict[str, Callable[[str], int]] = {
    "acc": lambda choice: 1,
    # lm-eval counts a choice without the space that parts it from the prompt.
    "acc_norm": lambda choice: max(len(choice.removeprefix(" ")), 1),
    "acc_bytes": lambda choice: max(len(choice.removeprefix(" ").encode()), 1),
}
"""What a choice's log-likelihood is divided by."""


def evaluate_tasks(
    model: LanguageModel,
    tasks: Sequence[Task],
    run: str,
    progress: Progress = ignore,
    too_long: TooLong = "refuse",
    heard: Callable[[str], None] = lambda note: None,
) -> list[Outcome]:
    """Asks all items of all tasks and scores the answers: the outcomes in the order of tasks, items and samples.

    Scorers and lengths of all tasks are checked before the model is asked anything. ``progress`` hears of requests (a
    choice item has as many as choices), over all tasks.

    Args:
        run: the name that the outcomes bear.
        too_long: "refuse" raises; "error" gives such an item one outcome per sample, of status error.
        heard: is told of every answer that has no score why, in one line.

    Raises:
        UsageError: an unknown scorer, two tasks of one name, or an item that the model cannot read: one line.
    """
    names = [task.name for task in tasks]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"task {name}", "is there twice", "Give every task a name of its own.")
    for task in tasks:
        check_task(task)
    unreadable = [unreadable_items(model, task) for task in tasks]
    for task, found in zip(tasks, unreadable, strict=True):
        if too_long == "refuse":
            _refuse(task, found)
        for number, why in found.items():
            heard(f"{task.name}, item {task.items[number].id}: {why}")
    readable = [
        replace(task, items=tuple(item for number, item in enumerate(task.items) if number not in found))
        for task, found in zip(tasks, unreadable, strict=True)
    ]
    with scoring([task for task in tasks if task.kind == "generate"]) as scorers:
        answered = _answered(model, readable, scorers, progress)
    outcomes: list[Outcome] = []
    for task, found, some in zip(tasks, unreadable, answered, strict=True):
        for item, fields in some:
            if fields["scored"].score is None and fields["scored"].note:
                heard(f"{task.name}, item {item.id}: {fields['scored'].note}")
        outcomes += _in_order(
            model, task, run, [_outcome(model, task, item, run, fields) for item, fields in some], found
        )
    return outcomes


def evaluate_task(model: LanguageModel, task: Task, run: str, progress: Progress = ignore) -> list[Outcome]:
    """Asks every item of a task and scores the answers; see evaluate_tasks.

    Raises:
        UsageError: an unknown scorer, or an item that the model cannot read.
    Edge cases: an answer cut at ``max_tokens`` is parse_failed with score 0, unless the task scores unfinished ones. A
        choice item without an answer is unscored; a log-likelihood that is not finite is an error.
    """
    return evaluate_tasks(model, [task], run, progress)


def requests_of(task: Task) -> int:
    """What a model is asked for a task: log-likelihoods of choices, completions, or texts."""
    if task.kind == "choice":
        return sum(len(item.choices) for item in task.items)
    return len(task.items) * (task.decoding.samples if task.kind == "generate" else 1)


def check_task(task: Task) -> None:
    """Refuses what cannot be asked or scored: an unknown scorer, no items, a choice item without choices, no text.

    Raises:
        UsageError: one line that names the task, and the item by its place, from 1.
    """
    check_scorer(task)
    if not task.items:
        raise UsageError(f"task {task.name}", "has no items", "Give at least one.")
    for number, item in enumerate(task.items, start=1):
        where = f"task {task.name}, item {number}"
        if task.kind == "choice" and (not item.choices or not all(item.choices)):
            raise UsageError(where, "has no choices" if not item.choices else "has an empty choice", "Give texts.")
        if task.kind == "choice" and item.answer and item.answer not in item.choices:
            problem = f"has the answer {item.answer!r}, which is none of its choices"
            raise UsageError(where, problem, "Give one of the choices, with the space that opens it.")
        if task.kind == "rolling" and not item.prompt:
            raise UsageError(where, "is an empty text", "Leave it out.")


def unreadable_items(model: LanguageModel, task: Task) -> dict[int, str]:
    """Place of every item that the model cannot read whole -> why; a rolling item is read in windows.

    Edge cases: a model that does not say how much it reads (it has no ``max_length`` and ``tokens_of``): none.
    """
    limit, tokens_of = getattr(model, "max_length", None), getattr(model, "tokens_of", None)
    if limit is None or tokens_of is None or task.kind == "rolling":
        return {}
    found = {}
    for number, item in enumerate(task.items):
        if task.kind == "choice":
            # The last token of a choice is predicted, not read.
            longest = max(tokens_of(item.prompt, choice) for choice in item.choices) - 1
            words = f"{longest} tokens with its longest choice"
        else:
            longest = tokens_of(item.prompt) + task.decoding.max_tokens
            words = f"{longest - task.decoding.max_tokens} tokens, and {task.decoding.max_tokens} to generate,"
        if longest > limit:
            found[number] = f"has {words} where the model reads {limit}"
    return found


def _refuse(task: Task, found: dict[int, str]) -> None:
    if found:
        number, problem = next(iter(found.items()))
        more = f"; {len(found) - 1} more are too long" if len(found) > 1 else ""
        mend = "Shorten it, lower max_tokens or few_shot, or count it as an error: --too-long error."
        raise UsageError(f"task {task.name}, item {number + 1} ({task.items[number].id})", problem + more, mend)


def _in_order(
    model: LanguageModel, task: Task, run: str, answered: Sequence[Outcome], unreadable: dict[int, str]
) -> list[Outcome]:
    """The outcomes of a task's items in their order, those of unreadable ones in their places."""
    samples, rest, outcomes = task.decoding.samples if task.kind == "generate" else 1, iter(answered), []
    for number, item in enumerate(task.items):
        if number in unreadable:
            failed = {"output": "", "scored": Scored(None, "error", unreadable[number])}
            outcomes += [_outcome(model, task, item, run, {**failed, "sample": n}) for n in range(samples)]
        else:
            outcomes += [next(rest) for _ in range(samples)]
    return outcomes


Found = list[tuple[Item, dict[str, Any]]]


def _answered(
    model: LanguageModel, tasks: Sequence[Task], scorers: Mapping[str, Scorer], progress: Progress
) -> list[Found]:
    """What came of every item of every task. Tasks that are asked alike are asked in one call, which fills batches."""
    together: dict[tuple[Any, ...], list[int]] = {}
    for number, task in enumerate(tasks):
        how = task.decoding if task.kind == "generate" else None
        way = (task.kind,) if how is None else (task.kind, how.max_tokens, how.stop, how.temperature)
        together.setdefault(way, []).append(number)
    total, done = sum(map(requests_of, tasks)), 0
    found: dict[int, Found] = {}
    for numbers in together.values():
        some = [tasks[number] for number in numbers]
        parts = _asked(model, some, part_of(progress, done, total), scorers)
        found.update(zip(numbers, parts, strict=True))
        done += sum(map(requests_of, some))
        progress(done, total)
    return [found[number] for number in range(len(tasks))]


def _asked(
    model: LanguageModel, tasks: Sequence[Task], progress: Progress, scorers: Mapping[str, Scorer]
) -> list[Found]:
    """The answers to tasks of one kind and decoding, by one call, with each one's share of its seconds.

    Cached answers count with what they took when they were asked. Shares are by tokens, read and generated.
    """
    kinds: dict[Kind, tuple[Callable[..., list[Any]], Callable[..., list[Any]], Callable[..., Found]]] = {
        "choice": (model.loglikelihood, _pairs, _choices),
        "generate": (model.generate_until, _requests, _generations),
        "rolling": (model.loglikelihood_rolling, _texts, _rolling),
    }
    ask, requests, read = kinds[tasks[0].kind]
    asked = [requests(model, task) for task in tasks]
    began = _seconds(model)
    answers = ask([one for some in asked for one in some], progress)
    seconds = _seconds(model) - began
    rest, found = iter(answers), []
    for task, some in zip(tasks, asked, strict=True):
        found.append(read(task, some, [next(rest) for _ in some], scorers.get(task.name)))
    tokens = [[fields.pop("work") + len(model.prompt_ids(item.prompt)) for item, fields in some] for some in found]
    all_tokens = max(sum(map(sum, tokens)), 1)
    for some, shares in zip(found, tokens, strict=True):
        for (_, fields), share in zip(some, shares, strict=True):
            fields["seconds"] = seconds * share / all_tokens
    return found


def _seconds(model: LanguageModel) -> float:
    spent = getattr(model, "spent_seconds", None)
    return time.monotonic() if spent is None else float(spent)


def _pairs(_model: LanguageModel, task: Task) -> list[tuple[Prompt, str]]:
    return [(item.prompt, choice) for item in task.items for choice in item.choices]


def _requests(_model: LanguageModel, task: Task) -> list[Request]:
    how = task.decoding
    return [
        Request(item.prompt, how.max_tokens, how.stop, how.temperature, sample)
        for item in task.items
        for sample in range(how.samples)
    ]


def _texts(model: LanguageModel, task: Task) -> list[str]:
    return [item.prompt if isinstance(item.prompt, str) else model.rendered(item.prompt) for item in task.items]


def _choices(task: Task, _asked: object, answers: Sequence[Likelihood], _scorer: object) -> Found:
    rest, found = iter(answers), []
    for item in task.items:
        own = [next(rest) for _ in item.choices]
        values = [one.logprob / LENGTHS[task.scorer](choice) for one, choice in zip(own, item.choices, strict=True)]
        found.append((item, {"work": sum(one.tokens for one in own), **_chosen(item, values)}))
    return found


def _chosen(item: Item, values: Sequence[float]) -> dict[str, Any]:
    if not all(map(math.isfinite, values)):
        return {"output": "", "scored": Scored(None, "error", "a log-likelihood is not finite")}
    best = max(range(len(values)), key=values.__getitem__)
    confidence = 1 / math.fsum(math.exp(value - values[best]) for value in values)
    right = float(item.choices[best] == item.answer)
    scored = Scored(right) if item.answer else Scored(None, "unscored", "no choice is said to be right")
    return {"output": item.choices[best], "confidence": confidence, "scored": scored}


def _generations(task: Task, _asked: object, answers: Sequence[Generation], scorer: Scorer) -> Found:
    how, found = task.decoding, []
    asked = [(item, sample) for item in task.items for sample in range(how.samples)]
    for (item, sample), answer in zip(asked, answers, strict=True):
        fields = {
            "output": answer.text,
            "tokens": answer.tokens,
            "scored": _score(scorer, answer, item, how.score_unfinished),
            "sample": sample,
            "work": answer.tokens,
        }
        found.append((item, fields))
    return found


def _score(scorer: Scorer, answer: Generation, item: Item, score_unfinished: bool) -> Scored:
    if answer.finished or score_unfinished:
        return scorer(answer.text, item)
    return Scored(0.0, "parse_failed", "not finished")


def _rolling(task: Task, texts: Sequence[str], answers: Sequence[Likelihood], _scorer: object) -> Found:
    """Bits per byte of each text: −log p / (bytes · ln 2)."""
    return [
        (item, {"output": "", "scored": _bits(one.logprob, text), "work": one.tokens})
        for item, text, one in zip(task.items, texts, answers, strict=True)
    ]


def _bits(logprob: float, text: str) -> Scored:
    if not math.isfinite(logprob):
        return Scored(None, "error", "the log-likelihood is not finite")
    return Scored(-logprob / (len(text.encode()) * math.log(2)))


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
