"""Perturbed forms of a task's items, with what could not be perturbed counted. No torch here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from trimpot.core.errors import UsageError
from trimpot.core.seeds import stream
from trimpot.evaluation.language_model import Prompt
from trimpot.evaluation.perturbations.spans import asked, pieces
from trimpot.evaluation.perturbations.table import PERTURBATIONS, expand
from trimpot.evaluation.task import Item, Task
from trimpot.store.outcomes import UNPERTURBED

Result = Literal["perturbed", "unchanged", "answer would change"]
RESULTS: tuple[Result, ...] = ("perturbed", "unchanged", "answer would change")
_ABOUT_FORM = re.compile(
    r"\b(letters?|spell(?:ed|ing|s)?|misspell\w*|characters?|vowels?|consonants?|syllables?|rhymes?|alphabetical\w*|"
    r"backwards?|palindromes?|anagrams?|upper-?case|lower-?case|capitali[sz]\w*|punctuation|typos?|"
    r"how many words|number of words|pronouns?|grammatical\w*)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class PerturbedTask:
    """The task with its items and their perturbed forms, and for every perturbation how many items it did what to.

    ``counts``: perturbation -> perturbed, unchanged (it found no place; the item's own outcome stands for the form) and
    answer would change (no form: the answer might not be right any more).
    """

    task: Task
    counts: Mapping[str, Mapping[Result, int]]


def perturbed(task: Task, names: Iterable[str], seed: int, strength: float | None = None) -> Task:
    """The task with a perturbed form of every item for each perturbation; see ``perturbed_with_counts``."""
    return perturbed_with_counts(task, names, seed, strength).task


def perturbed_with_counts(task: Task, names: Iterable[str], seed: int, strength: float | None = None) -> PerturbedTask:
    """Adds perturbed forms of a task's items behind them; the same seed gives the same text.

    A form is a changed prompt under the item's own answer, choices, cluster and slices. Only the user's own words
    change (see ``asked`` and ``pieces``). No form is made where nothing changes, nor where the answer might: a text
    that is itself scored (rolling), a question about letters, spelling or word counts, and an answer or choice with a
    word to which the perturbation gives another meaning (``he`` where pronouns change).

    Args:
        names: of perturbations, or ``robustness`` and ``fairness`` for HELM's canonical ones.
        strength: the probability that a place changes, in [0, 1]; by default each perturbation's own (HELM's).

    Raises:
        UsageError: an unknown name, or a strength outside [0, 1].
    Edge cases: strength 0 makes no form. Forms that the task already has stay and get none.
    Source: HELM, arXiv 2211.09110 section 4.5 and appendix E; what is protected is ours (HELM protects nothing).
    """
    if strength is not None and not 0.0 <= strength <= 1.0:
        raise UsageError(f"task {task.name}", f"strength {strength} of perturbations", "Give a number from 0 to 1.")
    forms: list[Item] = []
    counts: dict[str, dict[Result, int]] = {}
    for name in expand(names):
        results: Counter[Result] = Counter()
        for item in task.items:
            if item.perturbation == UNPERTURBED:
                prompt, result = perturbed_prompt(task, item, name, seed, strength)
                results[result] += 1
                if prompt is not None:
                    forms.append(replace(item, prompt=prompt, perturbation=name, parent=item.original))
        counts[name] = {result: results[result] for result in RESULTS}
    return PerturbedTask(replace(task, items=(*task.items, *forms)), counts)


def perturbed_prompt(
    task: Task, item: Item, name: str, seed: int, strength: float | None = None
) -> tuple[Prompt | None, Result]:
    """An item's prompt under one perturbation, or None and why there is none."""
    chosen, found = PERTURBATIONS[name], asked(item.prompt)
    if task.kind == "rolling":
        return None, "answer would change"
    if found is None:
        return None, "unchanged"
    before, text = found
    answers = [item.answer, *item.choices]
    if _ABOUT_FORM.search(text) or any(_holds(answer, chosen.meant()) for answer in answers):
        return None, "answer would change"
    new = perturb(text, name, stream(seed, "perturbation", name, item.original), strength, answers)
    if new == text:
        return None, "unchanged"
    if isinstance(item.prompt, str):
        return before + new, "perturbed"
    last = max(place for place, message in enumerate(item.prompt) if message.role == "user")
    turns = list(item.prompt)
    turns[last] = replace(turns[last], content=new)
    return tuple(turns), "perturbed"


def perturb(text: str, name: str, random: Random, strength: float | None = None, keep: Iterable[str] = ()) -> str:
    """A text under one perturbation; numbers, code, quotes, labels and the texts in ``keep`` stay.

    Example: "She is 9, and Greg is here" under contraction: "She's 9, and Greg's here".
    """
    parts, chosen = pieces(text, keep), PERTURBATIONS[name]
    return parts.joined(chosen.change(parts.free, random, chosen.strength if strength is None else strength))


def _holds(answer: str, meant: frozenset[str]) -> bool:
    return any(word in meant for word in re.findall(r"[^\W\d_]+", answer.lower()))
