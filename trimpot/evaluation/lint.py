"""What is wrong with a task, before a model is asked: cut answers, leaks, duplicates and more. No torch here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from trimpot.core.errors import UsageError
from trimpot.core.progress import Progress, ignore
from trimpot.evaluation.language_model import LanguageModel, Prompt
from trimpot.evaluation.runner import check_task
from trimpot.evaluation.scorers import check_scorer, scorer_of
from trimpot.evaluation.task import Item, Task
from trimpot.evaluation.task_file import FileTask

BEGINNINGS = ("<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>", "[BOS]", "[CLS]")
"""Beginning-of-sequence tokens of well-known tokenizers, as they are written."""
ACCEPTS_ITS_ANSWER = ("exact", "contains")
"""Scorers without a time limit that give an item's own answer 1, if any answer can be right."""
SHORTEST_LEAK = 2
"""Letters of an answer from which its standing in the prompt is looked at."""
OTHERS = 100
"""Answers of other items that are looked for beside it: where one is there too, the prompt offers answers."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with a task. An ``error`` makes its scores meaningless; a ``warning`` is to be looked at.

    ``where`` names file and line of the key, or of the row; without a file the task and the item's place, from 1.
    """

    level: Literal["error", "warning"]
    where: str
    problem: str
    mend: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}. {self.mend}"


@dataclass(frozen=True)
class _Places:
    """How problems name a task, its keys and its items."""

    task: Task
    source: FileTask | None

    def key(self, name: str) -> str:
        return f"task {self.task.name}: {name}" if self.source is None else self.source.place(name)

    def item(self, number: int) -> str:
        return f"task {self.task.name}, item {number + 1}" if self.source is None else self.source.origins[number]


def lint_tasks(
    tasks: Sequence[Task | FileTask], model: LanguageModel | None = None, progress: Progress = ignore
) -> list[Problem]:
    """All problems of all tasks, errors first. With a model its tokenizer is asked too, the model itself never.

    Errors: no or an unknown scorer; an item that cannot be asked; a stop string within a right answer or an example's;
    samples above 1 at temperature 0; an item twice; a slice of which no item has a value; a right answer that its own
    scorer refuses, or that ``max_tokens`` cuts; two beginning-of-sequence tokens, or none where one belongs.
    Warnings: a choice with which another begins; an answer that stands in the prompt.
    """
    found: list[Problem] = []
    for number, one in enumerate(tasks):
        task, source = (one.task, one) if isinstance(one, FileTask) else (one, None)
        found += _lint(_Places(task, source), model)
        progress(number + 1, len(tasks))
    return sorted(found, key=lambda problem: problem.level)


def refuse_errors(problems: Sequence[Problem]) -> None:
    """Raises the first error as one line; how many more there are stands in it.

    Raises:
        UsageError: there is an error among the problems.
    """
    errors = [one for one in problems if one.level == "error"]
    if errors:
        more = f" ({len(errors) - 1} more: trimpot suite lint)" if len(errors) > 1 else ""
        raise UsageError(errors[0].where, errors[0].problem, errors[0].mend + more)


def _lint(places: _Places, model: LanguageModel | None) -> Iterator[Problem]:
    task = places.task
    try:
        check_scorer(task)
    except UsageError as error:
        yield Problem("error", places.key("scorer"), error.problem, error.mend)
        return
    try:
        check_task(task)
    except UsageError as error:
        yield Problem("error", error.where, error.problem, error.mend)
        return
    yield from _decoding(places)
    yield from _duplicates(places)
    yield from _slices(places)
    yield from _beginnings(places, model)
    yield from _choices(places)
    yield from _refused(places)
    yield from _cut(places, model)
    yield from _leaks(places)


def _decoding(places: _Places) -> Iterator[Problem]:
    task, how = places.task, places.task.decoding
    if task.kind != "generate":
        return
    if how.samples > 1 and how.temperature == 0:
        problem = f"{how.samples} samples at temperature 0 are one answer counted {how.samples} times"
        yield Problem("error", places.key("samples"), problem, "Raise temperature, or ask once.")
    examples = () if places.source is None else places.source.few_shot_answers
    for stop in how.stop:
        if not stop:
            yield Problem("error", places.key("stop"), "holds an empty text", "Take it out.")
            continue
        cut = [number for number, item in enumerate(task.items) if stop in item.answer.strip()]
        if cut:
            where = f"{places.item(cut[0])}, whose answer is {task.items[cut[0]].answer!r}"
            problem = f"{stop!r} cuts the right answers of {len(cut)} of {len(task.items)} items, such as {where}"
            yield Problem("error", places.key("stop"), problem, "Stop at what no answer holds.")
        elif any(stop in answer.strip() for answer in examples):
            problem = f"{stop!r} stands in the answers of the examples, which the model will imitate"
            yield Problem("error", places.key("stop"), problem, "Stop at what no answer holds.")


def _duplicates(places: _Places) -> Iterator[Problem]:
    seen: dict[tuple[str, str], int] = {}
    for number, item in enumerate(places.task.items):
        first = seen.setdefault((item.id, item.perturbation), number)
        if first != number:
            yield Problem("error", places.item(number), f"is the item of {places.item(first)}", "Keep one of the two.")


def _slices(places: _Places) -> Iterator[Problem]:
    for name in () if places.source is None else places.source.slices:
        if not any(name in item.slices for item in places.task.items):
            yield Problem(
                "error", places.key("slices"), f"no row has a value of {name!r}", "Name a field that rows have."
            )


def _beginnings(places: _Places, model: LanguageModel | None) -> Iterator[Problem]:
    for number, item in enumerate(places.task.items):
        text = item.prompt if isinstance(item.prompt, str) else item.prompt[0].content
        # A text may bring its own token, as lm-eval has it; a template writes one by itself.
        twice = next((one for one in BEGINNINGS if text.startswith(one + one)), None)
        own = next((one for one in BEGINNINGS if text.startswith(one)), None)
        if twice is not None or (own is not None and not isinstance(item.prompt, str)):
            problem = f"begins with {twice or own}, " + ("and again with it" if twice else "which the template writes")
            yield Problem("error", places.item(number), problem, "Take it out of the prompt.")
            return
        if model is None:
            continue
        try:
            model.prompt_ids(item.prompt)
        except UsageError as error:
            yield Problem("error", f"{places.item(number)}: {error.where}", error.problem, error.mend)
            return


def _choices(places: _Places) -> Iterator[Problem]:
    if places.task.kind != "choice" or places.task.scorer != "acc":
        return
    for number, item in enumerate(places.task.items):
        pair = next(
            ((a, b) for a in item.choices for b in item.choices if a != b and b.startswith(a)),
            None,
        )
        same = [choice for choice, count in Counter(item.choices).items() if count > 1]
        if same:
            yield Problem("error", places.item(number), f"has the choice {same[0]!r} twice", "Keep one of the two.")
            return
        if pair is not None:
            problem = f"the choice {pair[1]!r} begins with the choice {pair[0]!r}, and so can never be likelier"
            yield Problem("warning", places.item(number), problem, "Reword one, or score by acc_norm.")
            return


def _refused(places: _Places) -> Iterator[Problem]:
    task = places.task
    if task.kind != "generate" or task.scorer not in ACCEPTS_ITS_ANSWER:
        return
    scorer = scorer_of(task.scorer, task.name)
    for number, item in enumerate(task.items):
        if not item.answer.strip():
            problem = f"has no answer, which {task.scorer} compares with"
            yield Problem("error", places.item(number), problem, "Give one, or drop the item.")
            return
        if scorer(item.answer, item).score != 1.0:
            problem = f"{task.scorer} does not accept the item's own answer {item.answer!r}"
            yield Problem("error", places.item(number), problem, "Use another scorer, or mend the answer.")
            return


def _cut(places: _Places, model: LanguageModel | None) -> Iterator[Problem]:
    task, tokens_of = places.task, getattr(model, "tokens_of", None)
    if tokens_of is None or task.kind != "generate" or task.scorer not in ACCEPTS_ITS_ANSWER:
        return
    for number, item in enumerate(task.items):
        tokens = tokens_of(item.prompt, item.answer) - tokens_of(item.prompt)
        # One more ends the answer.
        if tokens + 1 > task.decoding.max_tokens:
            limit = task.decoding.max_tokens
            problem = f"{limit} tokens cut the right answer of {places.item(number)}, which has {tokens}"
            yield Problem("error", places.key("max_tokens"), problem, f"Give at least {tokens + 1}.")
            return


def _leaks(places: _Places) -> Iterator[Problem]:
    """A right answer in the last thing that is asked, where the prompt does not offer others beside it."""
    task = places.task
    if task.kind == "rolling":
        return
    answers = {item.answer.strip() for item in task.items if item.answer.strip()}
    leaks = [number for number, item in enumerate(task.items) if _leaks_in(item, answers)]
    if leaks:
        first = task.items[leaks[0]].answer.strip()
        where = f"{places.item(leaks[0])} ({first!r})"
        problem = f"the right answer stands in the prompt of {len(leaks)} of {len(task.items)} items, first {where}"
        yield Problem("warning", places.key("prompt"), problem, "See that it is not given away there.")


def _leaks_in(item: Item, answers: set[str]) -> bool:
    answer = item.answer.strip()
    if len(answer) < SHORTEST_LEAK or not _stands(answer, item.prompt):
        return False
    others = {choice.strip() for choice in item.choices} or answers
    looked_at = sorted(others - {answer})[:OTHERS]
    return not any(_stands(other, item.prompt) for other in looked_at)


def _stands(answer: str, prompt: Prompt) -> bool:
    """Whether a text stands in what is asked as a whole word, letter case ignored."""
    text = (prompt if isinstance(prompt, str) else prompt[-1].content).casefold()
    wanted = answer.casefold()
    place = text.find(wanted)
    while place >= 0:
        around = text[max(place - 1, 0) : place] + text[place + len(wanted) : place + len(wanted) + 1]
        if not any(letter.isalnum() for letter in around):
            return True
        place = text.find(wanted, place + 1)
    return False


def by_level(problems: Sequence[Problem]) -> Mapping[str, int]:
    """How many errors and warnings there are."""
    counts = Counter(one.level for one in problems)
    return {"errors": counts["error"], "warnings": counts["warning"]}
