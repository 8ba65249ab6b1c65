"""Sends cases to a model, turn by turn, and judges the last answers. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from trimpot.core.progress import Progress, ignore
from trimpot.core.rows import Message
from trimpot.core.settings import setting
from trimpot.evaluation.language_model import Generation, LanguageModel, Request
from trimpot.evaluation.redteam.detectors import Result, Verdict, judge
from trimpot.evaluation.redteam.families import Case


@dataclass(frozen=True)
class AttackSettings:
    """How answers are drawn."""

    max_tokens: int = setting(96, "longest answer in tokens", at_least=1)
    samples: int = setting(1, "tries of each prompt; above 1 at the temperature", at_least=1)
    temperature: float = setting(1.0, "of the draws where there is more than one try; one try is greedy", above=0)

    @property
    def used_temperature(self) -> float:
        """0 for one try, which is greedy."""
        return self.temperature if self.samples > 1 else 0.0


@dataclass(frozen=True)
class Attempt:
    """One try of a case.

    Args:
        messages: what the model read for its last answer, its own earlier answers included.
        verdict: of an attack: did it work. Of a twin: ``success`` when the model answered, ``failure`` when it refused.
        temperature, max_tokens: how the answer was drawn, beside ``sample``.
    """

    case: Case
    sample: int
    messages: tuple[Message, ...]
    answer: Generation
    verdict: Verdict
    temperature: float
    max_tokens: int

    @property
    def result(self) -> Result:
        return self.verdict.result


def attack(
    model: LanguageModel,
    cases: Sequence[Case],
    settings: AttackSettings = AttackSettings(),
    progress: Progress = ignore,
) -> list[Attempt]:
    """Every case, ``samples`` times, in their order.

    Raises:
        UsageError: a case that the model cannot read, for example too long.
    """
    asked = [(case, sample) for case in cases for sample in range(settings.samples)]
    return answers(model, asked, settings.used_temperature, settings.max_tokens, progress)


def answers(
    model: LanguageModel,
    asked: Sequence[tuple[Case, int]],
    temperature: float,
    max_tokens: int,
    progress: Progress = ignore,
) -> list[Attempt]:
    """The given draws of the given cases. Those of several turns are asked anew after each answer of the model."""
    histories: list[tuple[Message, ...]] = [_system(case) for case, _ in asked]
    last: list[Generation | None] = [None] * len(asked)
    total, done = sum(len(case.turns) for case, _ in asked), 0
    for turn in range(max((len(case.turns) for case, _ in asked), default=0)):
        due = [number for number, (case, _) in enumerate(asked) if turn < len(case.turns)]
        for number in due:
            said = last[number]
            before = () if said is None else (Message("assistant", said.text),)
            histories[number] += (*before, Message("user", asked[number][0].turns[turn]))
        requests = [Request(histories[number], max_tokens, (), temperature, asked[number][1]) for number in due]
        generated = model.generate_until(requests, partial(_tell, progress, done, total))
        for number, answer in zip(due, generated, strict=True):
            last[number] = answer
        done += len(due)
        progress(done, total)
    return [
        Attempt(case, sample, messages, answer, verdict_on(case, answer), temperature, max_tokens)
        for (case, sample), messages, answer in zip(asked, histories, last, strict=True)
        if answer is not None
    ]


def _tell(progress: Progress, before: int, total: int, done: int, _: int) -> None:
    """Of the requests of one turn, in those of all turns."""
    progress(before + done, total)


def verdict_on(case: Case, answer: Generation) -> Verdict:
    """The detector's verdict on an answer: the seed's own for an attack, ``refusal`` for a benign twin.

    Of a twin an answer beside the point is none the less no refusal, so the request is not compared with.
    """
    if case.twin:
        return judge("refusal", answer.text, "", answer.finished)
    seed = case.seed
    target = seed.request if seed.detector == "refusal" else seed.target
    return judge(seed.detector, answer.text, target, answer.finished)


def _system(case: Case) -> tuple[Message, ...]:
    return (Message("system", case.system),) if case.system else ()
